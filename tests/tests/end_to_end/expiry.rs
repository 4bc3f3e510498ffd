//! Keys that go away by themselves, and states of before.

use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use kv_client::{CasOutcome, Client, Error, Expect, Scan};
use kv_tests::{Cluster, IDS, Launch, Node, kvadmin, programs};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the keys live that are to go.
const SHORT: Duration = Duration::from_secs(2);
/// How long the others do.
const LONG: Duration = Duration::from_secs(3_600);

/// A key that was to live for [`SHORT`].
struct Mortal {
    key: &'static str,
    /// Before it was written.
    since: Instant,
}

impl Mortal {
    async fn put(client: &Client, key: &'static str, value: impl Into<bytes::Bytes>) -> Self {
        let since = Instant::now();
        client.put_for(key, value, SHORT).await.unwrap();
        Self { key, since }
    }

    /// Reads until it is gone, which must not be too early.
    async fn is_gone(&self, client: &Client) {
        let gone = async {
            while let Some(value) = client.get(self.key).await.unwrap() {
                assert!(value.expires_at.is_some());
            }
        };
        assert!(tokio::time::timeout(PATIENCE, gone).await.is_ok(), "{} was to go", self.key);
        assert!(self.since.elapsed() >= SHORT, "{} went after {:?}", self.key, self.since.elapsed());
    }
}

fn patient(addresses: impl IntoIterator<Item = String>) -> Client {
    // Nothing here is written twice with another value.
    let builder = Client::builder().endpoints(addresses).deadline(PATIENCE);
    builder.retry_unknown_writes(true).build().unwrap()
}

async fn keys(client: &Client, scan: Scan) -> Vec<String> {
    let items: Vec<_> = client.scan(scan.keys_only()).try_collect().await.unwrap();
    items.into_iter().map(|item| String::from_utf8(item.key.to_vec()).unwrap()).collect()
}

/// Broken by: a read that does not know how late it is while nobody writes, a check that counts a key which is gone,
/// a restart that brings it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_when_its_time_is_over_also_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = Node::start(&data);
    let client = patient([node.listen.clone()]);
    client.put("stays", "v").await.unwrap();
    client.put_for("long", "v", LONG).await.unwrap();
    let inline = Mortal::put(&client, "inline", "v").await;
    let separate = Mortal::put(&client, "separate", vec![7; 70_000]).await;
    inline.is_gone(&client).await;
    separate.is_gone(&client).await;
    assert_eq!(keys(&client, Scan::all()).await, ["long", "stays"]);
    let taken = client.compare_and_set("inline", Expect::Absent, "anew").await.unwrap();
    assert!(matches!(taken, CasOutcome::Done { .. }), "{taken:?}");

    let killed = Mortal::put(&client, "killed", vec![8; 5_000]).await;
    node.kill();
    let node = Node::start(&data);
    killed.is_gone(&patient([node.listen.clone()])).await;
    let client = patient([node.listen.clone()]);
    let stopped = Mortal::put(&client, "stopped", "v").await;
    let long = client.get("long").await.unwrap().unwrap();
    node.terminate().expect(0);

    let node = Node::start(&data);
    let client = patient([node.listen.clone()]);
    stopped.is_gone(&client).await;
    assert_eq!(client.get("long").await.unwrap(), Some(long.clone()));
    assert_eq!(client.get("inline").await.unwrap().unwrap().bytes, "anew");

    let found = node.kvadmin(["get", "-o", "json", "long"]).json(0);
    assert_eq!(found["expires_at"], long.expires_at.unwrap());
    assert!(node.kvadmin(["get", "long"]).stderr.contains("it goes away at 20"));
    node.kvadmin(["put", "long", "v", "--ttl", "2h"]).expect(0);
    let listed = node.kvadmin(["scan", "-o", "json", "--prefix", "long"]).json(0);
    let left = listed[0]["expires_at"].as_u64().unwrap() - long.expires_at.unwrap();
    assert!((3_600..7_200).contains(&left), "{left}");
    node.kvadmin(["put", "k", "v", "--ttl", "200ms"]).fails(1, &["200 ms", "1000 ms"]);
    node.kvadmin(["put", "k", "v", "--ttl", "99years"]).fails(1, &["time to live", "limit"]);
    node.terminate().expect(0);
}

