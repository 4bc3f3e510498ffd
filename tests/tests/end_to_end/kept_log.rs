//! The log is kept for a node that is away, by all the others, and given up once nobody lacks anything.

use std::time::Duration;

use kv_tests::{Cluster, programs};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// How long a purge may take on a busy machine: a second when it is idle.
const PURGE_DEADLINE: Duration = Duration::from_secs(120);

/// Several times what is kept where nobody lacks anything.
const WRITES: u64 = 400;

fn value(number: u64) -> Vec<u8> {
    let mut bytes = vec![0; 300 << 10];
    StdRng::seed_from_u64(number).fill_bytes(&mut bytes);
    bytes
}

/// Broken by: a leader that gives up what a follower lacks, a follower that keeps less than its leader, a
/// log that stays when all are level.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_gets_entries_from_a_new_leader_and_then_the_log_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::new(dir.path(), &programs().kvnode)
        .setting("engine.log_flush_bytes", "1MiB")
        .setting("engine.segment_bytes_min", "1MiB")
        .setting("engine.segment_bytes_max", "1MiB")
        .start();
    let client = cluster.client();
    for number in 0..10 {
        client.put(number.to_string(), value(number)).await.unwrap();
    }
    let leader = cluster.leader().await;
    let away = leader % 3 + 1;
    cluster.kill(away);
    for number in 10..WRITES {
        client.put((number % 50).to_string(), value(number)).await.unwrap();
    }
    // Only the third node has what the first one lacks.
    cluster.kill(leader);
    cluster.launch(away);
    client.put("last", value(WRITES)).await.unwrap();
    // A snapshot would have brought nearly all of the writes.
    assert!(first_log(&cluster, away).await < WRITES / 2, "it came back by a snapshot, not by the log");

    cluster.launch(leader);
    let purged = async {
        for id in 1..=3 {
            while first_log(&cluster, id).await < WRITES / 2 {}
        }
    };
    tokio::time::timeout(PURGE_DEADLINE, purged).await.expect("the log goes when nobody lacks anything");
    cluster.terminate();
}

/// First entry that the log of a node holds; 0 while it does not answer.
async fn first_log(cluster: &Cluster, id: u64) -> u64 {
    let status = cluster.client().admin().on(&cluster.addresses[&id]).cluster_status().await.unwrap();
    status.nodes.into_iter().find(|node| node.id == id).unwrap().first_log
}
