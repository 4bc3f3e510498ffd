//! What goes wrong, and when.

use std::time::Duration;

use kv_vfs::OpKind;
use tokio::time::{Instant, sleep};

use crate::check::LOOK_MS;
use crate::cluster::{Cluster, NODES};
use crate::net::Host;
use crate::rng::Rng;
use crate::trace::note;
use crate::workload::USERS;

/// How long a step of a slow disk may take.
const SLOW_STEP_MS: u64 = 400;
/// How long an election is waited for.
const ELECTION: Duration = Duration::from_secs(6);

/// One kind of trouble; those with `leader` meet the leader or a follower.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// A machine loses its power.
    Power { leader: bool },
    /// A machine loses its power in the middle of writing.
    PowerAtWrite { leader: bool },
    /// A disk fails from some operation on; the node ends.
    DiskError { leader: bool },
    /// The process is killed.
    Kill { leader: bool },
    /// All machines lose their power at once.
    Blackout,
    /// The leader loses its power, and the others lose theirs as soon as they have elected one of them.
    Election,
    /// A machine reaches no other one, nor is it reached.
    Isolate { leader: bool },
    /// What a machine sends is lost, what is sent to it arrives.
    Mute { leader: bool },
    /// What is sent to a machine is lost, what it sends arrives.
    Deaf { leader: bool },
    /// Two nodes do not reach each other; both reach the third one.
    Bridge,
    /// A machine's connections are reset.
    Resets { leader: bool },
    /// A disk takes its time.
    SlowDisk { leader: bool },
    /// Packets take their time.
    SlowNet,
}

/// What happens in one round: one thing, or two at once.
pub type Round = Vec<Fault>;

/// The faults of a run: those that matter most, then any.
pub fn plan(rng: &Rng, rounds: u64) -> Vec<Round> {
    let leader = true;
    let first = [Fault::Power { leader }, Fault::Isolate { leader }, Fault::Election];
    let some = || (0..rng.range(1..3)).map(|_| any(rng)).collect();
    (0..rounds).map(|round| first.get(round as usize).map_or_else(some, |fault| vec![*fault])).collect()
}

fn any(rng: &Rng) -> Fault {
    let leader = rng.one_in(2);
    match rng.range(0..14) {
        0 => Fault::Power { leader },
        1 | 2 => Fault::PowerAtWrite { leader },
        3 => Fault::Kill { leader },
        4 => Fault::Blackout,
        5 => Fault::Isolate { leader },
        6 => Fault::Mute { leader },
        7 => Fault::Deaf { leader },
        8 => Fault::Bridge,
        9 => Fault::Resets { leader },
        10 => Fault::DiskError { leader },
        11 => Fault::Election,
        12 => Fault::SlowDisk { leader },
        _ => Fault::SlowNet,
    }
}

/// Lets them happen, waits, and puts everything right again.
pub async fn strike(cluster: &mut Cluster, rng: &Rng, round: &Round) {
    for fault in round {
        sleep(rng.millis(0..800)).await;
        happen(cluster, rng, *fault).await;
    }
    sleep(rng.millis(50..6_000)).await;
    mend(cluster, rng).await;
}

async fn happen(cluster: &mut Cluster, rng: &Rng, fault: Fault) {
    let target = |cluster: &Cluster, leader| if leader { cluster.leader() } else { follower(cluster, rng) };
    note!("fault {fault:?}, node {} leads", cluster.leader());
    match fault {
        Fault::Power { leader } => cluster.lose_power(target(cluster, leader), rng.one_in(2)),
        Fault::PowerAtWrite { leader } => {
            let id = target(cluster, leader);
            cluster.disk(id).lose_power_after(rng.range(1..60));
        }
        Fault::DiskError { leader } => {
            let (id, op) =
                (target(cluster, leader), if rng.one_in(2) { OpKind::Sync } else { OpKind::Write });
            cluster.disk(id).fail(op, rng.range(1..30));
        }
        Fault::Kill { leader } => cluster.kill(target(cluster, leader)),
        Fault::Blackout => NODES.iter().for_each(|id| cluster.lose_power(*id, false)),
        Fault::Election => elect_and_forget(cluster, rng).await,
        Fault::Isolate { leader } => isolate(cluster, rng, target(cluster, leader), true, true),
        Fault::Mute { leader } => isolate(cluster, rng, target(cluster, leader), true, false),
        Fault::Deaf { leader } => isolate(cluster, rng, target(cluster, leader), false, true),
        Fault::Bridge => {
            let (a, b) = (cluster.leader(), follower(cluster, rng));
            cluster.net.cut(a, b);
            cluster.net.cut(b, a);
        }
        Fault::Resets { leader } => {
            let id = target(cluster, leader);
            for _ in 0..rng.range(1..6) {
                cluster.net.reset_some(id);
                sleep(rng.millis(1..300)).await;
            }
        }
        Fault::SlowDisk { leader } => {
            cluster.set_step_time(target(cluster, leader), 0, SLOW_STEP_MS);
        }
        Fault::SlowNet => cluster.net.set_latency(rng.millis(5..120)),
    }
}

/// Votes must be durable before they are given: with slow disks they would not be by now.
async fn elect_and_forget(cluster: &mut Cluster, rng: &Rng) {
    let old = cluster.leader();
    let voters: Vec<Host> = NODES.into_iter().filter(|id| *id != old).collect();
    voters.iter().for_each(|id| cluster.set_step_time(*id, 4 * LOOK_MS, SLOW_STEP_MS));
    cluster.lose_power(old, rng.one_in(2));
    let until = Instant::now() + ELECTION;
    while cluster.leading().is_none() && Instant::now() < until {
        sleep(Duration::from_millis(1)).await;
    }
    // Those who look on must have seen it, too.
    sleep(Duration::from_millis(LOOK_MS)).await;
    voters.iter().for_each(|id| cluster.lose_power(*id, false));
}

fn follower(cluster: &Cluster, rng: &Rng) -> Host {
    let leader = cluster.leader();
    let others: Vec<Host> = NODES.into_iter().filter(|id| *id != leader).collect();
    rng.pick(&others).unwrap_or(leader)
}

/// Cuts a node off from the others, and each client off from it or not.
fn isolate(cluster: &Cluster, rng: &Rng, id: Host, out: bool, into: bool) {
    let nodes = NODES.into_iter().filter(|other| *other != id);
    for other in nodes.chain(USERS.filter(|_| rng.one_in(2))) {
        if out {
            cluster.net.cut(id, other);
        }
        if into {
            cluster.net.cut(other, id);
        }
    }
}

/// All machines run, reach each other and are quick. Before that, now and then, a recovery is interrupted.
async fn mend(cluster: &mut Cluster, rng: &Rng) {
    note!("mended");
    cluster.net.heal();
    cluster.net.set_latency(Duration::from_millis(1));
    for id in NODES {
        cluster.mend(id);
        if !cluster.running().lock().contains_key(&id) && rng.one_in(3) {
            cluster.start_and_fail(id, rng.range(1..40)).await;
            sleep(rng.millis(0..300)).await;
        }
    }
    cluster.start_all().await;
}
