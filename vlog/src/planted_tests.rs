//! The tests of files that are written again find bugs on purpose. Each runs in a process of its own.

use std::process::{Command, Stdio};

/// The bugs, and the tests that find them.
const BUGS: [(&str, &str); 7] = [
    ("groups of an earlier use believed", "recycle_tests::"),
    ("generation not advanced", "recycle_tests::"),
    ("recycled while it is read", "recycle_tests::"),
    ("recycled while linked", "recycle_tests::"),
    ("segment header not synced", "crash_tests::nothing"),
    ("name of a segment not synced", "crash_tests::nothing"),
    ("recovered end of the log read from the page cache", "settle_tests::"),
];

/// Whether the tests pass with this bug.
fn passes(bug: &str, tests: &str) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(tests).env("KV_PLANTED_BUG", bug).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap().success()
}

#[test]
fn each_is_found() {
    if std::env::var_os("KV_PLANTED_BUG").is_some() {
        return;
    }
    for (bug, tests) in BUGS {
        assert!(passes("", tests), "{tests} fails without a bug");
        assert!(!passes(bug, tests), "{bug}: not found");
    }
}
