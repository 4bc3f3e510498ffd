//! What README.md shows of the client is a program that is compiled, and that works.

use std::path::Path;
use std::process::Command;

use kv_tests::{Ended, Node, example, files};

const BEGIN: &str = "<!-- client example -->\n```rust\n";
const END: &str = "```\n<!-- end of client example -->";

/// Broken by: a change to the client that README does not follow.
#[test]
fn the_client_example_is_the_one_that_is_compiled() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |path: &Path| String::from_utf8(files::read(path)).unwrap();
    let readme = text(&here.join("../README.md"));
    let shown = readme.split_once(BEGIN).and_then(|(_, rest)| Some(rest.split_once(END)?.0));
    let example = text(&here.join("examples/client.rs"));
    let body = example.lines().skip_while(|line| line.starts_with("//!") || line.is_empty());
    let body: String = body.flat_map(|line| [line, "\n"]).collect();
    assert_eq!(
        shown,
        Some(&body[..]),
        "README.md must hold tests/examples/client.rs, without its first comment, between {BEGIN:?} and {END:?}"
    );
}

/// Broken by: an example that compiles and does not do what it says.
#[test]
fn the_client_example_works() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&dir.path().join("data"));
    let ended: Ended = Command::new(example("client")).arg(&node.listen).output().unwrap().into();
    let said = ended.expect(0);
    for line in ["2000000 bytes at revision ", "bytes 1000000 to 1000016: 16", "photos/cat.jpg has 7 bytes"] {
        assert!(said.contains(line), "{line:?} is not in {said}");
    }
    node.terminate().expect(0);
}
