//! put, get, delete, scan, cluster, vlog.

use std::io::Read as _;
use std::process::Stdio;

use serde_json::json;

use crate::node::{Node, small_limits};
use crate::run::{command, kvadmin, with_stdin};

#[test]
fn a_value_comes_back_as_it_was() {
    let node = Node::start(small_limits());
    assert_eq!(kvadmin(&node, ["put", r"a\x00b", "v"]).stdout(0), "1\n");
    assert_eq!(node.keys(), [&b"a\0b"[..]]);
    assert_eq!(kvadmin(&node, ["get", r"a\x00b"]).stdout(0), "v");
    assert_eq!(kvadmin(&node, ["put", "-o", "json", "k", r"C:\x"]).json(0), json!({ "revision": 2 }));
    assert_eq!(kvadmin(&node, ["get", "k"]).stdout(0), r"C:\x");

    with_stdin(&node, &["put", "k", "-"], b"\xff\0from stdin").stdout(0);
    assert_eq!(kvadmin(&node, ["get", "k"]).stdout, b"\xff\0from stdin");
    assert_eq!(kvadmin(&node, ["get", "k", "--offset", "7", "--length", "2"]).stdout(0), "st");
    assert_eq!(kvadmin(&node, ["get", "k", "--offset", "7"]).stdout(0), "stdin");
    assert_eq!(kvadmin(&node, ["get", "k", "--offset", "99"]).stdout(0), "");
    let part = kvadmin(&node, ["get", "-o", "json", "k", "--length", "2"]).json(0);
    assert_eq!(part, json!({ "key": "aw==", "revision": 3, "value_bytes": 12, "value": "/wA=" }));
}

#[test]
fn files_are_values_too() {
    let node = Node::start(small_limits());
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    std::fs::write(&from, [7; 1000]).unwrap();
    kvadmin(&node, ["put", "k", "--file", from.to_str().unwrap()]).stdout(0);
    assert_eq!(kvadmin(&node, ["get", "k", "--out", to.to_str().unwrap()]).stdout(0), "");
    assert_eq!(std::fs::read(&to).unwrap(), [7; 1000]);
    let json = kvadmin(&node, ["-o", "json", "get", "k", "--out", to.to_str().unwrap()]).json(0);
    assert_eq!(json, json!({ "key": "aw==", "revision": 1, "value_bytes": 1000 }));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file is left");

    std::fs::write(&from, [7; 1001]).unwrap();
    let error = kvadmin(&node, ["put", "k", "--file", from.to_str().unwrap()]).failure(1);
    assert!(error.contains("limit of 1000 bytes") && error.contains("import"), "{error}");
    let error = with_stdin(&node, &["put", "k", "-"], &[7; 1001]).failure(1);
    assert!(error.contains("standard input") && error.contains("limit of 1000 bytes"), "{error}");
    let error = kvadmin(&node, ["put", "k", &"v".repeat(1001)]).failure(1);
    assert!(error.contains("1001") && error.contains("import"), "{error}");
    kvadmin(&node, ["get", "absent", "--out", to.to_str().unwrap()]).failure(4);
    assert_eq!(std::fs::read(&to).unwrap(), [7; 1000]);
}

#[test]
fn exit_codes_say_what_happened() {
    let node = Node::start(small_limits());
    let error = kvadmin(&node, ["get", r"no\xff"]).failure(4);
    assert!(error.contains(r"no such key: no\xff"), "{error}");
    kvadmin(&node, ["get", "-o", "json", "no"]).failure(4);
    kvadmin(&node, ["put", "k"]).failure(2);
    kvadmin(&node, ["--endpoints", "127.0.0.1:1", "--timeout", "0.3", "get", "k"]).failure(7);
    kvadmin(&node, ["--endpoints", "127.0.0.1:1", "--timeout", "0.3", "cluster", "status"]).failure(7);
    node.state().unknown_writes = 1;
    let error = kvadmin(&node, ["put", "k", "v"]).failure(1);
    assert!(error.contains("read it again"), "{error}");
}

