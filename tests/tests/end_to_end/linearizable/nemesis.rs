//! What goes wrong while clients are at work.

use std::time::Duration;

use kv_tests::{Cluster, IDS, Passing, Signal};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tokio::task::block_in_place;

use super::clients::Shared;

/// After each fault so many calls must be answered before the next,
const CALLS_BETWEEN: u64 = 200;
/// within this time.
const PROGRESS_DEADLINE: Duration = Duration::from_secs(60);

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL to the leader; it is started again.
    KillLeader,
    /// SIGTERM to the leader; it is started again.
    StopLeader,
    /// SIGSTOP to the leader, SIGCONT later: it does not know that it slept.
    PauseLeader,
    /// Nothing passes between the leader and the others, both ways; clients still reach it.
    IsolateLeader,
    /// What the leader sends arrives; no answer comes back to it, and nobody can dial it.
    DeafenLeader,
    /// What the leader has dialled is silent; the others still reach it.
    MuteLeader,
    /// SIGKILL to all nodes at once; they are started again.
    KillAll,
    /// All connections between nodes are reset.
    ResetAll,
}

/// All of them.
pub const FAULTS: [Fault; 8] = [
    Fault::KillLeader,
    Fault::StopLeader,
    Fault::PauseLeader,
    Fault::IsolateLeader,
    Fault::DeafenLeader,
    Fault::MuteLeader,
    Fault::KillAll,
    Fault::ResetAll,
];

/// Every fault once, in random order; after each the clients must get answers again.
pub async fn round(cluster: &mut Cluster, clients: &Shared, rng: &mut StdRng) {
    let mut faults = FAULTS;
    faults.shuffle(rng);
    for fault in faults {
        let leader = cluster.leader().await;
        eprintln!("{:.3} s: {fault:?}, leader {leader}", clients.now() as f64 / 1e9);
        inflict(cluster, fault, leader, rng).await;
        let progress = clients.wait_answered(clients.answered() + CALLS_BETWEEN);
        let progress = tokio::time::timeout(PROGRESS_DEADLINE, progress).await;
        cluster.assert_sound();
        assert!(progress.is_ok(), "no progress after {fault:?}");
    }
}

async fn inflict(cluster: &mut Cluster, fault: Fault, leader: u64, rng: &mut StdRng) {
    match fault {
        Fault::KillLeader => {
            block_in_place(|| cluster.kill(leader));
            hold(rng, 0..2_000).await;
            block_in_place(|| cluster.launch(leader));
        }
        Fault::StopLeader => {
            block_in_place(|| cluster.terminate_one(leader));
            hold(rng, 0..1_000).await;
            block_in_place(|| cluster.launch(leader));
        }
        Fault::PauseLeader => {
            cluster.nodes[&leader].process.signal(Signal::STOP);
            hold(rng, 3_000..6_000).await;
            cluster.nodes[&leader].process.signal(Signal::CONT);
        }
        Fault::IsolateLeader => limit(cluster, leader, Passing::Nothing, Passing::Nothing, rng).await,
        Fault::DeafenLeader => limit(cluster, leader, Passing::Requests, Passing::Nothing, rng).await,
        Fault::MuteLeader => limit(cluster, leader, Passing::Nothing, Passing::All, rng).await,
        Fault::KillAll => {
            block_in_place(|| cluster.kill_all());
            block_in_place(|| cluster.launch_all(IDS));
        }
        Fault::ResetAll => cluster.links().for_each(kv_tests::Link::reset),
    }
}

async fn limit(cluster: &Cluster, id: u64, dialled: Passing, dialling: Passing, rng: &mut StdRng) {
    cluster.limit(id, dialled, dialling);
    hold(rng, 2_000..4_000).await;
    if rng.random() {
        // What was held back is lost rather than late.
        cluster.links().for_each(kv_tests::Link::reset);
    }
    cluster.heal();
}

/// How long the fault lasts; nothing is waited for.
async fn hold(rng: &mut StdRng, ms: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(rng.random_range(ms))).await;
}
