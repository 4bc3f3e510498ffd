//! Who may import whom, and what only certain files may name: the invariants of `ARCHITECTURE.md` that a
//! compiler does not hold.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kv_tests::{cargo, files};

/// A crate, the crates of this workspace that it may lead to, and others that it must not.
const LAYERS: [(&str, &[&str], &[&str]); 9] = [
    ("kv-vfs", &[], &["openraft", "tarpc", "tokio"]),
    ("kv-vlog", &["kv-vfs"], &["openraft", "tarpc", "tokio"]),
    ("kv-manifest", &["kv-vfs"], &["openraft", "tarpc", "tokio"]),
    ("kv-lsm", &["kv-vfs", "kv-vlog", "kv-manifest"], &["openraft", "tarpc", "tokio"]),
    ("kv-api", &[], &["openraft"]),
    ("kv-client", &["kv-api"], &["openraft"]),
    ("kvadmin", &["kv-api", "kv-client", "kv-lsm", "kv-vlog", "kv-manifest", "kv-vfs"], &["openraft"]),
    ("kv-proof", &["kv-lsm", "kv-vlog", "kv-manifest", "kv-vfs"], &["openraft", "tarpc", "tokio"]),
    ("kvnode", &["kv-api", "kv-lsm", "kv-vlog", "kv-manifest", "kv-vfs"], &[]),
];

/// Where consensus may be named: the facade; where it is a log target; this file.
const OPENRAFT: [&str; 3] = ["node/src/raft/", "node/src/main.rs", "tests/tests/layers.rs"];

/// Where files are reached without kv-vfs: in no data directory, in kv-vfs, in tests.
const STD_FS: [&str; 11] = [
    "vlog/vfs/src/real.rs",
    "lsm/tests/",
    "node/src/config/file.rs",
    "node/src/config/reference.rs",
    "node/src/datadir/tests.rs",
    "node/tests/",
    "cli/src/local.rs",
    "cli/tests/",
    "tests/bench-peers/src/nodes.rs",
    "tests/src/files.rs",
    "lsm/examples/",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Everything that a crate leads to, itself excluded.
fn dependencies(package: &str) -> BTreeSet<String> {
    let tree = ["tree", "--locked", "--edges=normal", "--prefix=none", "--format={p}", "--package", package];
    let output = cargo().args(tree).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().filter_map(|line| line.split(' ').next());
    names.filter(|name| *name != package).map(str::to_owned).collect()
}

fn members() -> Vec<(String, PathBuf)> {
    let output = cargo().args(["metadata", "--locked", "--no-deps", "--format-version=1"]).output().unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let field =
        |package: &serde_json::Value, name: &str| package.get(name).unwrap().as_str().unwrap().to_owned();
    let packages = metadata.get("packages").unwrap().as_array().unwrap().iter();
    packages.map(|package| (field(package, "name"), field(package, "manifest_path").into())).collect()
}

/// Broken by: a dependency in a Cargo.toml that turns a layer upside down, or makes someone who only wants the
/// client compile the engine.
#[test]
fn crates_import_downwards_only() {
    let members: Vec<String> = members().into_iter().map(|(name, _)| name).collect();
    let known = LAYERS.iter().map(|(name, ..)| *name).chain(["kv-tests"]);
    assert_eq!(known.collect::<BTreeSet<_>>(), members.iter().map(String::as_str).collect());
    for (package, allowed, forbidden) in LAYERS {
        let found = dependencies(package);
        for member in members.iter().filter(|member| found.contains(*member)) {
            assert!(allowed.contains(&member.as_str()), "{package} must not lead to {member}");
        }
        for other in forbidden {
            assert!(!found.contains(*other), "{package} must not lead to {other}");
        }
    }
}

/// Lines that say something in code, with their places: comments are cut off.
fn lines_with(word: &str) -> Vec<(String, usize)> {
    let root = root();
    let mut found = Vec::new();
    for path in files::sources(&root) {
        let text = String::from_utf8(files::read(&path)).unwrap();
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let code = text.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code));
        let lines = code.enumerate().filter(|(_, code)| code.contains(word));
        found.extend(lines.map(|(number, _)| (name.clone(), number + 1)));
    }
    found
}

#[track_caller]
fn only_in(word: &str, places: &[&str]) {
    let found = lines_with(word);
    for (file, line) in &found {
        assert!(places.iter().any(|place| file.starts_with(place)), "{file}:{line} names {word}");
    }
    for place in places {
        let used = found.iter().any(|(file, _)| file.starts_with(place));
        assert!(used, "{place} does not name {word} any more: take it off the list");
    }
}

/// Broken by: consensus leaking out of its facade.
#[test]
fn only_the_facade_names_openraft() {
    only_in(concat!("open", "raft"), &OPENRAFT);
}

/// Broken by: a file reached behind the back of kv-vfs, where no fault is injected and no crash simulated.
#[test]
fn only_named_exceptions_reach_files_without_kv_vfs() {
    only_in(concat!("std", "::fs"), &STD_FS);
}

/// Broken by: a crate without the lints that all the others keep.
#[test]
fn every_crate_inherits_the_lints_of_the_workspace() {
    for (name, manifest) in members() {
        let text = String::from_utf8(files::read(&manifest)).unwrap();
        assert!(text.contains("[lints]\nworkspace = true\n"), "{name} has lints of its own");
    }
}
