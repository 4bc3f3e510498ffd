//! What the tree of a memtable is ordered by.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::{Bound, Deref};

use bytes::Bytes;

use crate::key::{AsVersion, Seq, Slot, compare};

/// Longest key that stands in its entry.
pub(super) const SHORT_KEY_BYTES: usize = 23;

pub(super) type Tree = BTreeMap<Version, Slot>;

/// A key of the tree.
#[derive(Clone, Debug)]
pub(super) enum Key {
    /// In the entry, so that looking for a place follows no pointer to it: the bytes, zeroes up to the last
    /// byte, and in that the length. Short keys are ordered as these 24 bytes are.
    Short([u8; SHORT_KEY_BYTES + 1]),
    Long(Bytes),
}

/// What the tree is ordered by: the key, then the newest version first.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub key: Key,
    pub seq: Seq,
}

impl Key {
    /// The key, if it is a short one.
    pub(super) fn short(key: &[u8]) -> Option<Self> {
        let mut bytes = [0; SHORT_KEY_BYTES + 1];
        bytes.get_mut(..key.len()).filter(|_| key.len() <= SHORT_KEY_BYTES)?.copy_from_slice(key);
        if let Some(len) = bytes.last_mut() {
            *len = key.len() as u8;
        }
        Some(Self::Short(bytes))
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Key::Short(bytes) => {
                let len = bytes.last().copied().unwrap_or_default();
                bytes.get(..usize::from(len)).unwrap_or_default()
            }
            Key::Long(key) => key,
        }
    }
}

impl AsVersion for Version {
    fn version(&self) -> (&[u8], Seq) {
        (&self.key, self.seq)
    }
}

impl<'a> Borrow<dyn AsVersion + 'a> for Version {
    fn borrow(&self) -> &(dyn AsVersion + 'a) {
        self
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.key, &other.key) {
            (Key::Short(a), Key::Short(b)) => words(a).cmp(words(b)).then_with(|| other.seq.cmp(&self.seq)),
            _ => compare(self.version(), other.version()),
        }
    }
}

/// A short key as numbers, in the order that its bytes have: three comparisons instead of a call.
fn words(short: &[u8; SHORT_KEY_BYTES + 1]) -> impl Iterator<Item = u64> {
    short.as_chunks().0.iter().map(|word| u64::from_be_bytes(*word))
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

/// The versions from this one on.
pub(super) fn from<'a>(tree: &'a Tree, key: &[u8], seq: Seq) -> Range<'a, Version, Slot> {
    match Key::short(key) {
        Some(key) => tree.range(Version { key, seq }..),
        None => {
            let at: &dyn AsVersion = &(key, seq);
            tree.range::<dyn AsVersion, _>((Bound::Included(at), Bound::Unbounded))
        }
    }
}

/// The versions before this one.
pub(super) fn before<'a>(tree: &'a Tree, key: &[u8], seq: Seq) -> Range<'a, Version, Slot> {
    match Key::short(key) {
        Some(key) => tree.range(..Version { key, seq }),
        None => {
            let at: &dyn AsVersion = &(key, seq);
            tree.range::<dyn AsVersion, _>((Bound::Unbounded, Bound::Excluded(at)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_key_takes_no_more_room_than_a_long_one() {
        assert_eq!(size_of::<Key>(), size_of::<Bytes>());
    }

    #[test]
    fn keys_around_the_longest_short_one_are_in_order() {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for len in [0, 1, 2, 21, 22, 23, 24, 25, 40] {
            for (fill, last) in [(0, 0), (0, 1), (b'a', 0), (b'a', b'a'), (b'a', 255), (255, 23), (255, 255)]
            {
                let mut key = vec![fill; len];
                key.last_mut().into_iter().for_each(|byte| *byte = last);
                keys.push(key);
            }
        }
        let of = |key: &[u8]| Key::short(key).unwrap_or_else(|| Key::Long(Bytes::copy_from_slice(key)));
        for a in &keys {
            assert_eq!(*of(a), **a);
            assert_eq!(matches!(of(a), Key::Short(_)), a.len() <= 23);
            for b in &keys {
                for (x, y) in [(1, 1), (1, 2), (2, 1)] {
                    let (one, two) = (Version { key: of(a), seq: x }, Version { key: of(b), seq: y });
                    assert_eq!(one.cmp(&two), compare((a, x), (b, y)), "{a:?} {x}, {b:?} {y}");
                    assert_eq!(one == two, a == b && x == y);
                }
            }
        }
    }
}
