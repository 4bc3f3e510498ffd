//! What a sync stands for: no acknowledgement before it, and none after one that failed.

use std::path::Path;

use bytes::Bytes;
use kv_tests::{Launch, Node, seed};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::task::JoinSet;

use crate::model::Model;

/// kvnode on a disk that fails on command: see `src/bin/faulty_node.rs`.
fn faulty_node(dir: &Path) -> Node {
    Launch::program(Path::new(env!("CARGO_BIN_EXE_faulty_node")), dir).start()
}

/// Broken by: an acknowledgement, or a read that sees the value, before the sync of its group has returned.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_not_acknowledged_before_its_sync() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = faulty_node(&dir.path().join("data"));
    let client = node.client();
    // What a new node writes about its membership is behind it then.
    client.put("first", "value").await.unwrap();
    for round in 0..5 {
        let (key, value) = (format!("key{round}"), Bytes::from(vec![round; 10_000]));
        assert_eq!(node.process.ask("block .seg"), "blocking");
        let put = tokio::spawn({
            let (client, key, value) = (client.clone(), key.clone(), value.clone());
            async move { client.put(key, value).await }
        });
        assert_eq!(node.process.ask("wait"), "blocked");
        // An acknowledgement that was sent too early would have overtaken one of these round trips.
        for _ in 0..50 {
            assert_eq!(client.stale().get(key.clone()).await.unwrap(), None);
            assert!(!put.is_finished(), "acknowledged before it was durable");
        }
        assert_eq!(node.process.ask("release"), "released");
        put.await.unwrap().unwrap();
        assert_eq!(client.get(key).await.unwrap().unwrap().bytes, value);
    }
    node.terminate().expect(0);
}

/// Broken by: a retried sync or write, an acknowledgement of what it was to make durable, or a process that
/// goes on after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_or_write_ends_the_process_and_is_not_acknowledged() {
    for operation in ["sync", "write"] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let mut node = faulty_node(&data);
        let client = node.client();
        for key in ["a", "b", "c"] {
            client.put(key, vec![1; 5_000]).await.unwrap();
        }
        assert_eq!(node.process.ask(&format!("fail {operation} 1 .seg")), "failing");
        let hasty = client.with_deadline(std::time::Duration::from_secs(2));
        hasty.put("d", vec![2; 5_000]).await.expect_err("it cannot be durable");
        node.process.wait().fails(1, &["cannot write", ".seg", "Input/output error"]);

        let node = Node::start(&data);
        for key in ["a", "b", "c"] {
            assert_eq!(node.client().get(key).await.unwrap().unwrap().bytes, vec![1; 5_000]);
        }
        // Not acknowledged: there or not, but never half of it.
        if let Some(value) = node.client().get("d").await.unwrap() {
            assert_eq!(value.bytes, vec![2; 5_000]);
        }
        node.terminate().expect(0);
    }
}

/// The same in the middle of a load: what was acknowledged before the failure is there afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_under_load_loses_nothing_acknowledged() {
    let mut rng = StdRng::seed_from_u64(seed());
    for (operation, nth) in [("sync", 2), ("sync", 40), ("write", 40)] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let mut node = faulty_node(&data);
        assert_eq!(node.process.ask(&format!("fail {operation} {nth} .seg")), "failing");
        let mut writers = JoinSet::new();
        for writer in 0..8 {
            let mut model = Model::new(&format!("writer{writer}/"), 10, StdRng::from_rng(&mut rng));
            let client = node.client().with_deadline(std::time::Duration::from_secs(2));
            writers.spawn(async move {
                while model.write(&client).await.is_ok() {}
                model
            });
        }
        let models = writers.join_all().await;
        node.process.wait().fails(1, &["cannot write"]);
        let node = Node::start(&data);
        for mut model in models {
            model.check(&node.client()).await;
        }
        node.terminate().expect(0);
    }
}
