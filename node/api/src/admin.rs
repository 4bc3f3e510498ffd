//! The `Admin` service: what an operator asks a node.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::KvError;
use crate::stats::Stats;

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
    /// What time it is to the last entry applied, in seconds since 1970: by it keys expire. 0: no entry has said so.
    pub log_time: u64,
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
    /// Logical number; 0 for a file that holds none.
    pub segment: u64,
    /// Number of the file that holds it.
    pub file: u64,
    /// Bytes of the file in use.
    pub bytes: u64,
    /// Bytes that tables point to.
    pub live_bytes: u64,
    /// Whether it is no segment, but a file that held one and is kept to be written again.
    pub free: bool,
    /// Whether it is sealed.
    pub sealed: bool,
    /// Whether its values are in the file of another segment, where value GC has moved them; then `bytes` is 0.
    pub moved: bool,
    /// First log index in it; `None`: no entry.
    pub first_index: Option<u64>,
    /// Last log index in it; `None`: no entry.
    pub last_index: Option<u64>,
}

/// A collection, foreseen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcPlan {
    /// Numbers of the files that go.
    pub files: Vec<u64>,
    /// Values that are copied.
    pub values: u64,
    /// Bytes that are read.
    pub read_bytes: u64,
    /// Bytes that are written.
    pub written_bytes: u64,
    /// Bytes of the files that go.
    pub freed_bytes: u64,
    /// What the disk holds less afterwards.
    pub reclaimed_bytes: i64,
    /// What the disk holds more meanwhile.
    pub peak_bytes: u64,
}

/// A file of values, and what value GC makes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcFile {
    /// Its number.
    pub file: u64,
    /// The segment it was made for; the values of the others were moved into it.
    pub owner: u64,
    /// The segments that have their values in it.
    pub segments: Vec<u64>,
    /// Its length in bytes; 0 while it is written.
    pub bytes: u64,
    /// Bytes of values in it that tables point to.
    pub live_bytes: u64,
    /// How many these are.
    pub live_values: u64,
    /// For how long it has been complete; `None`: nobody has watched.
    pub age_ms: Option<u64>,
    /// Whether it is collected next.
    pub chosen: bool,
    /// Why, or why not.
    pub why: String,
}

/// What value GC has done since the node was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcTotals {
    /// Collections.
    pub runs: u64,
    /// Files given up.
    pub files: u64,
    /// Values copied.
    pub values: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Bytes of the files given up.
    pub freed_bytes: u64,
}

/// A file that is given up, but that somebody still reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcHeld {
    /// Its number.
    pub file: u64,
    /// The segments that had their values in it when it was given up.
    pub segments: Vec<u64>,
    /// Its length in bytes, about.
    pub bytes: u64,
    /// Who keeps it; nobody: a read that is over in a moment.
    pub pins: Vec<GcPin>,
}

/// Readers of one kind, who keep files that they may still have to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcPin {
    /// What they are, for people: `scans or iterators`, `exports or transfers`, `checkpoints`, `collections`.
    pub by: String,
    /// How many there are.
    pub count: u64,
}

/// What value GC would do, and why not more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcStatus {
    /// Whether it is paused.
    pub paused: bool,
    /// Whether any garbage goes, because room is short or because that was asked.
    pub emergency: bool,
    /// The next collection, if there is one.
    pub plan: Option<GcPlan>,
    /// All files of values.
    pub files: Vec<GcFile>,
    /// Files that are given up, but that somebody still reads.
    pub held: Vec<GcHeld>,
    /// Who reads now: they would keep any file that was given up now.
    pub pins: Vec<GcPin>,
    /// Open snapshots of different moments. They keep no file: what they see stays live.
    pub snapshots: u64,
    /// What was done.
    pub totals: GcTotals,
    /// What made it wait last.
    pub last_error: Option<String>,
}

/// A collection that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcRun {
    /// What was foreseen.
    pub plan: GcPlan,
    /// What was done.
    pub done: GcTotals,
}

/// What a verification of all tables found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablesReport {
    /// Tables read.
    pub tables: u64,
    /// Bytes read.
    pub bytes: u64,
    /// One line for each damaged table: file, offset, reason.
    pub damages: Vec<String>,
}

/// Tables, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSum {
    /// How many.
    pub tables: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Versions in them.
    pub entries: u64,
}

/// A compaction that was asked for: all tables of the node, before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactReport {
    /// Number of the node.
    pub node_id: u64,
    /// Before, memtables written out.
    pub before: TableSum,
    /// After.
    pub after: TableSum,
}

/// A checkpoint that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointReport {
    /// Number of the node.
    pub node_id: u64,
    /// The directory, on the node's machine.
    pub dir: String,
    /// Files in it.
    pub files: u64,
    /// Their bytes; most of them are those of the node's own files, under a second name.
    pub bytes: u64,
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
    /// What value GC would do; with `any_garbage`, if any garbage had to go.
    async fn gc_status(any_garbage: bool) -> Result<GcStatus, KvError>;
    /// Collects any garbage now, until nothing is gained.
    async fn gc_run() -> Result<Vec<GcRun>, KvError>;
    /// Has value GC not run by itself, or run again; until the node ends.
    async fn gc_pause(paused: bool) -> Result<(), KvError>;
    /// Sizes and counters of the node's store.
    async fn stats() -> Result<Stats, KvError>;
    /// Compacts the tables of this node in a range of keys, `to` exclusive, down to one level. Goes on to its end, whoever
    /// waits for it.
    async fn compact(from: Bytes, to: Option<Bytes>) -> Result<CompactReport, KvError>;
    /// Makes a copy of this node's store in a new directory on its machine: an absolute path, to nothing that is there yet,
    /// on the file system of the data directory and outside it. Goes on to its end, whoever waits for it.
    async fn checkpoint(dir: String) -> Result<CheckpointReport, KvError>;
    /// Reads and checks every block of every table of this node.
    async fn verify_tables() -> Result<TablesReport, KvError>;
}
