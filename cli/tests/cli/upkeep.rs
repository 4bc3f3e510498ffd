//! What a node is told to do with its store, and what it says of it.

use kv_api::Limits;
use serde_json::{Value, json};

use crate::node::Node;
use crate::run::{Run, kvadmin};

fn ask(node: &Node, line: &str) -> Run {
    kvadmin(node, line.split_whitespace())
}

#[test]
fn statistics_are_shown_in_both_forms() {
    let node = Node::start(Limits::default());
    let text = ask(&node, "stats").stdout(0);
    let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("space amplification").ends_with("1.50"), "{text}");
    assert!(row("write amplification").ends_with('-'), "{text}");
    assert!(text.contains("TOMBSTONES") && text.contains("77"), "{text}");
    assert!(text.ends_with("           1024       3\n"), "{text}");
    let stats = ask(&node, "-o json stats").json(0);
    assert_eq!(
        (&stats["disk"]["amplification"], &stats["written"]["amplification"]),
        (&json!(1.5), &Value::Null)
    );
    assert_eq!(stats["stalls"]["waits"], json!([{ "below_micros": 1024, "count": 3 }]));
    assert_eq!(stats["levels"][0]["entries"], 77);
}

#[test]
fn a_range_is_compacted() {
    let node = Node::start(Limits::default());
    let text = ask(&node, "compact").stdout(0);
    assert_eq!(
        text,
        "node 1: before 3 tables, 300 bytes, 30 entries; after 1 tables, 100 bytes, 10 entries\n"
    );
    ask(&node, "compact --prefix ab").stdout(0);
    ask(&node, "compact --from b --to c").stdout(0);
    let report = ask(&node, r"-o json compact --prefix a\xff --from a").json(0);
    assert_eq!((&report["before"]["tables"], &report["after"]["tables"]), (&json!(3), &json!(1)));
    let range = |from: &'static str, to: &'static str| (from.into(), (!to.is_empty()).then(|| to.into()));
    let mut asked = node.state().compacted.clone();
    assert_eq!(asked.pop(), Some((b"a\xff"[..].into(), Some("b".into()))));
    assert_eq!(asked, [range("", ""), range("ab", "ac"), range("b", "c")]);
    assert!(ask(&node, "compact --from c --to b").failure(2).contains("no key can be in this range"));
    assert_eq!(node.state().compacted.len(), 4, "nobody was asked");
}

#[test]
fn a_checkpoint_says_what_came_of_it() {
    let node = Node::start(Limits::default());
    assert_eq!(ask(&node, "checkpoint /copy").stdout(0), "node 1: 5 files, 600 bytes in /copy\n");
    let report = ask(&node, "-o json checkpoint /copy").json(0);
    assert_eq!(report, json!({ "node_id": 1, "dir": "/copy", "files": 5, "bytes": 600 }));
    assert!(ask(&node, "checkpoint /late").failure(1).contains("may be made, or be on the way"));
    let full = ask(&node, "checkpoint /full").failure(1);
    assert!(full.contains("no room on the disk") && !full.contains("on the way"), "{full}");
}

#[test]
fn everything_is_written_out_and_verified() {
    let node = Node::start(Limits::default());
    assert_eq!(ask(&node, "flush").stdout(0), "all that was written is in tables\n");
    assert_eq!(ask(&node, "-o json flush").json(0), json!({ "flushed": true }));
    let text = ask(&node, "verify").stdout(0);
    assert_eq!(
        text,
        "4 tables, 500 bytes: 0 damaged; 2 segments, 4000 bytes: 30 records intact, 0 damaged\n"
    );
    node.state().table_damages.push("00000007.sst: at 512: checksum".into());
    let text = ask(&node, "verify").stdout(6);
    assert!(text.starts_with("damaged: 00000007.sst: at 512: checksum\n"), "{text}");
    let report = ask(&node, "-o json verify").json(6);
    assert_eq!(report["tables"]["damages"], json!(["00000007.sst: at 512: checksum"]));
    assert_eq!(report["segments"]["records"], 30);
}
