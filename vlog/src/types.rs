//! What the log holds, in memory.

use bytes::Bytes;

use crate::value::StoredValue;

/// Where an entry stands in the log: who proposed it and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Term of the leader that proposed it.
    pub term: u64,
    /// Its number; consecutive.
    pub index: u64,
}

/// Where a value record lies. Names a *logical* segment: which file holds it may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer {
    /// Logical segment.
    pub segment: u64,
    /// Offset of the record in the segment, in bytes.
    pub offset: u32,
    /// Length of the record: header, key and stored bytes.
    pub length: u32,
}

/// A vote of this node, as consensus wants it kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Term voted in.
    pub term: u64,
    /// Node voted for, if any.
    pub node: Option<u64>,
    /// Whether a quorum granted it.
    pub committed: bool,
}

/// One log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the log.
    pub at: Position,
    /// What it says.
    pub payload: Payload,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing; a new leader begins with one.
    Blank,
    /// Operations, all or none of which take effect. At most 65,535.
    Ops(Vec<Op>),
    /// A membership of the group; opaque here.
    Membership(Bytes),
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its value, or where it lies.
        value: OpValue,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Unless this holds, no operation of the entry takes effect.
    Check {
        /// The key.
        key: Bytes,
        /// What must be true of it just before the entry is applied.
        expect: Expect,
    },
}

/// Condition of a [`Op::Check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key is not there.
    Absent,
    /// The key's newest version has exactly this sequence number.
    Seq(u64),
}

/// The value of a [`Op::Put`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpValue {
    /// The value itself, as stored.
    Full(StoredValue),
    /// Where it lies: what applying an entry sees of a large value.
    At {
        /// Its record.
        pointer: Pointer,
        /// Uncompressed length in bytes.
        value_bytes: u64,
    },
}

/// A value record in a segment of values, where none belongs to a log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueRecord {
    /// Where it begins, in bytes from the start of what it was read from.
    pub offset: u32,
    /// Its length in bytes: header, key and stored bytes.
    pub length: u32,
    /// The version of the key.
    pub seq: u64,
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: StoredValue,
}

/// Sequence number of operation `op` of the entry at `index`: the version of the key it writes.
///
/// 48 bits of index (2.8e14 entries), 16 bits of operation. Numbers of later operations are larger.
#[must_use]
pub fn seq_of(index: u64, op: u16) -> u64 {
    (index << 16) | u64::from(op)
}

impl Op {
    /// The key it is about.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            Op::Put { key, .. } | Op::Delete { key } | Op::Check { key, .. } => key,
        }
    }
}

impl Payload {
    /// The operations; none for the other kinds.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        match self {
            Payload::Ops(ops) => ops,
            Payload::Blank | Payload::Membership(_) => &[],
        }
    }
}
