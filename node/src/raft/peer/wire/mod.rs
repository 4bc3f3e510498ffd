//! What nodes say to each other. Values travel as they are stored, beside the message.

mod entry;
mod snapshot;
mod value;

use kv_vlog::Position;
use serde::{Deserialize, Serialize};

pub use entry::WireEntry;
pub use snapshot::{SnapshotBegun, SnapshotHead, SnapshotPage, WireRecord};

/// Why bytes of a peer are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(String);

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    term: u64,
    index: u64,
}

/// A vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireVote {
    /// Term voted in.
    pub term: u64,
    /// Node voted for.
    pub node: u64,
    /// Whether a quorum granted it.
    pub committed: bool,
}

/// New entries, or none: a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// The leader's vote.
    pub vote: WireVote,
    /// The entry before the new ones.
    pub previous: Option<At>,
    /// What the leader knows to be committed.
    pub committed: Option<At>,
    /// First entry that the leader's log holds.
    pub first_log: u64,
    /// The entries.
    pub entries: Vec<WireEntry>,
}

/// Answer to an [`Append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Appended {
    /// All entries are durable.
    Success,
    /// Entries up to here are durable.
    Partial(Option<At>),
    /// The entry before the new ones is another one here.
    Conflict,
    /// There is a newer leader or candidate.
    HigherVote(WireVote),
}

/// Asks for a vote, or whether one would be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// The candidate's vote.
    pub vote: WireVote,
    /// The last entry of its log.
    pub last: Option<At>,
    /// Whether the leader asked it to stand.
    pub transfer: bool,
}

/// Answer to a [`Ballot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voted {
    /// The voter's vote now.
    pub vote: WireVote,
    /// Whether it was given.
    pub granted: bool,
    /// The last entry of the voter's log.
    pub last: Option<At>,
}

/// The leader hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// The leader's vote.
    pub from: WireVote,
    /// Who is to lead.
    pub to: u64,
    /// What it must have in its log.
    pub last: Option<At>,
}

impl From<Position> for At {
    fn from(at: Position) -> Self {
        Self { term: at.term, index: at.index }
    }
}

impl From<At> for Position {
    fn from(at: At) -> Self {
        Self { term: at.term, index: at.index }
    }
}

/// What nodes ask each other.
#[tarpc::service]
pub trait Peer {
    /// Takes entries; answers once they are durable.
    async fn append(request: Append) -> Result<Appended, String>;
    /// Gives a vote, or not; durable before the answer.
    async fn vote(request: Ballot) -> Result<Voted, String>;
    /// Whether a vote would be given; changes nothing.
    async fn pre_vote(request: Ballot) -> Result<Voted, String>;
    /// Prepares to take a state, instead of any that was being taken.
    async fn begin_snapshot(head: SnapshotHead) -> Result<SnapshotBegun, String>;
    /// Takes the next page of it.
    async fn snapshot_page(page: SnapshotPage) -> Result<(), String>;
    /// Makes the pages that were taken the state, durably; answers with the vote it has.
    async fn end_snapshot(transfer: u64, pages: u64) -> Result<WireVote, String>;
    /// Stands for election at once.
    async fn transfer(request: Transfer) -> Result<(), String>;
    /// The leader's read index: what must be applied before a linearizable read.
    async fn read_index() -> Result<Option<At>, kv_api::KvError>;
    /// Where the node stands.
    async fn status() -> Result<kv_api::admin::NodeStatus, kv_api::KvError>;
}
