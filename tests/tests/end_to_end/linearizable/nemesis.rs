//! What goes wrong while clients are at work.

use std::ops::Range;
use std::time::Duration;

use kv_tests::{Cluster, IDS, Link, Passing, Signal};
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tokio::task::block_in_place;

use super::clients::Shared;

/// After each fault so many calls must be answered before the next,
const CALLS_BETWEEN: u64 = 150;
/// within this time.
const PROGRESS_DEADLINE: Duration = Duration::from_secs(60);

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL to the leader; it is started again.
    KillLeader,
    /// SIGKILL to a follower; it is started again.
    KillFollower,
    /// SIGKILL to the leader and a follower: there is no quorum until they are started again.
    KillTwo,
    /// SIGKILL to all nodes at once; they are started again.
    KillAll,
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
    /// All connections between nodes are reset.
    ResetAll,
    /// The leader's syncs take long.
    SlowLeader,
    /// A follower's syncs take long.
    SlowFollower,
    /// The leader's syncs hang, so that others commit what it has not written; then it is killed.
    KillLeaderBehind,
    /// A follower's syncs hang; then it is killed together with the leader.
    KillTwoBehind,
    /// A sync of the leader fails: it ends by itself.
    FailLeader,
}

const FAULTS: [Fault; 15] = [
    Fault::KillLeader,
    Fault::KillFollower,
    Fault::KillTwo,
    Fault::KillAll,
    Fault::StopLeader,
    Fault::PauseLeader,
    Fault::IsolateLeader,
    Fault::DeafenLeader,
    Fault::MuteLeader,
    Fault::ResetAll,
    Fault::SlowLeader,
    Fault::SlowFollower,
    Fault::KillLeaderBehind,
    Fault::KillTwoBehind,
    Fault::FailLeader,
];

/// Every fault once, in random order; after each the clients must get answers again.
pub async fn round(cluster: &mut Cluster, clients: &Shared, rng: &mut StdRng) {
    let mut faults = FAULTS;
    faults.shuffle(rng);
    for fault in faults {
        let leader = cluster.leader().await;
        eprintln!("{:.3} s: {fault:?}, leader {leader}", clients.now() as f64 / 1e9);
        let follower = (leader + rng.random_range(0..2)) % IDS.end() + 1;
        Nemesis { cluster, leader, follower, rng }.inflict(fault).await;
        let progress = clients.wait_answered(clients.answered() + CALLS_BETWEEN);
        let progress = tokio::time::timeout(PROGRESS_DEADLINE, progress).await;
        cluster.assert_sound();
        assert!(progress.is_ok(), "no progress after {fault:?}");
    }
}

/// Inflicts one fault.
struct Nemesis<'a> {
    cluster: &'a mut Cluster,
    leader: u64,
    follower: u64,
    rng: &'a mut StdRng,
}

impl Nemesis<'_> {
    async fn inflict(&mut self, fault: Fault) {
        let (leader, follower) = (self.leader, self.follower);
        match fault {
            Fault::KillLeader => self.kill(&[leader], 0..2_000).await,
            Fault::KillFollower => self.kill(&[follower], 0..1_000).await,
            Fault::KillTwo => self.kill(&[leader, follower], 0..500).await,
            Fault::KillAll => {
                block_in_place(|| self.cluster.kill_all());
                block_in_place(|| self.cluster.launch_all(IDS));
            }
            Fault::StopLeader => {
                block_in_place(|| self.cluster.terminate_one(leader));
                self.hold(0..1_000).await;
                block_in_place(|| self.cluster.launch(leader));
            }
            Fault::PauseLeader => {
                self.cluster.nodes[&leader].process.signal(Signal::STOP);
                self.hold(3_000..6_000).await;
                self.cluster.nodes[&leader].process.signal(Signal::CONT);
            }
            Fault::IsolateLeader => self.limit(Passing::Nothing, Passing::Nothing).await,
            Fault::DeafenLeader => self.limit(Passing::Requests, Passing::Nothing).await,
            Fault::MuteLeader => self.limit(Passing::Nothing, Passing::All).await,
            Fault::ResetAll => self.cluster.links().for_each(Link::reset),
            Fault::SlowLeader => self.slow(leader).await,
            Fault::SlowFollower => self.slow(follower).await,
            Fault::KillLeaderBehind => {
                self.order(leader, "block .seg", "blocking");
                self.hold(0..600).await;
                self.kill(&[leader], 0..1_000).await;
            }
            Fault::KillTwoBehind => {
                self.order(follower, "block .seg", "blocking");
                self.hold(0..600).await;
                self.kill(&[leader, follower], 0..500).await;
            }
            Fault::FailLeader => self.fail_sync().await,
        }
    }

    /// Kills these and starts them again a while later.
    async fn kill(&mut self, ids: &[u64], ms: Range<u64>) {
        block_in_place(|| ids.iter().for_each(|id| self.cluster.kill(*id)));
        self.hold(ms).await;
        block_in_place(|| self.cluster.launch_all(ids.iter().copied()));
    }

    async fn limit(&mut self, dialled: Passing, dialling: Passing) {
        self.cluster.limit(self.leader, dialled, dialling);
        self.hold(2_000..4_000).await;
        if self.rng.random() {
            // What was held back is lost rather than late.
            self.cluster.links().for_each(Link::reset);
        }
        self.cluster.heal();
    }

    async fn slow(&mut self, id: u64) {
        let ms = self.rng.random_range(20..400);
        self.order(id, &format!("slow {ms} .seg"), "slow");
        self.hold(1_000..3_000).await;
        self.order(id, "slow 0 .seg", "slow");
    }

    async fn fail_sync(&mut self) {
        self.order(self.leader, "fail sync 1 .seg", "failing");
        let node = self.cluster.nodes.remove(&self.leader).unwrap();
        block_in_place(|| node.process.wait()).fails(1, &["cannot write"]);
        self.hold(0..1_000).await;
        block_in_place(|| self.cluster.launch(self.leader));
    }

    /// Has a node's disk do something.
    fn order(&mut self, id: u64, command: &str, answer: &str) {
        let node = self.cluster.nodes.get_mut(&id).unwrap();
        assert_eq!(block_in_place(|| node.process.ask(command)), answer);
    }

    /// How long the fault lasts; nothing is waited for.
    async fn hold(&mut self, ms: Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.rng.random_range(ms))).await;
    }
}
