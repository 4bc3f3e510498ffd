//! What a call ends with when it does not succeed.

use kv_api::{KvError, Limit, kv::Revision};

/// Why a call failed. For a write the first question is [`may_have_happened`](Error::may_have_happened).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection to any endpoint until the deadline. Nothing happened.
    #[error("cannot reach {}: {last}", endpoints.join(", "))]
    Unreachable {
        /// The endpoints that were tried.
        endpoints: Vec<String>,
        /// What the last try ended with.
        last: String,
    },
    /// Something listens there, but it is not a kvnode. Nothing happened.
    #[error("{endpoint} answers, but is no kvnode ({reason})")]
    NotKvnode {
        /// Where.
        endpoint: String,
        /// What it said.
        reason: String,
    },
    /// A kvnode of another version: update one side. Nothing happened.
    #[error("{endpoint} speaks protocol version {theirs}, this client {ours}")]
    VersionMismatch {
        /// Where.
        endpoint: String,
        /// The client's version.
        ours: u16,
        /// The newest version the node speaks.
        theirs: u16,
    },
    /// The endpoint belongs to another cluster than the first one this client met. Nothing happened.
    #[error("{endpoint} belongs to another cluster")]
    ForeignCluster {
        /// Where.
        endpoint: String,
    },
    /// The deadline passed.
    #[error("deadline exceeded{}; last: {last}", if *may_have_happened { " (the write may have happened)" } else { "" })]
    Deadline {
        /// Whether a write was on its way.
        may_have_happened: bool,
        /// What the last try ended with.
        last: String,
    },
    /// Over a limit: make it smaller. Nothing happened.
    #[error("{limit} too large: {actual} over the limit of {max}")]
    TooLarge {
        /// Which limit.
        limit: Limit,
        /// Its value.
        max: u64,
        /// What the request has.
        actual: u64,
    },
    /// The request makes no sense as it is. Nothing happened.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The node has tried, and it cannot be done as things are.
    #[error("failed: {0}")]
    Failed(String),
    /// Damaged data on the node.
    #[error("damaged data: {0}")]
    Corrupt(String),
    /// The state of so long ago is not kept any more by the node that was asked.
    #[error(
        "the state as of that revision is not kept any more; the oldest that is, is of revision {oldest}"
    )]
    Compacted {
        /// The oldest revision as of which that node can read.
        oldest: Revision,
    },
    /// The scan took too long between two pages: start it again.
    #[error("the snapshot of this scan is gone; start it again")]
    SnapshotExpired,
    /// The write may or may not have happened, and may still happen.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The node could not read the request, or this client not the answer. No write happened (one that may
    /// have ends as [`Unknown`](Error::Unknown)).
    #[error("{endpoint} and this client do not understand each other: {what}")]
    Protocol {
        /// Where.
        endpoint: String,
        /// What was wrong.
        what: String,
    },
}

impl Error {
    /// Whether the write that failed may have been done, or may still be. `false` is certain.
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Error::Unknown(_) | Error::Deadline { may_have_happened: true, .. })
    }

    /// Whether no node could be talked to at all.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Error::Unreachable { .. }
                | Error::NotKvnode { .. }
                | Error::VersionMismatch { .. }
                | Error::ForeignCluster { .. }
        )
    }

    /// An answer that ends the call.
    pub(crate) fn from_answer(error: KvError) -> Self {
        match error {
            KvError::TooLarge { limit, max, actual } => Error::TooLarge { limit, max, actual },
            KvError::Invalid(what) => Error::Invalid(what),
            KvError::Failed(what) => Error::Failed(what),
            KvError::Corrupt(what) => Error::Corrupt(what),
            KvError::Compacted { oldest } => Error::Compacted { oldest },
            KvError::SnapshotExpired => Error::SnapshotExpired,
            KvError::Unknown(what) => Error::Unknown(what),
            // These are repeated until the deadline.
            other @ (KvError::NotLeader { .. } | KvError::Busy { .. } | KvError::Unavailable(_)) => {
                Error::Deadline { may_have_happened: false, last: other.to_string() }
            }
        }
    }

    /// This error, when an earlier try of the same write may have gone through.
    pub(crate) fn after_unknown(self) -> Self {
        match self {
            Error::Unknown(_) => self,
            Error::Deadline { last, .. } => Error::Deadline { may_have_happened: true, last },
            other => Error::Unknown(format!("{other}; the write may have gone through")),
        }
    }
}
