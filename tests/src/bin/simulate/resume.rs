//! Why a leader must not go on with its term after a restart.
//!
//! An entry is sent to the followers when it is submitted, before the leader's own disk has it. A leader that is
//! killed in between and goes on with its term gives the number of that entry to another one, and who has
//! the first takes it for the second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kv_client::Client;
use kv_vfs::Vfs;
use kvnode::service::Shared;
use tokio::time::sleep;

use crate::check;
use crate::cluster::{Cluster, NODES, address};
use crate::net::{Host, Net};
use crate::rng::Rng;

/// How long a step of the leader's disk takes: longer than an entry takes to a follower and its disk.
const SLOW_MS: u64 = 400;

/// Kills a leader between sending an entry and writing it; returns the disks after everybody has come to the
/// same entry again.
pub async fn kill_a_leader_before_its_write(seed: u64, resume_term: bool) -> BTreeMap<Host, Arc<dyn Vfs>> {
    let net = Net::new(Rng::new(seed, "net"));
    let mut cluster = Cluster::new(seed, net.clone());
    cluster.resume_term = resume_term;
    cluster.start_all().await;
    let client = client(&net);
    put(&client, "before").await;

    let leader = cluster.leader();
    let [has_it, has_it_not] = followers(leader);
    net.cut(leader, has_it_not);
    cluster.set_step_time(leader, SLOW_MS, SLOW_MS);
    // Steps that began before this are over.
    sleep(Duration::from_millis(10)).await;
    let end = durable_next(&cluster, has_it);
    let writing = tokio::spawn({
        let client = client.clone();
        async move { client.put("key", "first").await }
    });
    while durable_next(&cluster, has_it) == end {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(durable_next(&cluster, leader), end, "the leader's disk was not slow enough");
    assert_eq!(durable_next(&cluster, has_it_not), end, "nothing was to arrive there");
    cluster.kill(leader);
    writing.abort();

    net.heal();
    cluster.start_all().await;
    put(&client, "second").await;
    check::converge(cluster.running()).await;
    cluster.stop().await
}

fn followers(leader: Host) -> [Host; 2] {
    match leader {
        1 => [2, 3],
        2 => [1, 3],
        _ => [1, 2],
    }
}

fn durable_next(cluster: &Cluster, id: Host) -> u64 {
    let next = |node: &Arc<Shared>| node.store.log().durable_next();
    cluster.running().lock().get(&id).map_or(0, next)
}

#[expect(clippy::expect_used, reason = "it has endpoints")]
fn client(net: &Net) -> Client {
    let endpoints = Client::builder().endpoints(NODES.map(address)).seed(0);
    endpoints.deadline(Duration::from_secs(30)).dialer(net.start(11)).build().expect("a client")
}

#[expect(clippy::expect_used, reason = "two of three nodes run")]
async fn put(client: &Client, value: &'static str) {
    client.put("key", value).await.expect("a write");
}
