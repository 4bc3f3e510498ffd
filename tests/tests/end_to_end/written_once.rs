//! Each value reaches the disk once.

use kv_tests::{Node, files};

const VALUES: u64 = 2_000;
const VALUE_BYTES: u64 = 64 << 10;

/// Broken by: a second copy of values in a journal, a table or a rewritten segment, or by groups so small that
/// their padding shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_fill_writes_little_more_than_its_values() {
    // Where the build is, is a disk; the directory for temporary files may be memory, of which nothing is
    // ever written.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let node = Node::start(&dir.path().join("data"));
    let before = files::bytes_written(node.process.id());
    let (ops, size) = (VALUES.to_string(), VALUE_BYTES.to_string());
    let bench = ["bench", "--workload=fill", "--clients=32", "--ops", &ops, "--value-size", &size];
    node.kvadmin(bench).expect(0);
    // Tables and the manifest count as well.
    node.client().admin().flush().await.unwrap();
    let written = files::bytes_written(node.process.id()) - before;
    let user = VALUES * VALUE_BYTES;
    let times = written as f64 / user as f64;
    eprintln!("{written} bytes written for {user} bytes of values: {times:.4} times");
    assert!(written >= user, "the kernel counts nothing here: {times:.4} times");
    assert!(times <= 1.06, "written {times:.4} times");
    node.terminate().expect(0);
}
