//! Nodes that are busy, follow, or die in the middle of a call.

use std::time::Duration;

use futures::TryStreamExt as _;
use kv_api::KvError;
use kv_client::{Batch, Client, Error, Expect, Limit, Scan};
use tokio::task::JoinHandle;

use crate::fake::*;

/// Begins a call on `wait`, and kills the node while it is at it.
async fn kill_during<T: Send + 'static>(
    node: Node,
    call: impl Future<Output = T> + Send + 'static,
) -> (JoinHandle<T>, Fake, String) {
    let call = tokio::spawn(call);
    node.fake.0.arrived.notified().await;
    let (fake, address) = node.kill().await;
    (call, fake, address)
}

/// The node again, at the same place, letting calls on `wait` through.
async fn restart(fake: Fake, address: &str) -> Node {
    fake.0.gate.add_permits(1000);
    Node::start_at(fake, address).await
}

#[tokio::test]
async fn a_read_survives_a_restart() {
    let node = Node::start(Fake::default()).await;
    let client = node.client();
    node.fake.0.map.lock().unwrap().insert("wait".into(), ("value".into(), 1));
    let (call, fake, address) = kill_during(node, async move { client.get("wait").await }).await;
    let node = restart(fake, &address).await;
    assert_eq!(call.await.unwrap().unwrap().unwrap().bytes, "value");
    assert_eq!(node.fake.count("get"), 2);
}

#[tokio::test]
async fn a_write_does_not_and_says_that_it_may_have_happened() {
    let writes: [fn(&Client) -> futures::future::BoxFuture<'static, Error>; 3] = [
        |client| {
            let client = client.clone();
            Box::pin(async move { client.put("wait", "value").await.unwrap_err() })
        },
        |client| {
            let client = client.clone();
            Box::pin(async move { client.delete("wait").await.unwrap_err() })
        },
        |client| {
            let client = client.clone();
            Box::pin(async move { client.compare_and_set("wait", Expect::Absent, "v").await.unwrap_err() })
        },
    ];
    for write in writes {
        let node = Node::start(Fake::default()).await;
        let call = write(&node.client());
        let (call, fake, address) = kill_during(node, call).await;
        let node = restart(fake, &address).await;
        let error = call.await.unwrap();
        assert!(error.may_have_happened() && matches!(error, Error::Unknown(_)), "{error:?}");
        assert_eq!(node.fake.count("write"), 1);
    }
}

#[tokio::test]
async fn a_write_is_repeated_where_the_caller_wants_it_unless_it_has_conditions() {
    let node = Node::start(Fake::default()).await;
    let client = builder([&node.address]).retry_unknown_writes(true).build().unwrap();
    let call = {
        let client = client.clone();
        async move { client.put("wait", "value").await }
    };
    let (call, fake, address) = kill_during(node, call).await;
    let node = restart(fake, &address).await;
    call.await.unwrap().unwrap();
    assert_eq!(node.fake.count("write"), 2);

    let node = Node::start(Fake::default()).await;
    let client = builder([&node.address]).retry_unknown_writes(true).build().unwrap();
    let batch = Batch::new().check("other", Expect::Absent).put("wait", "value");
    let (call, fake, address) = kill_during(node, async move { client.write(batch).await }).await;
    let _node = restart(fake, &address).await;
    assert!(call.await.unwrap().unwrap_err().may_have_happened());
}

#[tokio::test]
async fn after_an_unknown_try_no_error_is_certain() {
    let node = Node::start(Fake::default()).await;
    let client = builder([&node.address]).retry_unknown_writes(true).build().unwrap();
    node.fake.answer_first([KvError::Unknown("lost leadership".into()), KvError::Invalid("what?".into())]);
    let error = client.put("k", "v").await.unwrap_err();
    assert!(error.may_have_happened(), "{error:?}");
}

