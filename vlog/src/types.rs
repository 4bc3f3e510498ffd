//! What the log holds, in memory.

use std::time::Duration;

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

/// Time as the log tells it, in seconds since 1970: it comes with entries, from the clock of whoever proposed them, and
/// whoever applies them never lets it go back. Good until 2106.
pub type LogTime = u32;

/// The log time from which on a value is not there any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expiry(LogTime);

impl Expiry {
    /// It stays.
    pub const NEVER: Self = Self(0);

    /// It is gone at this time.
    #[must_use]
    pub fn at(time: LogTime) -> Self {
        Self(time.max(1))
    }

    /// When this time is over, counted from some moment of the second `now`: not before, and up to two seconds later.
    #[must_use]
    pub fn after(now: LogTime, time: Duration) -> Self {
        let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).saturating_add(1);
        Self::at(now.saturating_add(LogTime::try_from(seconds).unwrap_or(LogTime::MAX)))
    }

    /// As stored: 0 for never.
    #[must_use]
    pub fn from_stored(seconds: u32) -> Self {
        Self(seconds)
    }

    /// As stored: 0 for never.
    #[must_use]
    pub fn stored(self) -> u32 {
        self.0
    }

    /// When; `None`: never.
    #[must_use]
    pub fn time(self) -> Option<LogTime> {
        (self != Self::NEVER).then_some(self.0)
    }

    /// Whether it is gone at this time.
    #[must_use]
    pub fn is_past(self, now: LogTime) -> bool {
        self.time().is_some_and(|time| time <= now)
    }
}

/// One log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the log.
    pub at: Position,
    /// What time it was when it was proposed; 0: it does not say.
    pub time: LogTime,
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
        /// When it goes away.
        expires: Expiry,
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
