//! bench.

use serde_json::json;

use crate::node::{Node, small_limits};
use crate::run::kvadmin;

#[test]
fn a_fill_writes_the_same_keys_again_and_a_read_checks_them() {
    let node = Node::start(small_limits());
    let fill = ["bench", "--workload", "fill", "--value-size", "100", "--ops", "300", "-o", "json"];
    for _ in 0..2 {
        let report = kvadmin(&node, fill).json(0);
        for (name, expected) in
            [("ops", json!(300)), ("errors", json!(0)), ("keys", json!(300)), ("bytes", json!(30_000))]
        {
            assert_eq!(report[name], expected, "{name}");
        }
        assert!(
            report["latency_us"]["p99_9"].as_u64().unwrap() <= report["latency_us"]["max"].as_u64().unwrap()
        );
        let keys = node.keys();
        assert_eq!(
            (keys.len(), &keys[0][..], &keys[299][..]),
            (300, &b"bench/0000000000"[..], &b"bench/0000000299"[..])
        );
    }
    let report =
        kvadmin(&node, ["bench", "--workload", "read", "--ops", "500", "--keys", "300", "-o", "json"])
            .json(0);
    assert_eq!((&report["ops"], &report["bytes"]), (&json!(500), &json!(50_000)));

    node.put("bench/0000000007", vec![7; 100]);
    let read = ["bench", "--workload", "read", "--seconds", "0.3", "--clients", "3"];
    let wrong = kvadmin(&node, read);
    assert_eq!(wrong.code, 1, "{}", wrong.stderr);
    assert!(wrong.stderr.contains("key 7 has a wrong value"), "{}", wrong.stderr);
    assert!(String::from_utf8(wrong.stdout).unwrap().contains("p99.9"));
}

#[test]
fn what_cannot_be_measured_is_said() {
    let node = Node::start(small_limits());
    let error = kvadmin(&node, ["bench", "--workload", "read", "--ops", "5"]).failure(1);
    assert!(error.contains("--workload fill"), "{error}");
    let error = kvadmin(&node, ["bench", "--value-size", "1001", "--ops", "5"]).failure(1);
    assert!(error.contains("limit of 1000 bytes"), "{error}");
    assert!(kvadmin(&node, ["bench", "--workload", "c"]).failure(2).contains("workload c"));
    kvadmin(&node, ["bench", "--endpoints", "127.0.0.1:1", "--timeout", "0.2", "--ops", "5"]).failure(7);
}
