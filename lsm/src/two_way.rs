//! Many cursors as one, in either direction.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::cursor::TwoWayCursor;
use crate::key::{Seq, Slot, compare};
use crate::table::TableError;

/// Merges cursors. Goes in the direction of its last seek: forward by key, then newest first, or backward.
/// Holds one version of each source, however long they are.
///
/// Invariant: all sources stand on the same side of what was given, so that the first of them is next.
pub(crate) struct TwoWayMerge {
    /// Sources that stand at a version; the next one on top.
    heap: BinaryHeap<Source>,
    /// The others.
    idle: Vec<Source>,
}

struct Source {
    cursor: Box<dyn TwoWayCursor + Send>,
    backward: bool,
}

type Seek<'a> = dyn Fn(&mut (dyn TwoWayCursor + Send)) -> Result<(), TableError> + 'a;

impl TwoWayMerge {
    /// Merges the cursors, wherever they stand: seek first.
    pub(crate) fn new(cursors: Vec<Box<dyn TwoWayCursor + Send>>) -> Self {
        let idle: Vec<_> = cursors.into_iter().map(|cursor| Source { cursor, backward: false }).collect();
        Self { heap: BinaryHeap::with_capacity(idle.len()), idle }
    }

    /// Goes to the first version that is not before `(key, seq)`, and forward from there.
    pub(crate) fn seek(&mut self, key: &[u8], seq: Seq) -> Result<(), TableError> {
        self.seek_each(false, &|cursor| cursor.seek(key, seq))
    }

    /// Goes to the last version that is before `(key, seq)`, and backward from there.
    pub(crate) fn seek_before(&mut self, key: &[u8], seq: Seq) -> Result<(), TableError> {
        self.seek_each(true, &|cursor| cursor.seek_before(key, seq))
    }

    /// Goes to the last version, and backward from there.
    pub(crate) fn seek_last(&mut self) -> Result<(), TableError> {
        self.seek_each(true, &|cursor| cursor.seek_last())
    }

    fn seek_each(&mut self, backward: bool, seek: &Seek<'_>) -> Result<(), TableError> {
        self.idle.extend(self.heap.drain());
        for source in &mut self.idle {
            source.backward = backward;
            seek(&mut *source.cursor)?;
        }
        let (standing, idle) = self.idle.drain(..).partition(|source| source.cursor.valid());
        self.idle = idle;
        self.heap = BinaryHeap::from(standing);
        Ok(())
    }

    /// Goes on in the direction of the last seek; does nothing where there is no version.
    pub(crate) fn step(&mut self) -> Result<(), TableError> {
        let Some(mut top) = self.heap.peek_mut() else { return Ok(()) };
        let stepped = if top.backward { top.cursor.prev() } else { top.cursor.next() };
        if top.cursor.valid() {
            drop(top); // moves it to its place
        } else {
            self.idle.push(PeekMut::pop(top));
        }
        if stepped.is_err() {
            // Going on without this source would make its versions look absent.
            self.idle.extend(self.heap.drain());
        }
        stepped
    }

    pub(crate) fn valid(&self) -> bool {
        !self.heap.is_empty()
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.heap.peek().map_or(&[], |source| source.cursor.key())
    }

    pub(crate) fn seq(&self) -> Seq {
        self.heap.peek().map_or(0, |source| source.cursor.seq())
    }

    pub(crate) fn slot(&self) -> Slot {
        self.heap.peek().map_or(Slot::Tombstone, |source| source.cursor.slot())
    }
}

impl Source {
    fn version(&self) -> (&[u8], Seq) {
        (self.cursor.key(), self.cursor.seq())
    }
}

/// A heap has the greatest on top, which is the next one backward.
impl Ord for Source {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = compare(self.version(), other.version());
        if self.backward { order } else { order.reverse() }
    }
}

impl PartialOrd for Source {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Source {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::key::InternalKey;
    use crate::memtable::Memtable;
    use crate::table::TableOptions;
    use crate::table::testing::{TestDir, Versions, any_versions, version};
    use proptest::prelude::*;

    fn walk(merge: &mut TwoWayMerge) -> Vec<InternalKey> {
        let mut found = Vec::new();
        while merge.valid() {
            found.push(version(merge.key(), merge.seq()));
            merge.step().unwrap();
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 30, ..Default::default() })]

        #[test]
        fn goes_both_ways_as_one_sorted_map(all in any_versions(1..100), shares in prop::collection::vec(0usize..3, 100)) {
            let mut parts = [Versions::new(), Versions::new(), Versions::new()];
            for ((key, slot), share) in all.iter().zip(shares) {
                parts[share].insert(key.clone(), slot.clone());
            }
            let dir = TestDir::new();
            let mut sources: Vec<Box<dyn TwoWayCursor + Send>> = Vec::new();
            for (id, part) in (1..).zip(parts.iter().take(2).filter(|part| !part.is_empty())) {
                let options = TableOptions { block_bytes: 64, partition_bytes: 50, ..Default::default() };
                sources.push(Box::new(dir.table(id, &options, part).cursor()));
            }
            let memtable = Arc::new(Memtable::default());
            parts[2].iter().for_each(|(at, slot)| memtable.insert(&at.key, at.seq, slot.clone()));
            sources.push(Box::new(memtable.cursor()));
            let mut merge = TwoWayMerge::new(sources);
            merge.seek_last().unwrap();
            prop_assert!(walk(&mut merge).iter().eq(all.keys().rev()));
            for at in all.keys() {
                merge.seek(&at.key, at.seq).unwrap();
                prop_assert!(walk(&mut merge).iter().eq(all.range::<InternalKey, _>(at..).map(|(at, _)| at)));
                merge.seek_before(&at.key, at.seq).unwrap();
                prop_assert!(walk(&mut merge).iter().eq(all.range::<InternalKey, _>(..at).rev().map(|(at, _)| at)));
            }
        }
    }
}
