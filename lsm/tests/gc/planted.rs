//! The tests of this folder find bugs on purpose. Each runs in a process of its own.

use std::process::{Command, Stdio};

/// The bugs, and the tests that find them.
const BUGS: [(&str, &str); 9] = [
    ("moved values not synced", "crash::"),
    ("name of a file of moved values not synced", "crash::"),
    ("collection not checked again", "readers::"),
    ("collected files removed too early", "crash::"),
    ("collected files removed under their readers", "readers::"),
    ("recycled while linked", "recycle::"),
    ("file cut that has another name", "sweep::"),
    ("file cut before its name is durable", "sweep::"),
    ("a moved value left out of the remap", "collect::"),
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
