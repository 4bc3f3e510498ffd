//! What succeeds.

use bytes::Bytes;
use futures::future::join_all;
use kv_api::{Limit, Limits};
use kv_client::{Batch, CasOutcome, Error, Expect, WriteOutcome};

use crate::fake::*;

#[tokio::test]
async fn what_was_put_is_got() {
    let node = Node::start(Fake::default()).await;
    let client = node.client();
    assert_eq!(client.get("k").await, Ok(None));
    let revision = client.put("k", "hello").await.unwrap();
    let value = client.get("k").await.unwrap().unwrap();
    assert_eq!((&value.bytes[..], value.revision, value.value_bytes), (&b"hello"[..], revision, 5));
    let part = client.get_range("k", 1, 3).await.unwrap().unwrap();
    assert_eq!((&part.bytes[..], part.value_bytes), (&b"ell"[..], 5));
    client.delete("k").await.unwrap();
    assert_eq!(client.stale().get("k").await, Ok(None));
}

#[tokio::test]
async fn a_batch_is_all_or_nothing_and_a_compare_tells_what_is_there() {
    let node = Node::start(Fake::default()).await;
    let client = node.client();
    let batch = Batch::new().put("a", "1").put("b", "2").delete("c");
    assert!(matches!(client.write(batch).await, Ok(WriteOutcome::Done { .. })));
    let refused = Batch::new().check("a", Expect::Absent).put("b", "3");
    assert!(matches!(client.write(refused).await, Ok(WriteOutcome::Refused { check: 0, current: Some(_) })));

    let CasOutcome::Done { revision } = client.compare_and_set("n", Expect::Absent, "1").await.unwrap()
    else {
        panic!()
    };
    let done = client.compare_and_set("n", Expect::Revision(revision), "2").await.unwrap();
    assert!(matches!(done, CasOutcome::Done { .. }));
    let late = client.compare_and_set("n", Expect::Revision(revision), "3").await.unwrap();
    assert!(matches!(late, CasOutcome::Conflict { current: Some(now) } if now != revision));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_mebibytes_go_and_come() {
    let node = Node::start(Fake::default()).await;
    let client = node.client();
    let value: Bytes = (0..20 << 20).map(|i: u32| (i % 251) as u8).collect::<Vec<_>>().into();
    client.put("large", value.clone()).await.unwrap();
    // Whatever is expected of the next value.
    for _ in 0..10 {
        assert_eq!(client.get("large").await.unwrap().unwrap().bytes, value);
    }
    assert!(node.fake.count("get") < 20, "large ones are expected now");
    client.put("small", "s").await.unwrap();
    for _ in 0..10 {
        assert_eq!(client.get("small").await.unwrap().unwrap().bytes, "s");
    }
    let part = client.get_range("large", 19 << 20, 5 << 20).await.unwrap().unwrap();
    assert_eq!(part.bytes, value.slice(19 << 20..));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_at_once() {
    let node = Node::start(Fake::default()).await;
    let client = node.client();
    let work = (0..200).map(|i| {
        let client = client.clone();
        tokio::spawn(async move {
            let value = vec![i as u8; if i % 10 == 0 { 1 << 20 } else { i * 100 }];
            client.put(i.to_string(), value.clone()).await.unwrap();
            assert_eq!(client.get(i.to_string()).await.unwrap().unwrap().bytes, value);
        })
    });
    join_all(work).await.into_iter().for_each(|done| done.unwrap());
    assert!(*node.connections.lock().unwrap() <= 5, "one small, four bulk");
}

#[tokio::test]
async fn a_slow_bulk_call_does_not_hold_up_small_ones() {
    let node = Node::start(Fake::default()).await;
    let client = node.client();
    let bulk = tokio::spawn({
        let client = client.clone();
        async move { client.put("wait", vec![0; 1 << 20]).await }
    });
    node.fake.0.arrived.notified().await;
    for i in 0..100 {
        client.put(i.to_string(), "small").await.unwrap();
        assert!(client.get(i.to_string()).await.unwrap().is_some());
    }
    // And another bulk one, beside it.
    client.put("bulk", vec![0; 1 << 20]).await.unwrap();
    assert!(!bulk.is_finished());
    assert_eq!(*node.connections.lock().unwrap(), 3);
    node.fake.0.gate.add_permits(1);
    bulk.await.unwrap().unwrap();
}

#[tokio::test]
async fn too_large_is_refused_before_it_is_sent() {
    let mut limits =
        Limits { value_bytes_max: 1000, batch_bytes_max: 70_000, batch_ops_max: 3, ..Limits::default() };
    limits.frame_bytes_max = u32::try_from(limits.frame_bytes_needed()).unwrap();
    let node = Node::start(Fake::with(limits.clone(), [1; 16])).await;
    let client = node.client();
    assert_eq!(client.limits().await, Ok(limits));
    let named = |result| match result {
        Err(Error::TooLarge { limit, max, actual }) => (limit, max, actual),
        other => panic!("{other:?}"),
    };
    assert_eq!(named(client.put("k", vec![0; 1001]).await), (Limit::Value, 1000, 1001));
    assert_eq!(named(client.put(vec![0; 70_000], "v").await).0, Limit::Key);
    let many = Batch::new().delete("a").delete("b").delete("c").delete("d");
    assert_eq!(named(client.write(many).await.map(|_| 0)), (Limit::BatchOps, 3, 4));
    assert!(node.fake.0.log.lock().unwrap().is_empty(), "nothing was sent");
    client.put("k", vec![0; 1000]).await.unwrap();
}

#[tokio::test]
async fn an_operator_is_answered() {
    let node = Node::start(Fake::default()).await;
    let admin = node.client().admin();
    assert_eq!(admin.cluster_status().await.unwrap().leader_id, Some(1));
    assert_eq!(admin.segments().await.unwrap(), vec![]);
    assert_eq!(admin.clone().on(&node.address).verify().await.unwrap().records, 5);
    admin.flush().await.unwrap();
    assert!(admin.gc_status(true).await.unwrap().emergency);
    assert_eq!(admin.gc_run().await.unwrap(), vec![]);
    admin.gc_pause(true).await.unwrap();
    assert_eq!(admin.stats().await.unwrap().node_id, 3);
    assert_eq!(admin.compact("a".into(), None).await.unwrap().node_id, 3);
    assert_eq!(admin.checkpoint("/copy").await.unwrap().dir, "/copy");
    assert_eq!(admin.verify_tables().await.unwrap().tables, 7);
    assert_eq!(*node.connections.lock().unwrap(), 1);
}