#[test]
fn deleting_many_keys_needs_a_yes() {
    let node = Node::start(small_limits());
    for n in 0..50 {
        node.put(format!("a/{n}"), "v");
    }
    node.put("b", "v");
    let error = kvadmin(&node, ["delete", "--prefix", "a/"]).failure(5);
    assert!(error.contains("50 keys") && error.contains("--yes"), "{error}");
    assert_eq!(node.keys().len(), 51);
    node.state().unknown_writes = 1;
    let json = kvadmin(&node, ["-o", "json", "delete", "--prefix", "a/", "--yes"]).json(0);
    assert_eq!(json, json!({ "deleted": 50 }));
    assert_eq!(node.keys(), ["b"]);
    kvadmin(&node, ["delete", "b"]).stdout(0);
    assert!(node.keys().is_empty());
    kvadmin(&node, ["delete", "b"]).stdout(0);
    assert_eq!(kvadmin(&node, ["delete", "--prefix", "", "--yes"]).stdout(0), "deleted 0 keys\n");
}

#[test]
fn a_scan_is_a_table_or_one_array() {
    let node = Node::start(small_limits());
    node.put("a/1", "one");
    node.put("a/2", vec![0; 300]);
    node.put("a/3", vec![b'x'; 300]);
    node.put("b\n", "");
    let table = kvadmin(&node, ["scan"]).stdout(0);
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines[0], "KEY    REVISION  BYTES  VALUE");
    assert_eq!(lines[1], "a/1           1      3  one");
    assert_eq!(lines[2], format!("a/2           2    300  {}...", r"\x00".repeat(9)));
    assert_eq!(lines[4], r"b\x0a         4      0");
    assert_eq!(kvadmin(&node, ["scan", "--keys-only", "--prefix", "b"]).stdout(0).lines().count(), 2);

    let json =
        kvadmin(&node, ["scan", "-o", "json", "--prefix", "a/", "--from", "a/2", "--keys-only"]).json(0);
    let expected = json!([
        { "key": "YS8y", "revision": 2, "value_bytes": 300 },
        { "key": "YS8z", "revision": 3, "value_bytes": 300 },
    ]);
    assert_eq!(json, expected);
    let json = kvadmin(&node, ["scan", "-o", "json", "--to", "a/3"]).json(0);
    assert_eq!((json.as_array().unwrap().len(), &json[0]["value"]), (2, &json!("b25l")));
    let json = kvadmin(&node, ["scan", "-o", "json", "--limit", "3"]).json(0);
    assert_eq!(json.as_array().unwrap().len(), 3);
    assert_eq!(kvadmin(&node, ["scan", "-o", "json", "--prefix", "z"]).json(0), json!([]));
    assert_eq!(kvadmin(&node, ["scan", "-o", "json", "--from", "b", "--to", "a"]).json(0), json!([]));
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let node = Node::start(small_limits());
    for n in 0..20_000 {
        node.put(format!("{n:0100}"), "v");
    }
    for form in ["table", "json"] {
        let mut scan = command(&node)
            .args(["scan", "-o", form])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        scan.stdout.take().unwrap().read_exact(&mut [0; 10]).unwrap();
        let output = scan.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
    }
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let scan =
        command(&node).args(["scan", "--limit", "1"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(scan.status.code(), Some(1));
}

#[test]
fn the_state_of_the_cluster_decides_the_exit_code() {
    let node = Node::start(small_limits());
    let json = kvadmin(&node, ["cluster", "status", "-o", "json"]).json(0);
    assert_eq!((&json["leader_id"], &json["nodes"][0]["role"]), (&json!(1), &json!("leader")));
    let table = kvadmin(&node, ["cluster", "status"]).stdout(0);
    assert!(table.contains("ID  ADDR            ROLE    TERM  FIRST LOG"), "{table}");
    node.state().leaderless = true;
    let json = kvadmin(&node, ["cluster", "status", "-o", "json"]).json(3);
    assert_eq!(json["leader_id"], json!(null));
    assert!(kvadmin(&node, ["cluster", "status"]).stdout(3).contains("leader none"));

    let json = kvadmin(&node, ["vlog", "list", "-o", "json"]).json(0);
    assert_eq!(json["segments"][0]["segment"], json!(17));
    let text = kvadmin(&node, ["vlog", "list"]).stdout(0);
    assert!(text.contains("2  sealed") && text.contains("750") && text.contains("below ratio"), "{text}");
    assert_eq!(kvadmin(&node, ["vlog", "verify", "-o", "json"]).json(0)["records"], json!(30));
    node.state().damages = vec!["000017.seg offset 4096: checksum".into()];
    assert!(kvadmin(&node, ["vlog", "verify"]).stdout(6).contains("damaged: 000017.seg offset 4096"));
    assert_eq!(
        kvadmin(&node, ["vlog", "verify", "-o", "json"]).json(6)["damages"].as_array().unwrap().len(),
        1
    );
}
