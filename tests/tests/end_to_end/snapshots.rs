//! A node that was away for longer than the log is kept comes back by a snapshot.

use std::time::Duration;

use kv_client::Client;
use kv_tests::{Cluster, kvadmin, programs};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// How long a purge may take on a busy machine: a second when it is idle.
const PURGE_DEADLINE: Duration = Duration::from_secs(120);
const KIB: usize = 1 << 10;
/// Long and short values, so that some stay in segments and some are in tables.
const SIZES: [usize; 4] = [100, 2 * KIB, 40 * KIB, 300 * KIB];

fn key(number: usize) -> String {
    format!("key{:04}", number % 400)
}

/// Does not compress: the log is to grow.
fn value(number: usize) -> Vec<u8> {
    let mut bytes = vec![0; SIZES[number % SIZES.len()]];
    StdRng::seed_from_u64(number as u64).fill_bytes(&mut bytes);
    bytes
}

/// Broken by: a snapshot that lacks a key or brings back a deleted one, entries after it that do not fit, a
/// purge that waits for the node that is away, an installation that a crash undoes or halves.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_for_long_gets_the_state_while_writes_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::new(dir.path(), &programs().kvnode)
        .setting("raft.retained_log_bytes", "2MiB")
        .setting("engine.log_flush_bytes", "1MiB")
        .setting("engine.segment_bytes_min", "1MiB")
        .setting("engine.segment_bytes_max", "1MiB")
        .start();
    let client = cluster.client();
    for number in 0..40 {
        client.put(key(number), value(number)).await.unwrap();
    }
    let away = cluster.leader().await % 3 + 1;
    cluster.kill(away);
    for number in 40..600 {
        client.put(key(number), value(number)).await.unwrap();
    }
    client.delete(key(407)).await.unwrap();
    // The log does not wait for the node that is away.
    let leader = cluster.leader().await;
    let purged = async { while first_log(&cluster, leader).await < 300 {} };
    tokio::time::timeout(PURGE_DEADLINE, purged)
        .await
        .expect("the log is purged beyond the node that is away");

    cluster.launch(away);
    for number in 600..800 {
        client.put(key(number), value(number)).await.unwrap();
    }
    // It answers from its own state, which it has got from the leader.
    let alone = Client::builder().endpoints([&cluster.addresses[&away]]).build().unwrap();
    for number in 400..800 {
        let found = alone.get(key(number)).await.unwrap().map(|found| found.bytes.to_vec());
        let expected = (number != 407).then(|| value(number));
        assert!(found == expected, "{}", key(number));
    }
    // Installed durably: a crash right after leaves it all there.
    cluster.kill(away);
    cluster.launch(away);
    assert!(alone.get(key(500)).await.unwrap().is_some_and(|found| found.bytes == value(500)));
    assert!(first_log(&cluster, away).await > 40, "it came back by the log, not by a snapshot");

    cluster.terminate();
    let hashes: Vec<String> = (1..=3)
        .map(|id| {
            let data_dir = cluster.data_dir(id);
            let check = ["check", "-o", "json", "--data-dir", data_dir.to_str().unwrap()];
            kvadmin(&cluster.addresses[&id], check).json(0)["content_hash"].to_string()
        })
        .collect();
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "{hashes:?}");
}

/// First entry that the log of a node holds.
async fn first_log(cluster: &Cluster, id: u64) -> u64 {
    let status = cluster.client().admin().on(&cluster.addresses[&id]).cluster_status().await.unwrap();
    status.nodes.into_iter().find(|node| node.id == id).unwrap().first_log
}
