//! The `Admin` service: what an operator asks a node.

use serde::{Deserialize, Serialize};

use crate::KvError;

/// The role a node plays in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes writes.
    Leader,
    /// Follows the leader.
    Follower,
    /// Wants to lead.
    Candidate,
    /// Follows without a vote.
    Learner,
    /// Stopped or failed.
    Down,
}

/// One node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its number.
    pub id: u64,
    /// `host:port` of its tarpc listener.
    pub addr: String,
    /// Its role, as far as the answering node knows.
    pub role: Role,
    /// Current term.
    pub term: u64,
    /// Index of the first entry that its log still holds.
    pub first_log: u64,
    /// Index of the last entry in its log.
    pub last_log: u64,
    /// Index of the last committed entry it knows of.
    pub committed: u64,
    /// Index of the last entry applied.
    pub applied: u64,
    /// Index up to which everything is in tables.
    pub flushed: u64,
}

/// The cluster as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Cluster identity, hexadecimal.
    pub cluster_id: String,
    /// The leader, if known.
    pub leader_id: Option<u64>,
    /// All members.
    pub nodes: Vec<NodeStatus>,
}

/// What a verification of all segments found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Segments read.
    pub segments: u64,
    /// Records that are intact.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// One line for each damage: file, offset, reason.
    pub damages: Vec<String>,
}

/// One segment, as `kvadmin vlog list` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentStatus {
    /// Logical number.
    pub segment: u64,
    /// Number of the file that holds it.
    pub file: u64,
    /// Bytes of the file in use.
    pub bytes: u64,
    /// Bytes that tables point to.
    pub live_bytes: u64,
    /// Whether it is sealed.
    pub sealed: bool,
    /// First log index in it; `None`: no entry.
    pub first_index: Option<u64>,
    /// Last log index in it; `None`: no entry.
    pub last_index: Option<u64>,
}

/// What an operator asks a node.
#[tarpc::service]
pub trait Admin {
    /// The cluster as this node sees it.
    async fn cluster_status() -> Result<ClusterStatus, KvError>;
    /// Segments of this node.
    async fn segments() -> Result<Vec<SegmentStatus>, KvError>;
    /// Reads and checks every record of every segment of this node.
    async fn verify() -> Result<VerifyReport, KvError>;
    /// Has another node lead.
    async fn transfer_leader(to: u64) -> Result<(), KvError>;
    /// Writes the memtable out as a table now.
    async fn flush() -> Result<(), KvError>;
}
