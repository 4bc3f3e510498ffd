//! One member of the group: write, read barrier, status, shutdown.

use std::collections::BTreeMap;
use std::sync::Arc;

use kv_api::KvError;
use kv_api::admin::Role;
use kv_lsm::Store;
use kv_vlog::Op;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError};
use openraft::{BasicNode, Config, Raft, ReadPolicy, ServerState, SnapshotPolicy};

use tokio::sync::watch;

use super::log_store::LogStore;
use super::network::NoPeers;
use super::state_machine::StateMachine;
use super::types::{Command, Outcome, TypeConfig};

/// How a member takes part.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its number.
    pub node_id: u64,
    /// `host:port` that others reach it by.
    pub address: String,
    /// Time between heartbeats, in ms.
    pub heartbeat_ms: u64,
    /// Bounds of the election timeout, in ms.
    pub election_timeout_ms: std::ops::Range<u64>,
}

/// Where a member stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftStatus {
    /// The leader, if known.
    pub leader: Option<u64>,
    /// This member's role.
    pub role: Role,
    /// Current term.
    pub term: u64,
    /// Index of the last entry of its log; 0 if there is none.
    pub last_log: u64,
    /// Members and their addresses.
    pub members: BTreeMap<u64, String>,
}

/// See the module. Clones share the member.
#[derive(Clone)]
pub struct RaftNode {
    raft: Raft<TypeConfig, StateMachine>,
    /// Whether everything is applied that may have been applied before the restart.
    recovered: watch::Receiver<bool>,
}

impl RaftNode {
    /// Starts the member on its store; a new store begins a group of one. A sole voter elects itself at
    /// once rather than after an election timeout.
    pub async fn start(config: &NodeConfig, store: Arc<Store>) -> anyhow::Result<Self> {
        let raft_config = Config {
            cluster_name: "kvnode".into(),
            heartbeat_interval: config.heartbeat_ms,
            election_timeout_min: config.election_timeout_ms.start,
            election_timeout_max: config.election_timeout_ms.end,
            snapshot_policy: SnapshotPolicy::Never,
            // Never resume a term after a restart: see the module's rules.
            enable_leader_restore: Some(false),
            enable_pre_vote: Some(true),
            ..Config::default()
        };
        let raft = Raft::new(
            config.node_id,
            Arc::new(raft_config.validate()?),
            NoPeers,
            LogStore::new(store.clone()),
            StateMachine::new(store),
        )
        .await?;
        if raft.is_initialized().await? {
            let voters: Vec<u64> = raft.voter_ids().collect();
            if voters == [config.node_id] {
                raft.trigger().elect(true).await?;
            }
        } else {
            let node = BasicNode { addr: config.address.clone() };
            raft.initialize(BTreeMap::from([(config.node_id, node)])).await?;
        }
        let (done, recovered) = watch::channel(false);
        let recovering = raft.clone();
        tokio::spawn(async move {
            match recovering.wait_for_recovery(None).await {
                Ok(_) => drop(done.send(true)),
                Err(error) => tracing::debug!(%error, "stopped before the state was recovered"),
            }
        });
        Ok(Self { raft, recovered })
    }

    /// Returns once reads of the local state see at least what they saw before the restart.
    pub async fn wait_recovered(&self) -> Result<(), KvError> {
        let mut recovered = self.recovered.clone();
        match recovered.wait_for(|recovered| *recovered).await {
            Ok(_) => Ok(()),
            Err(_) => Err(KvError::Unavailable("the node stopped before it had recovered".into())),
        }
    }

    /// Replicates and applies operations; durable on return.
    pub async fn write(&self, ops: Vec<Op>) -> Result<Outcome, KvError> {
        match self.raft.client_write(Command { ops }).await {
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

    /// Returns once everything that was acknowledged before the call is applied here.
    pub async fn read_barrier(&self) -> Result<(), KvError> {
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => Err(not_leader(to)),
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(error))) => {
                Err(KvError::Unavailable(error.to_string()))
            }
            Err(RaftError::Fatal(fatal)) => Err(KvError::Unavailable(format!("the node stopped: {fatal}"))),
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> RaftStatus {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        RaftStatus {
            leader: metrics.current_leader,
            role: match metrics.state {
                ServerState::Leader => Role::Leader,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Learner => Role::Learner,
                ServerState::Shutdown => Role::Down,
            },
            term: metrics.current_term,
            last_log: metrics.last_log_index.unwrap_or_default(),
            members: membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
        }
    }

    /// Stops taking part.
    pub async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not stop cleanly");
        }
    }
}

fn not_leader(to: ForwardToLeader<TypeConfig>) -> KvError {
    KvError::NotLeader { leader: to.leader_id.zip(to.leader_node.map(|node| node.addr)) }
}

impl std::fmt::Debug for RaftNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftNode").field("status", &self.status()).finish()
    }
}
