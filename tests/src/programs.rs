//! Builds the programs before they are run, so that no stale one is tested.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The programs, just built.
#[derive(Debug)]
pub struct Programs {
    /// The daemon.
    pub kvnode: PathBuf,
    /// The operator's tool.
    pub kvadmin: PathBuf,
}

/// Builds both programs, once per test binary.
#[must_use]
pub fn programs() -> &'static Programs {
    static BUILT: OnceLock<Programs> = OnceLock::new();
    BUILT.get_or_init(|| {
        let messages = build(&["--package=kvnode", "--package=kvadmin"]);
        Programs { kvnode: executable(&messages, "kvnode"), kvadmin: executable(&messages, "kvadmin") }
    })
}

/// Builds an example of this crate.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    executable(&build(&["--package=kv-tests", "--example", name]), name)
}

/// Cargo, in the workspace.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command
}

/// Builds in the profile and the target directory of this test binary; returns cargo's messages.
fn build(what: &[&str]) -> String {
    // <target>/<profile>/deps/<this binary>
    let own = std::env::current_exe().unwrap();
    let profile_dir = own.ancestors().nth(2).unwrap();
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()).unwrap() {
        "debug" => "dev",
        other => other,
    };
    let output = cargo()
        .args(["build", "--locked", "--message-format=json", "--profile", profile])
        .args(what)
        .arg("--target-dir")
        .arg(profile_dir.parent().unwrap())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "cannot build: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Where cargo says that it put a program.
fn executable(messages: &str, name: &str) -> PathBuf {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message.pointer("/target/name").is_some_and(|target| target == name))
        .find_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .unwrap_or_else(|| panic!("cargo built no {name}"))
}
