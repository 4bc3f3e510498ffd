//! Three nodes: the leader is killed, then all of them, and nothing is lost.

use std::time::Duration;

use kv_client::Client;
use kv_tests::{Cluster, IDS, kvadmin, programs};

/// Keys written in each of the three parts of the test.
const KEYS: usize = 60;

fn client(endpoints: impl IntoIterator<Item = String>) -> Client {
    let deadline = Duration::from_secs(60);
    // Each key is written once and with one value: writing it twice changes nothing.
    Client::builder().endpoints(endpoints).deadline(deadline).retry_unknown_writes(true).build().unwrap()
}

fn value(number: usize) -> Vec<u8> {
    vec![number as u8; [0, 10, 2_000, 70_000, 300_000][number % 5]]
}

async fn put(client: &Client, numbers: std::ops::Range<usize>) {
    for number in numbers {
        client.put(format!("key{number:03}"), value(number)).await.unwrap();
    }
}

async fn check(client: &Client, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let found = client.get(format!("key{number:03}")).await.unwrap();
        assert!(found.is_some_and(|found| found.bytes == value(number)), "key{number:03}");
    }
}

/// Broken by: an acknowledged write that only the dead leader had, a node that forgets its vote or its log,
/// a follower that answers from an old state, a value that is changed on its way to a replica.
#[tokio::test(flavor = "multi_thread")]
async fn any_node_may_die_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::new(dir.path(), &programs().kvnode).start();
    let all = client(cluster.addresses.values().cloned());
    put(&all, 0..KEYS).await;

    let first = cluster.leader().await;
    cluster.kill(first);
    put(&all, KEYS..2 * KEYS).await;
    check(&all, 0..2 * KEYS).await;
    cluster.launch(first);
    put(&all, 2 * KEYS..3 * KEYS).await;

    cluster.kill_all();
    cluster.launch_all(IDS);
    for address in cluster.addresses.values() {
        check(&client([address.clone()]), 0..3 * KEYS).await;
    }

    let to = cluster.leader().await % 3 + 1;
    kvadmin(&cluster.addresses[&to], ["cluster", "transfer-leader", &to.to_string()]).expect(0);
    assert_eq!(cluster.leader().await, to);
    // Everyone has everything before they are stopped: a read on each went through its own log.
    for address in cluster.addresses.values() {
        check(&client([address.clone()]), 0..1).await;
    }
    cluster.terminate();
    let hashes = IDS.map(|id| {
        let node = cluster.data_dir(id);
        let check =
            ["check".as_ref(), "-o".as_ref(), "json".as_ref(), "--data-dir".as_ref(), node.as_os_str()];
        let report = kvadmin(&cluster.addresses[&id], check).json(0);
        assert_eq!(report["keys"], 3 * KEYS, "{report}");
        report["content_hash"].to_string()
    });
    let hashes: Vec<String> = hashes.collect();
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "{hashes:?}");
}
