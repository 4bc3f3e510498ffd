//! Versions in memory, in order, until they are flushed to a table.

mod disposal;
mod version;

use std::collections::btree_map::Range;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicBool, AtomicU64, AtomicUsize};

use bytes::{Bytes, BytesMut};
use kv_vlog::Expiry;
use parking_lot::{Mutex, RwLock};

use crate::cursor::{Cursor, TwoWayCursor};
use crate::key::{Seq, Slot};
use crate::table::TableError;
pub(crate) use disposal::Disposal;
use version::{Key, SHORT_KEY_BYTES, Tree, Version, before, from};

/// Values of many entries are copied into one piece of memory of this many bytes, so that an entry costs no allocation,
/// and so that a scan, which counts a reference to each, finds what it counts in the processor's cache. Who holds one
/// of them holds the piece.
const PIECE_BYTES: usize = 16 << 10;
/// Longer ones have memory of their own.
const SHARED_BYTES_MAX: usize = 1 << 10;
/// Versions that a cursor fetches at once, at most.
const BATCH_MAX: usize = 64;

/// A sorted map of versions. One thread inserts; any number reads meanwhile, each for a moment.
#[derive(Debug)]
pub struct Memtable {
    /// A tree, because it takes half the time of a skip list for each of insert, lookup and step: its entries lie
    /// side by side. Nobody holds the lock for longer than it takes to copy some entries.
    map: RwLock<Tree>,
    /// Memory for what is inserted next.
    copies: Mutex<Copies>,
    /// How many entries, known without the lock.
    entries: AtomicUsize,
    bytes: AtomicUsize,
    seq_min: AtomicU64,
    seq_max: AtomicU64,
    /// Whether anything in it goes away by itself.
    expires: AtomicBool,
    /// Where its entries go with it; `None`: whoever drops it frees them.
    disposal: Option<Arc<Disposal>>,
}

#[derive(Debug, Default)]
struct Copies(BytesMut);

impl Copies {
    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() > SHARED_BYTES_MAX {
            return Bytes::copy_from_slice(bytes);
        }
        if self.0.capacity() < bytes.len() {
            self.0 = BytesMut::with_capacity(PIECE_BYTES);
        }
        self.0.extend_from_slice(bytes);
        self.0.split().freeze()
    }
}

impl Default for Memtable {
    fn default() -> Self {
        Self {
            map: RwLock::default(),
            copies: Mutex::default(),
            entries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            seq_min: AtomicU64::new(Seq::MAX),
            seq_max: AtomicU64::new(0),
            expires: AtomicBool::new(false),
            disposal: None,
        }
    }
}

impl Drop for Memtable {
    fn drop(&mut self) {
        if let Some(disposal) = &self.disposal {
            disposal.take(std::mem::take(self.map.get_mut()));
        }
    }
}

impl Memtable {
    /// An empty one, whose entries are freed there.
    pub(crate) fn with(disposal: &Arc<Disposal>) -> Self {
        let mut memtable = Self::default();
        memtable.disposal = Some(disposal.clone());
        memtable
    }

    /// Adds a version, replacing the same one. Key and inline value are copied, so that they keep no
    /// network frame or block alive.
    pub fn insert(&self, key: &[u8], seq: Seq, slot: Slot) {
        match slot {
            Slot::Inline(value, expires) => self.insert_inline(key, seq, &value, expires),
            other => self.insert_copied(self.copy_key(key), seq, other),
        }
    }

    /// As [`Memtable::insert`], of a version with its value.
    pub fn insert_inline(&self, key: &[u8], seq: Seq, value: &[u8], expires: Expiry) {
        let key = self.copy_key(key);
        let value = self.copies.lock().copy(value);
        self.insert_copied(key, seq, Slot::Inline(value, expires));
    }

    fn copy_key(&self, key: &[u8]) -> Key {
        Key::short(key).unwrap_or_else(|| Key::Long(self.copies.lock().copy(key)))
    }

    fn insert_copied(&self, key: Key, seq: Seq, slot: Slot) {
        let key_bytes = key.len();
        let added = entry_bytes(key_bytes, &slot);
        if slot.expires() != Expiry::NEVER {
            self.expires.store(true, atomic::Ordering::Release);
        }
        let replaced = self.map.write().insert(Version { key, seq }, slot);
        // After the map: who sees the number finds the version.
        self.seq_min.fetch_min(seq, atomic::Ordering::Release);
        self.seq_max.fetch_max(seq, atomic::Ordering::Release);
        self.bytes.fetch_add(added, atomic::Ordering::Relaxed);
        match replaced {
            Some(old) => {
                self.bytes.fetch_sub(entry_bytes(key_bytes, &old), atomic::Ordering::Relaxed);
            }
            None => {
                self.entries.fetch_add(1, atomic::Ordering::Release);
            }
        }
    }