/// Broken by: a follower that answers by a time of its own, a new leader whose time is behind that of the one before, a
/// snapshot or a log that loses when a key goes.
#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_agree_on_what_has_gone_whoever_leads() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::new(dir.path(), &programs().kvnode).start();
    let all = patient(cluster.addresses.values().cloned());
    let of = |id: u64, cluster: &Cluster| patient([cluster.addresses[&id].clone()]);
    all.put_for("long", vec![1; 5_000], LONG).await.unwrap();
    let long = all.get("long").await.unwrap().unwrap();

    // A follower is asked: it has the leader say what time it is.
    let first = cluster.leader().await;
    let mortal = Mortal::put(&all, "read on a follower", "v").await;
    mortal.is_gone(&of(first % 3 + 1, &cluster)).await;

    // Leadership goes on, by itself and by a kill, while a key is there.
    let mortal = Mortal::put(&all, "while leadership moves", vec![2; 5_000]).await;
    let second = first % 3 + 1;
    kvadmin(&cluster.addresses[&second], ["cluster", "transfer-leader", &second.to_string()]).expect(0);
    cluster.kill(second);
    mortal.is_gone(&all).await;
    cluster.launch(second);

    let mortal = Mortal::put(&all, "while nobody runs", "v").await;
    cluster.kill_all();
    cluster.launch_all(IDS);
    for id in IDS {
        let client = of(id, &cluster);
        mortal.is_gone(&client).await;
        assert_eq!(client.get("long").await.unwrap(), Some(long.clone()), "on node {id}");
        assert_eq!(keys(&client, Scan::all()).await, ["long"], "on node {id}");
    }
    let taken = all.compare_and_set("while nobody runs", Expect::Absent, "anew").await.unwrap();
    assert!(matches!(taken, CasOutcome::Done { .. }), "{taken:?}");
    for id in IDS {
        assert!(of(id, &cluster).get("while nobody runs").await.unwrap().is_some());
    }

    cluster.terminate();
    let hashes = IDS.map(|id| {
        let node = cluster.data_dir(id);
        let check =
            ["check".as_ref(), "-o".as_ref(), "json".as_ref(), "--data-dir".as_ref(), node.as_os_str()];
        kvadmin(&cluster.addresses[&id], check).json(0)["content_hash"].to_string()
    });
    let hashes: Vec<String> = hashes.collect();
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "{hashes:?}");
}

/// Broken by: a leader that says how late it is to readers only, so that compaction never learns that something has gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_gone_leaves_the_disk_though_nobody_asks_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&dir.path().join("data"));
    let client = patient([node.listen.clone()]);
    for number in 0..10 {
        let value = vec![number; 100_000];
        client.put_for(format!("{number}"), value, SHORT).await.unwrap();
    }
    client.put("stays", "v").await.unwrap();
    let admin = client.admin().on(&node.listen);
    admin.flush().await.unwrap();
    let live =
        async || -> u64 { admin.segments().await.unwrap().iter().map(|segment| segment.live_bytes).sum() };
    let is_empty = async { while live().await > 0 {} };
    tokio::time::timeout(PATIENCE, is_empty).await.expect("what has gone is garbage");
    // Now it is quiet, and nothing is written that nobody asked for.
    assert_eq!(keys(&client, Scan::all()).await, ["stays"]);
    node.terminate().expect(0);
}

/// Broken by: a read of before that sees what came later, or what has expired since; a state that is given though a part
/// of it may be gone.
#[tokio::test(flavor = "multi_thread")]
async fn states_of_before_can_be_read_as_long_as_they_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let launch = Launch::new(&dir.path().join("data")).setting("engine.keep_versions", 20);
    let node = launch.start();
    let client = patient([node.listen.clone()]);
    client.put("a", "old").await.unwrap();
    let mortal = Mortal::put(&client, "b", vec![3; 5_000]).await;
    let before = client.get("b").await.unwrap().map(|value| value.revision);
    client.put("a", "new").await.unwrap();
    client.put("c", "v").await.unwrap();
    mortal.is_gone(&client).await;
    client.admin().on(&node.listen).flush().await.unwrap();

    let before = before.unwrap();
    assert_eq!(client.get_at("a", before).await.unwrap().unwrap().bytes, "old");
    assert_eq!(client.get_at("b", before).await.unwrap().unwrap().bytes, vec![3; 5_000]);
    assert_eq!(client.get_range_at("b", before, 4_999, 9).await.unwrap().unwrap().bytes, vec![3]);
    assert_eq!(client.get_at("c", before).await.unwrap(), None);
    assert_eq!(keys(&client, Scan::all().page_items(1).at_revision(before)).await, ["a", "b"]);
    assert_eq!(keys(&client, Scan::all()).await, ["a", "c"]);
    let text = before.to_string();
    assert_eq!(node.kvadmin(["get", "a", "--revision", &text]).expect(0), "old");
    let listed = node.kvadmin(["scan", "-o", "json", "--keys-only", "--revision", &text]).json(0);
    assert_eq!(listed.as_array().unwrap().len(), 2);

    for number in 0..30 {
        client.put("a", number.to_string()).await.unwrap();
    }
    let gone = client.get_at("a", before).await.unwrap_err();
    let Error::Compacted { oldest } = gone else { panic!("{gone:?}") };
    assert!(oldest > before);
    assert_eq!(client.get_at("a", oldest).await.unwrap().unwrap().bytes, "9");
    let listed: Result<Vec<_>, _> = client.scan(Scan::all().at_revision(before)).try_collect().await;
    assert_eq!(listed, Err(Error::Compacted { oldest }));
    let said = node.kvadmin(["get", "a", "--revision", &text]);
    said.fails(1, &[&oldest.to_string(), "engine.keep_versions"]);
    let future = client.get_at("a", u64::MAX).await.unwrap_err();
    assert!(matches!(future, Error::Invalid(_)), "{future:?}");
    node.terminate().expect(0);
}
