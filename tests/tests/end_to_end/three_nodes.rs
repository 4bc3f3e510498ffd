//! Three nodes: the leader is killed, then all of them, and nothing is lost.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use kv_client::Client;
use kv_tests::{Launch, Node, kvadmin};

/// Keys written in each of the three parts of the test.
const KEYS: usize = 60;

struct Cluster {
    /// Address of each node; of one that nobody else uses, so that its port is free again for a restart.
    addresses: BTreeMap<u64, String>,
    nodes: BTreeMap<u64, Node>,
}

impl Cluster {
    fn start(dir: &Path) -> Self {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let addresses = (1..=3).map(|id| (id, format!("127.74.{high}.{low}:{}", 7400 + id))).collect();
        let mut cluster = Self { addresses, nodes: BTreeMap::new() };
        (1..=3).for_each(|id| cluster.launch(dir, id));
        cluster
    }

    fn launch(&mut self, dir: &Path, id: u64) {
        let list: Vec<String> =
            self.addresses.iter().map(|(id, address)| format!("{id}={address}")).collect();
        let launch = Launch::new(&dir.join(format!("node{id}")))
            .listen(&self.addresses[&id])
            .arg(format!("--node-id={id}"))
            .arg(format!("--initial-cluster={}", list.join(",")));
        self.nodes.insert(id, launch.start());
    }

    fn kill(&mut self, id: u64) {
        self.nodes.remove(&id).unwrap().kill();
    }

    fn client(&self) -> Client {
        client(self.addresses.values().cloned())
    }
}

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

async fn leader(client: &Client) -> u64 {
    loop {
        if let Ok(status) = client.admin().cluster_status().await
            && let Some(leader) = status.leader_id
        {
            return leader;
        }
    }
}

/// Broken by: an acknowledged write that only the dead leader had, a node that forgets its vote or its log,
/// a follower that answers from an old state, a value that is changed on its way to a replica.
#[tokio::test(flavor = "multi_thread")]
async fn any_node_may_die_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(dir.path());
    let all = cluster.client();
    put(&all, 0..KEYS).await;

    let first = leader(&all).await;
    cluster.kill(first);
    put(&all, KEYS..2 * KEYS).await;
    check(&all, 0..2 * KEYS).await;
    cluster.launch(dir.path(), first);
    put(&all, 2 * KEYS..3 * KEYS).await;

    (1..=3).for_each(|id| cluster.kill(id));
    (1..=3).for_each(|id| cluster.launch(dir.path(), id));
    for address in cluster.addresses.values() {
        check(&client([address.clone()]), 0..3 * KEYS).await;
    }

    let to = leader(&all).await % 3 + 1;
    kvadmin(&cluster.addresses[&to], ["cluster", "transfer-leader", &to.to_string()]).expect(0);
    assert_eq!(leader(&all).await, to);
    // Everyone has everything before they are stopped: a read on each went through its own log.
    for address in cluster.addresses.values() {
        check(&client([address.clone()]), 0..1).await;
    }
    for (_, node) in std::mem::take(&mut cluster.nodes) {
        node.terminate().expect(0);
    }
    let hashes = (1..=3).map(|id: u64| {
        let node = dir.path().join(format!("node{id}"));
        let check =
            ["check".as_ref(), "-o".as_ref(), "json".as_ref(), "--data-dir".as_ref(), node.as_os_str()];
        let report = kvadmin(&cluster.addresses[&id], check).json(0);
        assert_eq!(report["keys"], 3 * KEYS, "{report}");
        report["content_hash"].to_string()
    });
    let hashes: Vec<String> = hashes.collect();
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "{hashes:?}");
}