    /// The newest version of `key` that is not newer than `seq`.
    #[must_use]
    pub fn get(&self, key: &[u8], seq: Seq) -> Option<(Seq, Slot)> {
        let map = self.map.read();
        let (found, slot) = from(&map, key, seq).next()?;
        (*found.key == *key).then(|| (found.seq, slot.clone()))
    }

    /// Memory taken, in bytes; estimated.
    #[must_use]
    pub fn approximate_bytes(&self) -> usize {
        self.bytes.load(atomic::Ordering::Relaxed)
    }

    /// Versions in it.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries.load(atomic::Ordering::Acquire)
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries() == 0
    }

    /// Whether anything in it goes away by itself.
    #[must_use]
    pub fn expires(&self) -> bool {
        self.expires.load(atomic::Ordering::Acquire)
    }

    /// Lowest seq in it; `None` where it is empty.
    #[must_use]
    pub fn seq_min(&self) -> Option<Seq> {
        (!self.is_empty()).then(|| self.seq_min.load(atomic::Ordering::Acquire))
    }

    /// Highest seq in it; `None` where it is empty.
    #[must_use]
    pub fn seq_max(&self) -> Option<Seq> {
        (!self.is_empty()).then(|| self.seq_max.load(atomic::Ordering::Acquire))
    }

    /// Walks over the versions. What is inserted meanwhile may or may not be seen: readers ignore what is
    /// newer than the seq they read at.
    #[must_use]
    pub fn cursor(self: &Arc<Self>) -> MemtableCursor {
        MemtableCursor { memtable: self.clone(), batch: Vec::new(), at: 0, fetch: 1, backward: false }
    }
}

fn entry_bytes(key_len: usize, slot: &Slot) -> usize {
    let inline = match slot {
        Slot::Inline(value, _) => value.len(),
        Slot::Tombstone | Slot::Pointer(..) => 0,
    };
    let long_key = if key_len > SHORT_KEY_BYTES { key_len } else { 0 };
    // Two thirds of a tree's nodes are in use, when keys come in no order.
    size_of::<(Version, Slot)>() * 3 / 2 + long_key + inline
}

/// Walks over a [`Memtable`], which it keeps alive.
///
/// It copies some entries at a time under the lock, the more the further it goes in one direction.
#[derive(Debug)]
pub struct MemtableCursor {
    memtable: Arc<Memtable>,
    /// What was fetched, in the order of the walk.
    batch: Vec<(Version, Slot)>,
    /// Where the cursor stands in the batch.
    at: usize,
    /// How many versions to fetch next.
    fetch: usize,
    /// Whether the batch was fetched backward.
    backward: bool,
}

impl MemtableCursor {
    /// Fetches what comes next of these, which go forward.
    fn fill(&mut self, found: impl FnOnce(&Tree) -> Range<'_, Version, Slot>) {
        self.begin(false);
        let map = self.memtable.map.read();
        self.batch.extend(found(&map).take(self.fetch).map(|(key, slot)| (key.clone(), slot.clone())));
    }

    /// Fetches the last ones of these.
    fn fill_back(&mut self, found: impl FnOnce(&Tree) -> Range<'_, Version, Slot>) {
        self.begin(true);
        let map = self.memtable.map.read();
        self.batch.extend(found(&map).rev().take(self.fetch).map(|(key, slot)| (key.clone(), slot.clone())));
    }

    fn begin(&mut self, backward: bool) {
        self.batch.clear();
        self.at = 0;
        self.backward = backward;
    }

    fn current(&self) -> Option<&(Version, Slot)> {
        self.batch.get(self.at)
    }

    fn step(&mut self, backward: bool) {
        if self.backward == backward && self.at + 1 < self.batch.len() {
            self.at += 1;
            return;
        }
        let Some((here, _)) = self.current() else { return };
        let here = Bound::Excluded(here.clone());
        self.fetch = if self.backward == backward { (self.fetch * 2).min(BATCH_MAX) } else { 1 };
        if backward {
            self.fill_back(|tree| tree.range((Bound::Unbounded, here)));
        } else {
            self.fill(|tree| tree.range((here, Bound::Unbounded)));
        }
    }
}

impl Cursor for MemtableCursor {
    fn seek_first(&mut self) -> Result<(), TableError> {
        self.fetch = 1;
        self.fill(|tree| tree.range::<Version, _>(..));
        Ok(())
    }

    fn seek(&mut self, key: &[u8], seq: Seq) -> Result<(), TableError> {
        self.fetch = 1;
        self.fill(|tree| from(tree, key, seq));
        Ok(())
    }

    fn next(&mut self) -> Result<(), TableError> {
        self.step(false);
        Ok(())
    }

