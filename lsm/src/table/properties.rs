//! What a table says of itself.

use kv_vfs::varint;

use super::expiries::{Expiries, ExpiryTally};
use super::input::Input;
use super::refs::RefsBuilder;
use crate::key::{MAX_KEY, Seq, Slot};

/// Counts, bounds and sizes of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Versions of all kinds. Invariant: at least 1.
    pub entries: u64,
    /// Versions that delete.
    pub tombstones: u64,
    /// Versions whose value is in a segment.
    pub pointers: u64,
    /// Different user keys.
    pub keys: u64,
    /// Lowest seq.
    pub seq_min: Seq,
    /// Highest seq.
    pub seq_max: Seq,
    /// Smallest user key.
    pub smallest: Vec<u8>,
    /// Largest user key (inclusive).
    pub largest: Vec<u8>,
    /// Length of all keys, counted with each version, in bytes.
    pub key_bytes: u64,
    /// Length of all inline values, in bytes.
    pub inline_bytes: u64,
    /// Uncompressed length of all values pointed to, in bytes.
    pub value_bytes: u64,
    /// Data blocks.
    pub blocks: u64,
    /// Length of all data blocks before compression, in bytes.
    pub block_bytes: u64,
    /// Why the table was made (`flush`, `compact`); for people.
    pub cause: String,
    /// Which of them expire, and when.
    pub expiries: Expiries,
}

impl Properties {
    /// The properties as stored.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let numbers = [self.entries, self.tombstones, self.pointers, self.keys, self.seq_min, self.seq_max];
        numbers.into_iter().for_each(|number| varint::put(&mut out, number));
        varint::put_bytes(&mut out, &self.smallest);
        varint::put_bytes(&mut out, &self.largest);
        let sizes = [self.key_bytes, self.inline_bytes, self.value_bytes, self.blocks, self.block_bytes];
        sizes.into_iter().for_each(|size| varint::put(&mut out, size));
        varint::put_bytes(&mut out, self.cause.as_bytes());
        if self.expiries.count > 0 {
            self.expiries.encode(&mut out);
        }
        out
    }

    /// Reads what [`Properties::encode`] wrote; `None` for other bytes, and where bounds contradict each
    /// other.
    pub(super) fn decode(content: &[u8]) -> Option<Self> {
        let mut input = Input::new(content);
        let mut properties = Self {
            entries: input.number()?,
            tombstones: input.number()?,
            pointers: input.number()?,
            keys: input.number()?,
            seq_min: input.number()?,
            seq_max: input.number()?,
            smallest: input.bytes()?.to_vec(),
            largest: input.bytes()?.to_vec(),
            key_bytes: input.number()?,
            inline_bytes: input.number()?,
            value_bytes: input.number()?,
            blocks: input.number()?,
            block_bytes: input.number()?,
            cause: String::from_utf8(input.bytes()?.to_vec()).ok()?,
            expiries: Expiries::default(),
        };
        // Nothing is said where nothing expires.
        if input.remaining() > 0 {
            properties.expiries = Expiries::decode(&mut input)?;
        }
        input.end()?;
        properties.is_plausible().then_some(properties)
    }

    fn is_plausible(&self) -> bool {
        let counted = self.tombstones.checked_add(self.pointers).is_some_and(|sum| sum <= self.entries);
        let keys = (1..=self.entries).contains(&self.keys) && (1..=self.entries).contains(&self.blocks);
        let bounds = self.smallest <= self.largest && self.largest.len().max(self.smallest.len()) <= MAX_KEY;
        let expiring = self.expiries.count <= self.entries.saturating_sub(self.tombstones);
        expiring && counted && keys && bounds && self.seq_min <= self.seq_max
    }
}

/// Adds up the versions of a table: for the writer what to store, for the verifier what to find.
#[derive(Default)]
pub(super) struct Tally {
    /// Blocks and cause are the caller's.
    pub properties: Properties,
    pub refs: RefsBuilder,
    expiries: ExpiryTally,
}

impl Tally {
    /// Whether the version is of another key than the one before.
    pub(super) fn is_new_key(&self, key: &[u8]) -> bool {
        self.properties.entries == 0 || self.properties.largest != key
    }

    /// Ends it: what can only be said of all versions.
    pub(super) fn end(&mut self) {
        self.properties.expiries = self.expiries.finish();
    }

    /// Adds a version that comes after all before.
    pub(super) fn add(&mut self, key: &[u8], seq: Seq, slot: &Slot) {
        let new_key = self.is_new_key(key);
        let p = &mut self.properties;
        if p.entries == 0 {
            p.smallest = key.to_vec();
            (p.seq_min, p.seq_max) = (seq, seq);
        }
        if new_key {
            p.keys += 1;
            p.largest.clear();
            p.largest.extend_from_slice(key);
        }
        p.entries += 1;
        p.seq_min = p.seq_min.min(seq);
        p.seq_max = p.seq_max.max(seq);
        p.key_bytes += key.len() as u64;
        self.expiries.add(slot);
        match slot {
            Slot::Tombstone => p.tombstones += 1,
            Slot::Inline(value, _) => p.inline_bytes += value.len() as u64,
            Slot::Pointer(pointer, _) => {
                p.pointers += 1;
                p.value_bytes = p.value_bytes.saturating_add(pointer.value_bytes);
                self.refs.add(pointer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_vlog::Expiry;
    use proptest::prelude::*;

    fn sample() -> Properties {
        let mut tally = Tally::default();
        tally.add(b"a", 9, &Slot::Tombstone);
        tally.add(b"a", 4, &Slot::Inline(b"value"[..].into(), Expiry::NEVER));
        let at = crate::key::ValuePointer { value_bytes: 7, ..Default::default() };
        tally.add(b"b", 6, &Slot::Pointer(at, Expiry::at(9)));
        tally.end();
        tally.properties.blocks = 1;
        tally.properties.cause = "flush".into();
        tally.properties
    }

    #[test]
    fn comes_back() {
        let properties = sample();
        assert_eq!((properties.entries, properties.tombstones, properties.keys), (3, 1, 2));
        assert_eq!((properties.seq_min, properties.seq_max), (4, 9));
        assert_eq!((properties.key_bytes, properties.inline_bytes, properties.value_bytes), (3, 5, 7));
        assert_eq!(Properties::decode(&properties.encode()), Some(properties));
    }

    #[test]
    fn contradictions_are_refused() {
        let change = |change: fn(&mut Properties)| {
            let mut properties = sample();
            change(&mut properties);
            Properties::decode(&properties.encode())
        };
        assert!(change(|_| {}).is_some());
        assert!(change(|p| p.entries = 0).is_none());
        assert!(change(|p| p.keys = 4).is_none());
        assert!(change(|p| p.keys = 0).is_none());
        assert!(change(|p| p.blocks = 0).is_none());
        assert!(change(|p| p.tombstones = u64::MAX).is_none());
        assert!(change(|p| p.smallest = b"c".to_vec()).is_none());
        assert!(change(|p| p.largest = vec![b'c'; MAX_KEY + 1]).is_none());
        assert!(change(|p| p.seq_min = 10).is_none());
        assert!(change(|p| p.expiries.count = 3).is_none());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Properties::decode(&bytes);
        }
    }
}
