//! A leader that was replaced and does not know it yet answers no read from its old state.

use std::time::Duration;

use kv_api::admin::NodeStatus;
use kv_client::Client;
use kv_tests::{Cluster, IDS, Passing};
use tokio::task::JoinSet;

/// Longer than any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn client(cluster: &Cluster, id: u64) -> Client {
    Client::builder().endpoints([&cluster.addresses[&id]]).deadline(PATIENCE).build().unwrap()
}

async fn own_status(cluster: &Cluster, id: u64) -> NodeStatus {
    let asked = client(cluster, id).admin().on(&cluster.addresses[&id]).cluster_status().await.unwrap();
    asked.nodes.into_iter().find(|node| node.id == id).unwrap()
}

/// Returns once a node says so of itself.
async fn until(cluster: &Cluster, id: u64, holds: impl Fn(&NodeStatus) -> bool) {
    let held = async { while !holds(&own_status(cluster, id).await) {} };
    tokio::time::timeout(PATIENCE, held).await.unwrap();
}

/// Answers to entries which were sent before the leader was replaced reach it afterwards, one follower's
/// first: that commits the entries and has the leader tell the other follower so, before its answer is there.
///
/// Broken by: an answer that counts for a request which was sent later, and so for a proof of leadership
/// that is younger than the read.
#[tokio::test(flavor = "multi_thread")]
async fn answers_from_before_prove_no_leadership_to_a_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::linked(dir.path(), std::path::Path::new(env!("CARGO_BIN_EXE_faulty_node")));
    cluster = cluster.start();
    let old = cluster.leader().await;
    let others: Vec<u64> = IDS.filter(|id| *id != old).collect();
    let (first, last) = (others[0], others[1]);
    cluster.client().put("key", "old").await.unwrap();

    // Both followers take an entry; the leader hears of neither.
    others.iter().for_each(|id| cluster.link(old, *id).pass(Passing::Requests));
    let (deposed, before) = (client(&cluster, old), own_status(&cluster, old).await);
    let unanswered = deposed.clone();
    let unanswered = tokio::spawn(async move { unanswered.put("other", "value").await });
    for id in &others {
        until(&cluster, *id, |status| status.last_log > before.last_log).await;
    }
    cluster.limit(old, Passing::Nothing, Passing::Nothing);

    // The others have a new leader and go on.
    until(&cluster, first, |status| status.term > before.term).await;
    let elected = async {
        loop {
            let leader = cluster.leader().await;
            if leader != old {
                break leader;
            }
        }
    };
    let new = tokio::time::timeout(PATIENCE, elected).await.unwrap();
    client(&cluster, new).put("key", "new").await.unwrap();

    // Reads that cannot be confirmed yet; one that asks nobody is answered after them.
    let mut reads = JoinSet::new();
    for _ in 0..8 {
        let deposed = deposed.with_deadline(Duration::from_secs(5));
        reads.spawn(async move { deposed.get("key").await });
    }
    assert_eq!(deposed.stale().get("key").await.unwrap().unwrap().bytes, "old");
    cluster.link(old, first).pass(Passing::Answers);
    unanswered.await.unwrap().unwrap();
    cluster.link(old, last).pass(Passing::Answers);
    // That there is no answer is right as well.
    for found in reads.join_all().await.into_iter().flatten() {
        assert_eq!(found.unwrap().bytes, "new");
    }

    cluster.heal();
    assert_eq!(deposed.get("key").await.unwrap().unwrap().bytes, "new");
    tokio::task::block_in_place(|| cluster.terminate());
}