#[tokio::test]
async fn a_state_that_is_not_kept_is_asked_for_once() {
    let node = Node::start(Fake::default()).await;
    let client = node.client();
    node.fake.answer_first([KvError::Compacted { oldest: 7 }, KvError::Compacted { oldest: 8 }]);
    assert_eq!(client.get_at("k", 5).await, Err(Error::Compacted { oldest: 7 }));
    let scanned: Result<Vec<_>, _> = client.scan(Scan::all().at_revision(5)).try_collect().await;
    assert_eq!(scanned, Err(Error::Compacted { oldest: 8 }));
    assert_eq!((node.fake.count("get"), node.fake.count("scan")), (1, 1));
}

#[tokio::test]
async fn a_time_to_live_that_makes_no_sense_is_not_sent() {
    let node = Node::start(Fake::default()).await;
    let client = node.client();
    let short = client.put_for("k", "v", Duration::from_millis(999)).await.unwrap_err();
    assert!(matches!(&short, Error::Invalid(why) if why.contains("999 ms")), "{short:?}");
    let long = client.put_for("k", "v", Duration::MAX).await.unwrap_err();
    assert!(matches!(long, Error::TooLarge { limit: Limit::Ttl, .. }), "{long:?}");
    assert_eq!(node.fake.count("write"), 0);
    client.put_for("k", "v", Duration::from_secs(1)).await.unwrap();
}

#[tokio::test]
async fn a_lost_connection_is_made_again() {
    let node = Node::start(Fake::default()).await;
    let client = node.client();
    for round in 0..3 {
        client.put("k", round.to_string()).await.unwrap();
    }
    let (fake, address) = node.kill().await;
    let node = Node::start_at(fake, &address).await;
    // The client may notice only when it writes: then nobody knows.
    while let Err(error) = client.put("k", "again").await {
        assert!(error.may_have_happened(), "{error:?}");
    }
    assert_eq!(client.get("k").await.unwrap().unwrap().bytes, "again");
    drop(node);
}

#[tokio::test]
async fn the_leader_is_followed_and_remembered() {
    let (leader, follower) = (Node::start(Fake::default()).await, Node::start(Fake::default()).await);
    let hint = KvError::NotLeader { leader: Some((1, leader.address.clone())) };
    follower.fake.answer_first([hint]);
    // The leader is not among the endpoints.
    let client = follower.client();
    for i in 0..5 {
        client.put(i.to_string(), "v").await.unwrap();
    }
    assert_eq!((follower.fake.count("write"), leader.fake.count("write")), (1, 5));
    // It is deposed: whoever knows better is asked.
    leader.fake.answer_first([KvError::NotLeader { leader: Some((2, follower.address.clone())) }]);
    client.put("k", "v").await.unwrap();
    assert_eq!(follower.fake.count("write"), 2);
    // It is gone: another one is asked.
    let (nobody, _socket) = nowhere();
    follower.fake.answer_first([KvError::NotLeader { leader: Some((3, nobody)) }]);
    client.put("k", "v").await.unwrap();
    assert_eq!(follower.fake.count("write"), 4);
}

#[tokio::test]
async fn a_cluster_without_a_leader_is_waited_for() {
    let node = Node::start(Fake::default()).await;
    let none = || KvError::NotLeader { leader: None };
    node.fake.answer_first([none(), none(), KvError::Unavailable("starting".into())]);
    node.client().put("k", "v").await.unwrap();
    assert_eq!(node.fake.count("write"), 4);
}

#[tokio::test]
async fn two_that_name_each_other_end_at_the_deadline() {
    let (one, other) = (Node::start(Fake::default()).await, Node::start(Fake::default()).await);
    let hint = |node: &Node| KvError::NotLeader { leader: Some((1, node.address.clone())) };
    one.fake.answer_first(std::iter::repeat_n(hint(&other), 10_000));
    other.fake.answer_first(std::iter::repeat_n(hint(&one), 10_000));
    let client = one.client().with_deadline(Duration::from_millis(300));
    let error = client.put("k", "v").await.unwrap_err();
    assert!(matches!(error, Error::Deadline { may_have_happened: false, .. }), "{error:?}");
    assert!(one.fake.count("write") < 100, "with pauses");
}

