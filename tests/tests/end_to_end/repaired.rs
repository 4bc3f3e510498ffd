//! A node on what was restored of a damaged directory.

use kv_tests::{Node, files, kvadmin};

/// Broken by: a repaired directory that no node can start on, that lacks something, or that passes for the old node.
#[test]
fn a_node_starts_on_a_repaired_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (data, new) = (dir.path().join("data"), dir.path().join("new"));
    let node = Node::start(&data);
    for n in 0..10 {
        node.kvadmin(["put", &format!("key{n}"), &format!("value{n}").repeat(800)]).expect(0);
    }
    node.kvadmin(["delete", "key7"]).expect(0);
    let cluster_of =
        |node: &Node| node.kvadmin(["-o", "json", "cluster", "status"]).json(0)["cluster_id"].clone();
    let old = cluster_of(&node);
    node.terminate().expect(0);
    files::remove(&data.join("CURRENT"));
    let (from, into) = (data.to_str().unwrap(), new.to_str().unwrap());
    let report = kvadmin("127.0.0.1:1", ["-o", "json", "repair", from, "--into", into]).json(0);
    assert_eq!((&report["complete"], &report["keys"]), (&true.into(), &9.into()), "{report}");
    // The first start makes it the only member, the second one finds that.
    for start in 0..2 {
        let node = Node::start(&new);
        assert_eq!(node.kvadmin(["get", "key3"]).expect(0), "value3".repeat(800));
        node.kvadmin(["get", "key7"]).expect(4);
        if start == 1 {
            assert_eq!(node.kvadmin(["get", "after"]).expect(0), "repair");
        }
        node.kvadmin(["put", "after", "repair"]).expect(0);
        assert_ne!(cluster_of(&node), old);
        node.terminate().expect(0);
    }
    let report = kvadmin("127.0.0.1:1", ["-o", "json", "check", "--data-dir", into]).json(0);
    assert_eq!((&report["keys"], &report["problems"]), (&10.into(), &serde_json::Value::Array(Vec::new())));
}
