//! The `Kv` service: reads and writes of keys.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::KvError;

/// Version number of a key: the log position of the write that made it. Larger is newer; unique in a
/// cluster; the same on every node.
pub type Revision = u64;

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// Sees every write acknowledged before the read began, by any node.
    #[default]
    Linearizable,
    /// Whatever the answering node has applied.
    Stale,
}

/// Asks for one value, whole or a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetRequest {
    /// The key.
    pub key: Bytes,
    /// How fresh.
    pub consistency: Consistency,
    /// Only these bytes of the value.
    pub range: Option<ByteRange>,
}

/// A part of a value; cut at the value's end, empty beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

/// A value that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetReply {
    /// The value, or the part asked for.
    pub value: Bytes,
    /// Version of the key.
    pub revision: Revision,
    /// Length of the whole value, in bytes.
    pub value_bytes: u64,
}

/// A condition on a key, as of just before the write it guards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The key.
    pub key: Bytes,
    /// What must be true of it.
    pub expect: Expect,
}

/// What a [`Check`] wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// No such key.
    Absent,
    /// The key is there with exactly this version.
    Revision(Revision),
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteOp {
    /// Sets a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Removes a key; nothing happens where there is none.
    Delete {
        /// The key.
        key: Bytes,
    },
}

/// An atomic write: if all checks hold, all operations happen, in order; else none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteRequest {
    /// Conditions.
    pub checks: Vec<Check>,
    /// Changes.
    pub ops: Vec<WriteOp>,
}

/// What became of a write. Either way the write was replicated and is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteReply {
    /// Done. Version of the first operation's key; operation `n` has this plus `n`.
    Done {
        /// See above.
        revision: Revision,
    },
    /// A check did not hold; nothing was changed.
    Refused {
        /// Which check, from 0.
        check: u32,
        /// The key's version now; `None`: there is no such key.
        current: Option<Revision>,
    },
}

/// Asks for a page of keys in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanRequest {
    /// First key of the range (inclusive); empty: from the first key.
    pub from: Bytes,
    /// End of the range (exclusive); `None`: to the last key.
    pub to: Option<Bytes>,
    /// Most items in this page; 0: as many as fit into a page.
    pub limit: u32,
    /// Leave the values out.
    pub keys_only: bool,
    /// How fresh; only the first page uses it.
    pub consistency: Consistency,
    /// From the page before: go on after it, at the same revision. `from` is then ignored.
    pub cursor: Option<Cursor>,
}

/// Where a scan goes on. Opaque to clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The server's snapshot that all pages are read from.
    pub snapshot: u64,
    /// First key of the next page.
    pub from: Bytes,
}

/// One key of a scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The key.
    pub key: Bytes,
    /// Its version.
    pub revision: Revision,
    /// Length of the value in bytes.
    pub value_bytes: u64,
    /// The value; `None` with `keys_only`.
    pub value: Option<Bytes>,
}

/// A page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanPage {
    /// Keys in order.
    pub items: Vec<Item>,
    /// How to ask for the next page; `None`: this was the last.
    pub next: Option<Cursor>,
}

/// Reads and writes of keys.
#[tarpc::service]
pub trait Kv {
    /// Reads one value; `None`: no such key.
    async fn get(request: GetRequest) -> Result<Option<GetReply>, KvError>;
    /// Writes atomically. Idempotent only where repeating all its operations is.
    async fn write(request: WriteRequest) -> Result<WriteReply, KvError>;
    /// Reads a page of a range.
    async fn scan(request: ScanRequest) -> Result<ScanPage, KvError>;
}
