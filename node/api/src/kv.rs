//! The `Kv` service: reads and writes of keys.

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{KvError, limits::BATCH_OPS_MAX};

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
    /// As it was once the write of this revision had taken effect, where a node keeps that; `None`: as it is.
    pub at_revision: Option<Revision>,
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
    #[serde(with = "crate::beside")]
    pub value: Bytes,
    /// Version of the key.
    pub revision: Revision,
    /// Length of the whole value, in bytes.
    pub value_bytes: u64,
    /// When it goes away, in seconds since 1970 of the cluster's time; `None`: it stays.
    pub expires_at: Option<u64>,
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
        #[serde(with = "crate::beside")]
        value: Bytes,
        /// It goes away by itself when this time is over, in milliseconds: not before, and about two seconds later
        /// for linearizable reads. [`TTL_MS_MIN`](crate::limits::TTL_MS_MIN) to
        /// [`TTL_MS_MAX`](crate::limits::TTL_MS_MAX); `None`: it stays.
        ttl_ms: Option<u64>,
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
    #[serde(deserialize_with = "bounded")]
    pub checks: Vec<Check>,
    /// Changes.
    #[serde(deserialize_with = "bounded")]
    pub ops: Vec<WriteOp>,
}

/// A list of at most [`BATCH_OPS_MAX`]. Two bytes on the wire are an operation of 72 in memory: without a
/// bound, a frame of 64 MiB would unfold to 2 GiB.
fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct List<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> de::Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {BATCH_OPS_MAX} operations")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(1024));
            while let Some(item) = seq.next_element()? {
                if list.len() >= BATCH_OPS_MAX as usize {
                    return Err(de::Error::invalid_length(list.len() + 1, &self));
                }
                list.push(item);
            }
            Ok(list)
        }
    }
    deserializer.deserialize_seq(List(PhantomData))
}

impl WriteRequest {
    /// Whether it has conditions: repeating it then may give another answer.
    pub fn is_conditional(&self) -> bool {
        !self.checks.is_empty()
    }

    /// Number of operations, checks included: what `batch_ops_max` bounds.
    pub fn ops_count(&self) -> u64 {
        (self.checks.len() + self.ops.len()) as u64
    }

    /// Bytes of keys and values, those of checks included: what `batch_bytes_max` bounds.
    pub fn payload_bytes(&self) -> u64 {
        let checks = self.checks.iter().map(|check| check.key.len());
        let ops = self.ops.iter().map(|op| op.key().len() + op.value().map_or(0, Bytes::len));
        checks.chain(ops).map(|bytes| bytes as u64).sum()
    }
}

impl WriteOp {
    /// The key it changes.
    pub fn key(&self) -> &Bytes {
        match self {
            WriteOp::Put { key, .. } | WriteOp::Delete { key } => key,
        }
    }

    /// The value it sets.
    pub fn value(&self) -> Option<&Bytes> {
        match self {
            WriteOp::Put { value, .. } => Some(value),
            WriteOp::Delete { .. } => None,
        }
    }

    /// How long what it sets stays, in milliseconds.
    pub fn ttl_ms(&self) -> Option<u64> {
        match self {
            WriteOp::Put { ttl_ms, .. } => *ttl_ms,
            WriteOp::Delete { .. } => None,
        }
    }
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
    /// The keys as they were once the write of this revision had taken effect, where a node keeps that; `None`: as they
    /// are. Only the first page uses it.
    pub at_revision: Option<Revision>,
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
    #[serde(with = "crate::beside::option")]
    pub value: Option<Bytes>,
    /// When it goes away, in seconds since 1970 of the cluster's time; `None`: it stays.
    pub expires_at: Option<u64>,
}

impl Item {
    /// What it counts for in a page: key, value and [`ITEM_BYTES`](crate::limits::ITEM_BYTES). A server
    /// that fills a page while the sum stays within `page_bytes_max` (one item may exceed it alone) makes
    /// pages that fit into a frame.
    pub fn page_bytes(&self) -> u64 {
        let value = self.value.as_ref().map_or(0, Bytes::len);
        (self.key.len() + value) as u64 + crate::limits::ITEM_BYTES
    }
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
