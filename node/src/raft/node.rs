//! One member of the group: write, read barrier, status, shutdown.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kv_api::KvError;
use kv_api::admin::{NodeStatus, Role};
use kv_api::transport::Dialer;
use kv_lsm::Store;
use kv_vfs::Clock;
use kv_vlog::{OnFatal, Op, Position};
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, Fatal, ForwardToLeader, LinearizableReadError, RaftError};
use openraft::storage::{Snapshot, SnapshotMeta};
use openraft::{BasicNode, Config, Raft, RaftMetrics, ReadPolicy, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::log_store::LogStore;
use super::peer::{CONTROL, Line, Peers, Receiving, SnapshotHead};
use super::retention::{Floor, LeaderFloor, Retention};
use super::state_machine::{SnapshotData, StateMachine};
use super::time::LeaderTime;
use super::types::{
    Command, Outcome, TypeConfig, VoteOfUs, decode_stored_membership, from_wire_vote, log_id, position,
    sole_voter,
};

/// How far clocks may drift while a lease is out.
const DRIFT: Duration = Duration::from_millis(100);
/// How long a peer may take to say where it stands.
const STATUS_DEADLINE: Duration = Duration::from_millis(500);
/// How long a follower may take to learn the read index and to apply up to it.
const READ_DEADLINE: Duration = Duration::from_secs(5);
/// How long a leader that stops waits for another one to take over.
const TRANSFER_DEADLINE: Duration = Duration::from_secs(2);

/// How a member takes part.
#[derive(Clone)]
pub struct NodeConfig {
    /// Its number.
    pub node_id: u64,
    /// All members of a new group with the `host:port` that others reach them by, this one included.
    pub members: BTreeMap<u64, String>,
    /// Identity of the cluster; a peer that says another one is not spoken to.
    pub cluster_id: [u8; 16],
    /// Makes connections to peers.
    pub dialer: Arc<dyn Dialer>,
    /// Says what time it is while this member leads.
    pub clock: Arc<dyn Clock>,
    /// Time between heartbeats, in ms.
    pub heartbeat_ms: u64,
    /// Bounds of the election timeout, in ms.
    pub election_timeout_ms: std::ops::Range<u64>,
    /// Log kept at most for followers, in bytes; one that is further behind gets a snapshot.
    pub retained_log_bytes: u64,
    /// Told that consensus has stopped for good: the process is of no use any more.
    pub on_fatal: OnFatal,
    /// Whether a leader that is started again goes on with its term. Never, but where a simulation shows
    /// why: see the module's rules.
    pub resume_term: bool,
}

/// See the module. Clones share the member.
#[derive(Clone)]
pub struct RaftNode {
    node_id: u64,
    raft: Raft<TypeConfig, StateMachine>,
    store: Arc<Store>,
    peers: Peers,
    /// Connections for read indexes and status, by member.
    lines: Arc<Mutex<BTreeMap<u64, Line>>>,
    /// The state that a leader is sending.
    receiving: Receiving,
    leader_floor: LeaderFloor,
    time: LeaderTime,
    /// What runs beside until the shutdown.
    workers: Arc<Mutex<Vec<AbortHandle>>>,
    /// Whether everything is applied that may have been applied before the restart.
    recovered: watch::Receiver<bool>,
    /// When votes may be given again after a restart.
    votes_from: Instant,
}

/// Has a node that finds a state without members, that of a repaired directory, be the only one.
fn adopt(config: &NodeConfig, store: &Store) -> anyhow::Result<()> {
    if store.applied().is_none() || store.membership().is_some() {
        return Ok(());
    }
    match config.members.get(&config.node_id) {
        Some(address) if config.members.len() == 1 => {
            Ok(store.adopt_membership(sole_voter(config.node_id, address)?)?)
        }
        _ => anyhow::bail!(
            "the data directory was repaired and knows no members: start it without --initial-cluster"
        ),
    }
}

impl RaftNode {
    /// Starts the member on its store; a new store begins a group of the members given. A sole voter
    /// elects itself at once rather than after an election timeout.
    pub async fn start(config: &NodeConfig, store: Arc<Store>) -> anyhow::Result<Self> {
        let raft_config = Config {
            cluster_name: "kvnode".into(),
            heartbeat_interval: config.heartbeat_ms,
            election_timeout_min: config.election_timeout_ms.start,
            election_timeout_max: config.election_timeout_ms.end,
            snapshot_policy: SnapshotPolicy::Never,
            // Nor does it purge by itself when one was taken: what is in no table must stay in the log.
            max_in_snapshot_log_to_keep: u64::MAX,
            enable_leader_restore: Some(config.resume_term),
            enable_pre_vote: Some(true),
            ..Config::default()
        };
        adopt(config, &store)?;
        // openraft reads them from the log when they are committed.
        drop(store.take_uncommitted());
        let (floor, leader_floor, receiving) =
            (Floor::of(&store), LeaderFloor::default(), Receiving::default());
        let peers =
            Peers { cluster_id: config.cluster_id, dialer: config.dialer.clone(), floor: floor.clone() };
        let raft = Raft::new(
            config.node_id,
            Arc::new(raft_config.validate()?),
            peers.clone(),
            LogStore::new(store.clone()),
            StateMachine::new(store.clone()),
        )
        .await?;
        let retention = Retention {
            raft: raft.clone(),
            store: store.clone(),
            floor,
            leader_floor: leader_floor.clone(),
            receiving: receiving.clone(),
            keep_bytes_max: config.retained_log_bytes,
        };
        let time = LeaderTime::new(store.clone(), config.clock.clone());
        let (done, recovered) = watch::channel(false);
        let mut node = Self {
            node_id: config.node_id,
            raft,
            store,
            peers,
            lines: Arc::default(),
            receiving,
            leader_floor,
            time,
            workers: Arc::default(),
            recovered,
            votes_from: Instant::now(),
        };
        if node.raft.is_initialized().await? {
            node.restart(Duration::from_millis(config.election_timeout_ms.end) + DRIFT).await?;
        } else {
            let members = config.members.iter().map(|(id, addr)| (*id, BasicNode { addr: addr.clone() }));
            // All members begin with the same entry, so that it does not matter which of them leads first.
            node.raft.initialize(members.collect::<BTreeMap<_, _>>()).await?;
        }
        let workers = [tokio::spawn(retention.run()), tokio::spawn(node.clone().reclaim())];
        node.workers.lock().extend(workers.map(|worker| worker.abort_handle()));
        tokio::spawn(tell_of_failure(node.raft.metrics(), config.on_fatal.clone()));
        let recovering = node.raft.clone();
        tokio::spawn(async move {
            match recovering.wait_for_recovery(None).await {
                Ok(_) => drop(done.send(true)),
                Err(error) => tracing::debug!(%error, "stopped before the state was recovered"),
            }
        });
        Ok(node)
    }

    /// A sole voter leads at once. Any other gives no vote and does not stand for as long as a leader may
    /// still count on what this node promised before the restart.
    async fn restart(&mut self, hold: Duration) -> anyhow::Result<()> {
        let voters: Vec<u64> = self.raft.voter_ids().collect();
        if voters == [self.node_id] {
            self.raft.trigger().elect(true).await?;
            return Ok(());
        }
        self.votes_from = Instant::now() + hold;
        self.raft.runtime_config().elect(false);
        let raft = self.raft.clone();
        tokio::spawn(async move {
            tokio::time::sleep(hold).await;
            raft.runtime_config().elect(true);
        });
        Ok(())
    }

    pub(super) fn raft(&self) -> &Raft<TypeConfig, StateMachine> {
        &self.raft
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub(super) fn time(&self) -> &LeaderTime {
        &self.time
    }

    pub(super) fn receiving(&self) -> &Receiving {
        &self.receiving
    }

    pub(super) fn leader_floor(&self) -> &LeaderFloor {
        &self.leader_floor
    }

    /// This node's vote, where it is above another one.
    pub(super) fn vote_above(&self, other: &VoteOfUs) -> Option<VoteOfUs> {
        let ours = self.metrics().vote;
        (ours.partial_cmp(other) == Some(Ordering::Greater)).then_some(ours)
    }

    /// Has what was received become the state; returns the vote that this node has then.
    pub(super) async fn install_snapshot(
        &self,
        head: SnapshotHead,
        received: kv_lsm::Receiver,
    ) -> Result<VoteOfUs, String> {
        let (vote, at) = (from_wire_vote(head.vote), Position::from(head.at));
        // openraft takes these for granted and would end the process.
        let applied = self.store.applied();
        if at.term > head.vote.term || applied.is_some_and(|old| at > old && at.index <= old.index) {
            return Err(format!(
                "a snapshot at {at:?} contradicts its vote or what is applied here, {applied:?}"
            ));
        }
        let (decided, blob) = head.membership;
        let last_membership = decode_stored_membership(decided.map(Position::from), &blob);
        let last_membership = last_membership.map_err(|error| error.to_string())?;
        let meta = SnapshotMeta { last_log_id: Some(log_id(at)), last_membership };
        let snapshot = Snapshot { meta, snapshot: SnapshotData::Received(Box::new(received), head.time) };
        let answer = self.raft.install_full_snapshot(vote, snapshot).await;
        answer.map(|answer| answer.vote).map_err(|error| error.to_string())
    }

    /// Whether votes may be given yet.
    pub(super) fn may_vote(&self) -> Result<(), String> {
        if Instant::now() < self.votes_from {
            return Err("restarted a moment ago: gives no vote yet".into());
        }
        Ok(())
    }

    /// Returns once reads of the local state see at least what they saw before the restart.
    pub async fn wait_recovered(&self) -> Result<(), KvError> {
        let mut recovered = self.recovered.clone();
        match recovered.wait_for(|recovered| *recovered).await {
            Ok(_) => Ok(()),
            Err(_) => Err(KvError::Unavailable("the node stopped before it had recovered".into())),
        }
    }

    /// Replicates and applies operations; durable on a quorum on return.
    pub async fn write(&self, ops: Vec<Op>) -> Result<Outcome, KvError> {
        let term = self.raft.metrics().borrow_watched().current_term;
        let time = self.time.stamp(term);
        match self.raft.client_write(Command { time, ops }).await {
            Ok(response) => Ok(response.data),
            Err(RaftError::APIError(error)) => Err(match error {
                ClientWriteError::ForwardToLeader(to) => not_leader(to),
                // Appended here, then replaced by another leader's log: it may be committed there.
                ClientWriteError::LogEntryDiscarded(_) => {
                    KvError::Unknown("the leader changed while the write was under way".into())
                }
                other => KvError::Invalid(other.to_string()),
            }),
            Err(RaftError::Fatal(fatal)) => Err(KvError::Unknown(format!("the node stopped: {fatal}"))),
        }
    }

    /// Returns once everything that was acknowledged before the call is applied here: on the leader, and
    /// on a follower, which asks the leader.
    pub async fn read_barrier(&self) -> Result<(), KvError> {
        let index = match self.read_index().await {
            Err(KvError::NotLeader { leader: Some((id, address)) }) if id != self.node_id => {
                let line = self.line(id, &address);
                line.call(READ_DEADLINE, |peer, context| async move { peer.read_index(context).await })
                    .await
                    .map_err(|why| KvError::Unavailable(format!("the leader does not answer: {why}")))??
                    .map(Position::from)
            }
            other => other?,
        };
        let Some(index) = index.map(|at| at.index) else { return Ok(()) };
        if self.store.applied().is_some_and(|applied| applied.index >= index) {
            return Ok(());
        }
        let wait = self.raft.wait(Some(READ_DEADLINE));
        let applied = wait.applied_index_at_least(Some(index), "a read").await;
        applied.map(drop).map_err(|error| KvError::Unavailable(error.to_string()))
    }

    /// What must be applied before a linearizable read; only the leader knows. It sees to it that log time is not behind
    /// its clock there.
    pub(super) async fn read_index(&self) -> Result<Option<Position>, KvError> {
        self.keep_time().await;
        match self.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((id, _)) => Ok(Some(position(id.log_id()))),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => Err(not_leader(to)),
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(error))) => {
                Err(KvError::Unavailable(error.to_string()))
            }
            Err(RaftError::Fatal(fatal)) => Err(KvError::Unavailable(format!("the node stopped: {fatal}"))),
        }
    }

    fn line(&self, id: u64, address: &str) -> Line {
        let mut lines = self.lines.lock();
        let make = || Line::new(self.peers.target(id, address), CONTROL);
        lines.entry(id).or_insert_with(make).clone()
    }

    fn metrics(&self) -> RaftMetrics<TypeConfig> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// Identity of the cluster.
    #[must_use]
    pub fn cluster_id(&self) -> [u8; 16] {
        self.peers.cluster_id
    }

    /// Number of this node.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.node_id
    }

    /// The leader, if known.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        self.metrics().current_leader
    }

    /// Where this member stands.
    #[must_use]
    pub fn own_status(&self) -> NodeStatus {
        let metrics = self.metrics();
        let node = metrics.membership_config.membership().get_node(&self.node_id);
        NodeStatus {
            id: self.node_id,
            addr: node.map(|node| node.addr.clone()).unwrap_or_default(),
            role: match metrics.state {
                ServerState::Leader => Role::Leader,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Learner => Role::Learner,
                ServerState::Shutdown => Role::Down,
            },
            term: metrics.current_term,
            first_log: self.store.log().state().purged.map_or(0, |at| at.index + 1),
            last_log: metrics.last_log_index.unwrap_or_default(),
            committed: self.store.log().committed_next().saturating_sub(1),
            applied: self.store.applied().map_or(0, |at| at.index),
            flushed: self.store.flushed().map_or(0, |at| at.index),
            log_time: self.store.time().into(),
        }
    }

    /// Where all members stand; one that does not answer in time is down.
    pub async fn all_status(&self) -> Vec<NodeStatus> {
        let metrics = self.metrics();
        let members = metrics.membership_config.membership().nodes();
        let asked = members.map(|(id, node)| self.status_of(*id, node.addr.clone()));
        futures::future::join_all(asked).await
    }

    async fn status_of(&self, id: u64, addr: String) -> NodeStatus {
        if id == self.node_id {
            return self.own_status();
        }
        let line = self.line(id, &addr);
        let asked = line.call(STATUS_DEADLINE, |peer, context| async move { peer.status(context).await });
        // Dialling, too, takes no longer: one node that is away must not hide where the others stand.
        match tokio::time::timeout(STATUS_DEADLINE, asked).await {
            Ok(Ok(Ok(status))) => status,
            _ => NodeStatus {
                id,
                addr,
                role: Role::Down,
                term: 0,
                first_log: 0,
                last_log: 0,
                committed: 0,
                applied: 0,
                flushed: 0,
                log_time: 0,
            },
        }
    }

    /// Has another member lead; returns once one does, or says why none does.
    pub async fn transfer_leader(&self, to: u64) -> Result<(), KvError> {
        let unavailable = |error: &dyn std::fmt::Display| KvError::Unavailable(error.to_string());
        let metrics = self.metrics();
        let members = metrics.membership_config.membership();
        if members.get_node(&to).is_none() {
            return Err(KvError::Invalid(format!("there is no node {to} in this cluster")));
        }
        match metrics.current_leader {
            Some(leader) if leader == to => return Ok(()),
            Some(leader) if leader == self.node_id => {}
            // Only the leader can.
            leader => {
                let address = |id| Some((id, members.get_node(&id)?.addr.clone()));
                return Err(KvError::NotLeader { leader: leader.and_then(address) });
            }
        }
        self.raft.trigger().transfer_leader(to).await.map_err(|error| unavailable(&error))?;
        let wait = self.raft.wait(Some(TRANSFER_DEADLINE));
        let changed = wait.current_leader(to, "leadership was handed over").await;
        changed.map(drop).map_err(|error| unavailable(&error))
    }

    /// Hands leadership to the member that has most of the log, among those that answer, if this one leads.
    pub async fn hand_over(&self) {
        let metrics = self.metrics();
        if metrics.state != ServerState::Leader {
            return;
        }
        let members = metrics.membership_config.membership();
        let others = members.voter_ids().filter(|id| *id != self.node_id);
        let others = others.filter_map(|id| Some((id, members.get_node(&id)?.addr.clone())));
        let asked = others.map(|(id, addr)| self.status_of(id, addr));
        let answers = futures::future::join_all(asked).await;
        let up = answers.into_iter().filter(|status| status.role != Role::Down);
        let Some(best) = up.max_by_key(|status| status.last_log) else { return };
        if let Err(error) = self.transfer_leader(best.id).await {
            tracing::warn!(%error, "leadership was not handed over; the others elect a leader themselves");
        }
    }

    /// Stops taking part.
    pub async fn shutdown(&self) {
        self.workers.lock().drain(..).for_each(|worker| worker.abort());
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not stop cleanly");
        }
    }
}

/// Waits until consensus stops; a shutdown is no failure.
async fn tell_of_failure(
    mut metrics: WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>,
    on_fatal: OnFatal,
) {
    loop {
        let state = metrics.borrow_watched().running_state.clone();
        match state {
            Err(Fatal::Stopped) => return,
            Err(failure) => return on_fatal(&format!("consensus has failed: {failure}")),
            Ok(()) if metrics.changed().await.is_err() => return,
            Ok(()) => {}
        }
    }
}

fn not_leader(to: ForwardToLeader<TypeConfig>) -> KvError {
    KvError::NotLeader { leader: to.leader_id.zip(to.leader_node.map(|node| node.addr)) }
}

impl std::fmt::Debug for RaftNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftNode").field("status", &self.own_status()).finish_non_exhaustive()
    }
}