#[tokio::test]
async fn busy_is_tried_again() {
    let node = Node::start(Fake::default()).await;
    node.fake.answer_first([KvError::Busy { retry_after_ms: 1 }, KvError::Busy { retry_after_ms: 2 }]);
    node.client().put("k", "v").await.unwrap();
    assert_eq!(node.fake.count("write"), 3);
}

#[tokio::test]
async fn what_the_caller_must_change_is_not_tried_again() {
    let node = Node::start(Fake::default()).await;
    node.fake.answer_first([KvError::Invalid("no".into()), KvError::Corrupt("file 3".into())]);
    let client = node.client();
    assert_eq!(client.put("k", "v").await, Err(Error::Invalid("no".into())));
    assert_eq!(client.get("k").await, Err(Error::Corrupt("file 3".into())));
    assert_eq!(node.fake.0.log.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_call_without_an_answer_ends_at_its_deadline() {
    let node = Node::start(Fake::default()).await;
    let client = node.client().with_deadline(Duration::from_millis(200));
    let error = client.get("wait").await.unwrap_err();
    assert!(matches!(error, Error::Deadline { may_have_happened: false, .. }), "{error:?}");
    let error = client.put("wait", "v").await.unwrap_err();
    assert!(matches!(error, Error::Deadline { may_have_happened: true, .. }), "{error:?}");
    // The connection lives on.
    client.put("k", "v").await.unwrap();
    assert_eq!(*node.connections.lock().unwrap(), 1);
}

/// Broken by: a client that stays with a leader that hangs, while the others have elected another one.
#[tokio::test]
async fn after_a_call_without_an_answer_another_node_is_asked() {
    let (one, other) = (Node::start(Fake::default()).await, Node::start(Fake::default()).await);
    let client = builder([&other.address]).build().unwrap().with_deadline(Duration::from_millis(200));
    other.fake.answer_first([KvError::NotLeader { leader: Some((1, one.address.clone())) }]);
    client.put("k", "v").await.unwrap();
    client.put("wait", "v").await.unwrap_err();
    client.put("k", "v").await.unwrap();
    assert_eq!((one.fake.count("write"), other.fake.count("write")), (2, 2));
}

#[tokio::test]
async fn a_stopping_node_answers_what_it_has_and_another_takes_over() {
    let (one, other) = (Node::start(Fake::default()).await, Node::start(Fake::default()).await);
    let client = builder([&one.address, &other.address]).build().unwrap();
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.put("wait", "v").await }
    });
    one.fake.0.arrived.notified().await;
    one.stop.cancel();
    one.fake.0.gate.add_permits(1);
    call.await.unwrap().unwrap();
    while client.put("k", "v").await.is_err() {}
    assert!(other.fake.count("write") > 0);
}

/// The second time the directory would be there: asked for once, and who asked is told.
#[tokio::test]
async fn a_checkpoint_is_not_repeated_and_a_compaction_is() {
    let node = Node::start(Fake::default()).await;
    let admin = node.client().admin();
    let (call, fake, address) = kill_during(node, async move { admin.checkpoint("wait").await }).await;
    let node = restart(fake, &address).await;
    assert!(call.await.unwrap().unwrap_err().may_have_happened());
    assert_eq!(node.fake.count("checkpoint"), 1);

    let node = Node::start(Fake::default()).await;
    let admin = node.client().admin();
    let (call, fake, address) =
        kill_during(node, async move { admin.compact("wait".into(), None).await }).await;
    let node = restart(fake, &address).await;
    call.await.unwrap().unwrap();
    assert_eq!(node.fake.count("compact"), 2);
}

#[tokio::test]
async fn what_a_node_cannot_do_is_not_asked_for_again() {
    let node = Node::start(Fake::default()).await;
    node.fake.answer_first([KvError::Failed("no room".into())]);
    let refused = node.client().admin().compact("a".into(), None).await;
    assert_eq!(refused.unwrap_err(), Error::Failed("no room".into()));
    assert_eq!(node.fake.count("compact"), 1);
}
