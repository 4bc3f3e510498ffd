//! Errors that cross the wire. Each answers: what does the caller do?

use serde::{Deserialize, Serialize};

/// A limit of [`Limits`](crate::Limits) that a request broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// `key_bytes_max`
    Key,
    /// `value_bytes_max`
    Value,
    /// `batch_bytes_max`
    BatchBytes,
    /// `batch_ops_max`
    BatchOps,
    /// `frame_bytes_max`
    Frame,
    /// [`TTL_MS_MAX`](crate::limits::TTL_MS_MAX)
    Ttl,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Limit::Key => "key",
            Limit::Value => "value",
            Limit::BatchBytes => "batch",
            Limit::BatchOps => "number of operations in a batch",
            Limit::Frame => "frame",
            Limit::Ttl => "time to live in milliseconds",
        })
    }
}

/// What a node answers when it cannot do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum KvError {
    /// Ask the leader instead. Nothing happened.
    #[error("not the leader{}", match leader { Some((id, addr)) => format!("; node {id} at {addr} is"), None => "; there is none at the moment".into() })]
    NotLeader {
        /// Number and address of the leader, if known.
        leader: Option<(u64, String)>,
    },
    /// Change the request: nothing happened, and nothing will.
    #[error("{limit} too large: {actual} over the limit of {max}")]
    TooLarge {
        /// Which limit.
        limit: Limit,
        /// Its value.
        max: u64,
        /// What the request has.
        actual: u64,
    },
    /// Change the request: it makes no sense as it is.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// Try again later: nothing happened.
    #[error("busy; retry after {retry_after_ms} ms")]
    Busy {
        /// When to try again.
        retry_after_ms: u32,
    },
    /// Start the scan again: the snapshot of its pages is gone.
    #[error("the snapshot of this scan is gone; start it again")]
    SnapshotExpired,
    /// The write may or may not have happened, and may still happen.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// Bytes on disk are damaged. Text names file, offset, reason and the command that helps.
    #[error("damaged data: {0}")]
    Corrupt(String),
    /// This node cannot serve now: starting, stopping, or failed. Nothing happened.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// It was tried and cannot be done as things are: no room, a file system that refuses. Text says why.
    #[error("failed: {0}")]
    Failed(String),
    /// Read a later state: the one asked for is not kept any more by this node.
    #[error(
        "the state as of that revision is not kept any more; the oldest that is, is of revision {oldest}"
    )]
    Compacted {
        /// The oldest revision as of which this node can read.
        oldest: u64,
    },
}
