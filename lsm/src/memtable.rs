//! Versions in memory, in order, until they are flushed to a table.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::cursor::{Cursor, TwoWayCursor};
use crate::key::{AsVersion, InternalKey, Seq, Slot};
use crate::table::TableError;

/// What the tree and the allocator add to an entry, in bytes: nodes that are not full, counters, rounding.
const ENTRY_OVERHEAD: usize = 64;
/// Versions that a cursor fetches at once, at most.
const BATCH_MAX: usize = 64;

/// A sorted map of versions. One thread inserts; any number reads meanwhile, each for a moment.
#[derive(Debug)]
pub struct Memtable {
    /// A tree, because it takes half the time of a skip list for each of insert, lookup and step: its entries lie
    /// side by side. Nobody holds the lock for longer than it takes to copy some entries.
    map: RwLock<BTreeMap<InternalKey, Slot>>,
    /// How many entries, known without the lock.
    entries: AtomicUsize,
    bytes: AtomicUsize,
    seq_min: AtomicU64,
    seq_max: AtomicU64,
}

impl Default for Memtable {
    fn default() -> Self {
        Self {
            map: RwLock::default(),
            entries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            seq_min: AtomicU64::new(Seq::MAX),
            seq_max: AtomicU64::new(0),
        }
    }
}

impl Memtable {
    /// Adds a version, replacing the same one. Key and inline value are copied, so that they keep no
    /// network frame or block alive.
    pub fn insert(&self, key: &[u8], seq: Seq, slot: Slot) {
        let slot = match slot {
            Slot::Inline(value) => Slot::Inline(Bytes::copy_from_slice(&value)),
            other => other,
        };
        let added = entry_bytes(key.len(), &slot);
        let version = InternalKey { key: Bytes::copy_from_slice(key), seq };
        let replaced = self.map.write().insert(version, slot);
        // After the map: who sees the number finds the version.
        self.seq_min.fetch_min(seq, Ordering::Release);
        self.seq_max.fetch_max(seq, Ordering::Release);
        self.bytes.fetch_add(added, Ordering::Relaxed);
        match replaced {
            Some(old) => drop(self.bytes.fetch_sub(entry_bytes(key.len(), &old), Ordering::Relaxed)),
            None => drop(self.entries.fetch_add(1, Ordering::Release)),
        }
    }

    /// The newest version of `key` that is not newer than `seq`.
    #[must_use]
    pub fn get(&self, key: &[u8], seq: Seq) -> Option<(Seq, Slot)> {
        let from: &dyn AsVersion = &(key, seq);
        let map = self.map.read();
        let (found, slot) =
            map.range::<dyn AsVersion, _>((Bound::Included(from), Bound::Unbounded)).next()?;
        (found.key == key).then(|| (found.seq, slot.clone()))
    }

    /// Memory taken, in bytes; estimated.
    #[must_use]
    pub fn approximate_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Versions in it.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries.load(Ordering::Acquire)
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries() == 0
    }

    /// Lowest seq in it; `None` where it is empty.
    #[must_use]
    pub fn seq_min(&self) -> Option<Seq> {
        (!self.is_empty()).then(|| self.seq_min.load(Ordering::Acquire))
    }

    /// Highest seq in it; `None` where it is empty.
    #[must_use]
    pub fn seq_max(&self) -> Option<Seq> {
        (!self.is_empty()).then(|| self.seq_max.load(Ordering::Acquire))
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
        Slot::Inline(value) => value.len(),
        Slot::Tombstone | Slot::Pointer(_) => 0,
    };
    size_of::<(InternalKey, Slot)>() + ENTRY_OVERHEAD + key_len + inline
}

/// Walks over a [`Memtable`], which it keeps alive.
///
/// It copies some entries at a time under the lock, the more the further it goes in one direction.
#[derive(Debug)]
pub struct MemtableCursor {
    memtable: Arc<Memtable>,
    /// What was fetched, in the order of the walk.
    batch: Vec<(InternalKey, Slot)>,
    /// Where the cursor stands in the batch.
    at: usize,
    /// How many versions to fetch next.
    fetch: usize,
    /// Whether the batch was fetched backward.
    backward: bool,
}

impl MemtableCursor {
    fn fill(&mut self, from: Bound<&dyn AsVersion>) {
        self.begin(false);
        let map = self.memtable.map.read();
        let found = map.range::<dyn AsVersion, _>((from, Bound::Unbounded));
        self.batch.extend(found.take(self.fetch).map(|(key, slot)| (key.clone(), slot.clone())));
    }

    fn fill_back(&mut self, from: Bound<&dyn AsVersion>) {
        self.begin(true);
        let map = self.memtable.map.read();
        let found = map.range::<dyn AsVersion, _>((Bound::Unbounded, from)).rev();
        self.batch.extend(found.take(self.fetch).map(|(key, slot)| (key.clone(), slot.clone())));
    }

    fn begin(&mut self, backward: bool) {
        self.batch.clear();
        self.at = 0;
        self.backward = backward;
    }

    fn current(&self) -> Option<&(InternalKey, Slot)> {
        self.batch.get(self.at)
    }

    fn step(&mut self, backward: bool) {
        let Some((here, _)) = self.current().cloned() else { return };
        if self.backward != backward {
            self.fetch = 1;
        } else if self.at + 1 < self.batch.len() {
            self.at += 1;
            return;
        } else {
            self.fetch = (self.fetch * 2).min(BATCH_MAX);
        }
        let from = Bound::Excluded(&here as &dyn AsVersion);
        if backward { self.fill_back(from) } else { self.fill(from) }
    }
}

impl Cursor for MemtableCursor {
    fn seek_first(&mut self) -> Result<(), TableError> {
        self.fetch = 1;
        self.fill(Bound::Unbounded);
        Ok(())
    }

    fn seek(&mut self, key: &[u8], seq: Seq) -> Result<(), TableError> {
        self.fetch = 1;
        let from: &dyn AsVersion = &(key, seq);
        self.fill(Bound::Included(from));
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

    fn slot(&self) -> &Slot {
        self.current().map_or(&Slot::Tombstone, |(_, slot)| slot)
    }
}

impl TwoWayCursor for MemtableCursor {
    fn seek_last(&mut self) -> Result<(), TableError> {
        self.fetch = 1;
        self.fill_back(Bound::Unbounded);
        Ok(())
    }

    fn seek_before(&mut self, key: &[u8], seq: Seq) -> Result<(), TableError> {
        self.fetch = 1;
        let from: &dyn AsVersion = &(key, seq);
        self.fill_back(Bound::Excluded(from));
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
    use std::sync::atomic::AtomicBool;

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
        assert!(bytes > entries * size_of::<(InternalKey, Slot)>());
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
        memtable.insert(&frame[..4], 1, Slot::Inline(frame.slice(10..20)));
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
                    while !done.load(Ordering::Acquire) {
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
            done.store(true, Ordering::Release);
        });
    }
}