    fn valid(&self) -> bool {
        self.current().is_some()
    }

    fn key(&self) -> &[u8] {
        self.current().map_or(&[], |(key, _)| &key.key)
    }

    fn seq(&self) -> Seq {
        self.current().map_or(0, |(key, _)| key.seq)
    }

    fn slot(&self) -> Slot {
        self.current().map_or(Slot::Tombstone, |(_, slot)| slot.clone())
    }
}

impl TwoWayCursor for MemtableCursor {
    fn seek_last(&mut self) -> Result<(), TableError> {
        self.fetch = 1;
        self.fill_back(|tree| tree.range::<Version, _>(..));
        Ok(())
    }

    fn seek_before(&mut self, key: &[u8], seq: Seq) -> Result<(), TableError> {
        self.fetch = 1;
        self.fill_back(|tree| before(tree, key, seq));
        Ok(())
    }

    fn prev(&mut self) -> Result<(), TableError> {
        self.step(true);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::testing::{any_versions, collect, collect_back, few, inline, lookup, version};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..Default::default() })]

        #[test]
        fn finds_and_walks_as_a_sorted_map(versions in any_versions(0..300)) {
            let memtable = Arc::new(Memtable::default());
            for (at, slot) in &versions {
                memtable.insert(&at.key, at.seq, slot.clone());
            }
            let expected: Vec<_> = versions.iter().map(|(k, s)| (k.clone(), s.clone())).collect();
            let mut cursor = memtable.cursor();
            cursor.seek_first().unwrap();
            prop_assert_eq!(collect(&mut cursor).unwrap(), expected);
            for at in versions.keys() {
                for seq in [0, at.seq.saturating_sub(1), at.seq, u64::MAX] {
                    prop_assert_eq!(memtable.get(&at.key, seq), lookup(&versions, &at.key, seq));
                    cursor.seek(&at.key, seq).unwrap();
                    let next = versions.range(version(&at.key, seq)..).next().map(|(k, _)| k.clone());
                    prop_assert_eq!(cursor.valid().then(|| version(cursor.key(), cursor.seq())), next);
                    cursor.seek_before(&at.key, seq).unwrap();
                    let found = collect_back(&mut cursor).unwrap();
                    prop_assert!(found.iter().map(|(at, _)| at).eq(versions.range(..version(&at.key, seq)).rev().map(|(at, _)| at)));
                }
            }
            prop_assert_eq!(memtable.entries(), versions.len());
            prop_assert_eq!(memtable.seq_min(), versions.keys().map(|at| at.seq).min());
            prop_assert_eq!(memtable.seq_max(), versions.keys().map(|at| at.seq).max());
        }
    }

    #[test]
    fn a_version_inserted_again_counts_once() {
        let memtable = Memtable::default();
        few().into_iter().for_each(|(at, slot)| memtable.insert(&at.key, at.seq, slot));
        let (bytes, entries) = (memtable.approximate_bytes(), memtable.entries());
        assert!(bytes > entries * size_of::<(Version, Slot)>());
        few().into_iter().for_each(|(at, slot)| memtable.insert(&at.key, at.seq, slot));
        assert_eq!((memtable.approximate_bytes(), memtable.entries()), (bytes, entries));
        memtable.insert(b"apple", 7, inline(b"redder"));
        assert_eq!(memtable.approximate_bytes(), bytes + 3);
        assert_eq!(memtable.get(b"apple", 8), Some((7, inline(b"redder"))));
    }

    #[test]
    fn keeps_nothing_of_the_caller_alive() {
        let frame = Bytes::from(vec![1; 100]);
        let memtable = Memtable::default();
        memtable.insert(&frame[..4], 1, Slot::Inline(frame.slice(10..20), Expiry::NEVER));
        assert!(frame.is_unique());
    }

    #[test]
    fn readers_see_a_growing_prefix_while_one_writes() {
        let memtable = Arc::new(Memtable::default());
        let done = AtomicBool::new(false);
        let key = |n: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut cursor = memtable.cursor();
                    while !done.load(atomic::Ordering::Acquire) {
                        let newest = memtable.seq_max().unwrap_or(0);
                        if newest > 0 {
                            assert!(memtable.get(&key(newest), newest).is_some());
                        }
                        cursor.seek_first().unwrap();
                        let walked = collect(&mut cursor).unwrap();
                        assert!(walked.is_sorted_by(|a, b| a.0 < b.0));
                        assert!(walked.iter().filter(|(at, _)| at.seq <= newest).count() as u64 == newest);
                    }
                });
            }
            (1..3000).for_each(|n| memtable.insert(&key(n), n, Slot::Tombstone));
            done.store(true, atomic::Ordering::Release);
        });
    }
}
