//! Keys, versions and what a version holds.

use std::borrow::Borrow;
use std::cmp::Ordering;

use bytes::Bytes;
use kv_vlog::{Expiry, LogTime};

/// Number of a version: the index of its log entry in the upper 48 bits, the number of the operation
/// within the entry in the lower 16. The same on all nodes.
pub type Seq = u64;

/// Longest key, in bytes.
pub const MAX_KEY: usize = 65_536;

/// What a version is, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The key was deleted.
    Tombstone = 0,
    /// The value stands beside the key.
    Inline = 1,
    /// The value stands in a segment.
    Pointer = 2,
}

/// A byte that stands for no [`Kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kind {0} is unknown")]
pub struct UnknownKind(pub u8);

impl TryFrom<u8> for Kind {
    type Error = UnknownKind;

    fn try_from(byte: u8) -> Result<Self, UnknownKind> {
        match byte {
            0 => Ok(Kind::Tombstone),
            1 => Ok(Kind::Inline),
            2 => Ok(Kind::Pointer),
            other => Err(UnknownKind(other)),
        }
    }
}

/// Where a separated value lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ValuePointer {
    /// Logical id of the segment.
    pub segment: u64,
    /// Where the record begins, in bytes from the segment's start.
    pub offset: u32,
    /// Length of the whole record in the segment, in bytes.
    pub length: u32,
    /// Length of the value itself, uncompressed, in bytes.
    pub value_bytes: u64,
}

/// What one version of a key holds, and when it goes away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The key was deleted.
    Tombstone,
    /// The value.
    Inline(Bytes, Expiry),
    /// Where the value is.
    Pointer(ValuePointer, Expiry),
}

/// What a read is as of: it sees the versions up to a number, and of those the ones that have not expired.
///
/// Invariant: of two moments of a store, the one of the higher number has no lower time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// The newest version that is seen.
    pub seq: Seq,
    /// What time it is.
    pub time: LogTime,
}

impl Moment {
    /// Whether there is a value at this moment, where the newest version that it sees holds this.
    #[must_use]
    pub fn sees(&self, slot: &Slot) -> bool {
        !slot.is_gone(self.time)
    }
}

impl Slot {
    /// The kind as stored.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Slot::Tombstone => Kind::Tombstone,
            Slot::Inline(..) => Kind::Inline,
            Slot::Pointer(..) => Kind::Pointer,
        }
    }

    /// Uncompressed length of the value, in bytes; 0 for a tombstone.
    #[must_use]
    pub fn value_bytes(&self) -> u64 {
        match self {
            Slot::Tombstone => 0,
            Slot::Inline(value, _) => value.len() as u64,
            Slot::Pointer(pointer, _) => pointer.value_bytes,
        }
    }

    /// When it goes away; a tombstone does not.
    #[must_use]
    pub fn expires(&self) -> Expiry {
        match self {
            Slot::Tombstone => Expiry::NEVER,
            Slot::Inline(_, expires) | Slot::Pointer(_, expires) => *expires,
        }
    }

    /// Whether the key is not there at this time, if this is its newest version.
    #[must_use]
    pub fn is_gone(&self, time: LogTime) -> bool {
        *self == Slot::Tombstone || self.expires().is_past(time)
    }
}

/// One version of a key. Ordered by key bytewise, then newest (highest seq) first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalKey {
    /// The user's key.
    pub key: Bytes,
    /// Which version.
    pub seq: Seq,
}

/// Order of versions: by key bytewise, then newest first.
#[must_use]
pub fn compare(a: (&[u8], Seq), b: (&[u8], Seq)) -> Ordering {
    a.0.cmp(b.0).then_with(|| b.1.cmp(&a.1))
}

impl Ord for InternalKey {
    fn cmp(&self, other: &Self) -> Ordering {
        compare((&self.key, self.seq), (&other.key, other.seq))
    }
}

impl PartialOrd for InternalKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A version named by borrowed bytes, so that looking one up copies nothing.
pub(crate) trait AsVersion {
    fn version(&self) -> (&[u8], Seq);
}

impl AsVersion for InternalKey {
    fn version(&self) -> (&[u8], Seq) {
        (&self.key, self.seq)
    }
}

impl AsVersion for (&[u8], Seq) {
    fn version(&self) -> (&[u8], Seq) {
        *self
    }
}

impl<'a> Borrow<dyn AsVersion + 'a> for InternalKey {
    fn borrow(&self) -> &(dyn AsVersion + 'a) {
        self
    }
}

impl PartialEq for dyn AsVersion + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.version() == other.version()
    }
}

impl Eq for dyn AsVersion + '_ {}

impl PartialOrd for dyn AsVersion + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn AsVersion + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.version(), other.version())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_back_and_others_are_refused() {
        for byte in 0..=u8::MAX {
            match Kind::try_from(byte) {
                Ok(kind) => assert_eq!(kind as u8, byte),
                Err(error) => assert!(byte > 2, "{error}"),
            }
        }
    }

    #[test]
    fn versions_are_ordered_by_key_then_newest_first() {
        let key = |key: &'static str, seq| InternalKey { key: Bytes::from_static(key.as_bytes()), seq };
        let sorted = [key("", 9), key("", 1), key("a", 3), key("a", 2), key("a\0", 7), key("b", 0)];
        assert!(sorted.windows(2).all(|pair| pair[0] < pair[1]));
        for a in &sorted {
            for b in &sorted {
                let (x, y): (&dyn AsVersion, &dyn AsVersion) = (a.borrow(), b.borrow());
                assert_eq!(x.cmp(y), a.cmp(b));
                assert_eq!(x == y, a == b);
            }
        }
    }
}
