//! What an operator has a running node do with its store, with the real programs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use kv_tests::files::{device, disk_bytes};
use kv_tests::{Launch, Node};
use serde_json::Value;

const KEYS: usize = 200;

fn value(number: usize, round: usize) -> Vec<u8> {
    (0..3_000).map(|at| (number * 31 + round * 7 + at * at / 3) as u8).collect()
}

async fn fill(node: &Node, round: usize) {
    let client = node.client();
    for number in 0..KEYS {
        client.put(format!("key{number:03}"), value(number, round)).await.unwrap();
    }
}

fn stats(node: &Node) -> Value {
    node.kvadmin(["-o", "json", "stats"]).json(0)
}

fn number(of: &Value, path: &str) -> u64 {
    let found = of.pointer(path).and_then(Value::as_u64);
    assert!(found.is_some(), "{path} of {of}");
    found.unwrap()
}

fn metrics(node: &Node) -> String {
    let mut stream = TcpStream::connect(&node.http).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_what_its_store_holds_and_takes() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = Launch::new(&data).setting("engine.value_cache_bytes", "16MiB").start();
    fill(&node, 1).await;
    fill(&node, 2).await;
    node.kvadmin(["flush"]).expect(0);
    let flushed = stats(&node);
    assert_eq!(number(&flushed, "/memory/unflushed_bytes"), 0);
    assert_eq!(number(&flushed, "/levels/0/entries"), KEYS as u64, "only the newest of each");
    let user = (2 * KEYS * (6 + 3_000)) as u64;
    assert_eq!(number(&flushed, "/written/user_bytes"), user);
    assert!(number(&flushed, "/written/segment_bytes") > user, "{flushed}");
    assert!(flushed["written"]["amplification"].as_f64().unwrap() > 1.0, "{flushed}");
    // Nothing goes on now: what the node says is what the file system says.
    assert_eq!(number(&flushed, "/disk/bytes"), disk_bytes(&data));
    let needed = number(&flushed, "/disk/needed_bytes") as f64;
    let amplification = flushed["disk"]["amplification"].as_f64().unwrap();
    assert!((amplification * needed - disk_bytes(&data) as f64).abs() < 1.0, "{flushed}");

    let client = node.client();
    for round in 0..2 {
        let found = client.get("key007").await.unwrap().unwrap();
        assert!(found.bytes == value(7, 2), "round {round}");
    }
    let read = stats(&node);
    assert_eq!((number(&read, "/reads/gets"), number(&read, "/reads/values")), (2, 1));
    assert_eq!((number(&read, "/value_cache/hits"), number(&read, "/value_cache/misses")), (1, 1));

    let report = node.kvadmin(["-o", "json", "compact", "--prefix", "key"]).json(0);
    assert_eq!(number(&report, "/after/entries"), KEYS as u64);
    assert_eq!(number(&stats(&node), "/levels/6/entries"), KEYS as u64);
    let text = node.kvadmin(["stats"]).expect(0);
    assert!(text.contains("space amplification") && text.contains("TOMBSTONES"), "{text}");
    let verified = node.kvadmin(["-o", "json", "verify"]).json(0);
    assert!(number(&verified, "/tables/tables") >= 1 && number(&verified, "/segments/records") > 0);

    // The same figures where a scraper looks, some seconds later.
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let text = metrics(&node);
        if text.contains(&format!("\nkvnode_user_bytes_total {user}\n")) {
            assert!(text.contains(&format!("\nkvnode_level_entries{{level=\"6\"}} {KEYS}\n")), "{text}");
            assert!(text.contains("\nkvnode_space_amplification "), "{text}");
            break;
        }
        assert!(Instant::now() < until, "{text}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(node.terminate().code, Some(0));
}

/// Broken by: a copy that lacks what was acknowledged, or that goes where something is.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_the_store_of_a_moment() {
    let dir = tempfile::tempdir().unwrap();
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    let node = Node::start(&data);
    fill(&node, 1).await;
    let report = node.kvadmin(["-o", "json", "checkpoint", copy.to_str().unwrap()]).json(0);
    assert!(number(&report, "/files") >= 3 && report["dir"] == copy.to_str().unwrap(), "{report}");
    fill(&node, 2).await;

    let inside = data.join("copy");
    let below = dir.path().join("none/copy");
    for (path, why) in [
        (copy.to_str().unwrap(), "is there already"),
        (inside.to_str().unwrap(), "outside the data directory"),
        (below.to_str().unwrap(), "there is no directory"),
        ("copy", "absolute path"),
    ] {
        node.kvadmin(["checkpoint", path]).fails(1, &[why]);
    }
    assert!(!inside.exists() && !below.exists());
    let elsewhere = Path::new("/dev/shm");
    if elsewhere.exists() && device(elsewhere) != device(&data) {
        let path = elsewhere.join(format!("kv-tests-{}", std::process::id()));
        node.kvadmin(["checkpoint", path.to_str().unwrap()]).fails(1, &["another file system"]);
        assert!(!path.exists());
    }
    assert_eq!(node.terminate().code, Some(0));

    // Whole, and the node at that moment: started in its place it has what there was.
    let at = ["check".as_ref(), "--data-dir".as_ref(), copy.as_os_str()];
    kv_tests::kvadmin("127.0.0.1:1", at).expect(0);
    let node = Node::start(&copy);
    let client = node.client();
    for number in 0..KEYS {
        let found = client.get(format!("key{number:03}")).await.unwrap().unwrap();
        assert!(found.bytes == value(number, 1), "key{number:03}");
    }
    assert_eq!(node.terminate().code, Some(0));
}
