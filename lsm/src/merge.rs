//! Many cursors as one.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::cursor::Cursor;
use crate::key::{Seq, Slot, compare};
use crate::table::TableError;

/// Merges cursors: by key, then newest first. Holds one version of each source, however long they are.
///
/// A version that several sources hold comes as often, that of the source given first before the others.
pub struct MergeCursor {
    /// Sources that stand at a version; the first in order on top.
    heap: BinaryHeap<Source>,
    /// The others.
    idle: Vec<Source>,
}

struct Source {
    cursor: Box<dyn Cursor + Send>,
    /// Place among the sources as given.
    rank: usize,
}

impl MergeCursor {
    /// Merges the cursors, wherever they stand: seek first.
    #[must_use]
    pub fn new(cursors: Vec<Box<dyn Cursor + Send>>) -> Self {
        let idle: Vec<_> =
            cursors.into_iter().enumerate().map(|(rank, cursor)| Source { cursor, rank }).collect();
        Self { heap: BinaryHeap::with_capacity(idle.len()), idle }
    }

    fn seek_each(
        &mut self,
        seek: impl Fn(&mut (dyn Cursor + Send)) -> Result<(), TableError>,
    ) -> Result<(), TableError> {
        self.idle.extend(self.heap.drain());
        for source in &mut self.idle {
            seek(&mut *source.cursor)?;
        }
        let (standing, idle) = self.idle.drain(..).partition(|source| source.cursor.valid());
        self.idle = idle;
        self.heap = BinaryHeap::from(standing);
        Ok(())
    }

    fn current(&self) -> Option<&dyn Cursor> {
        self.heap.peek().map(|source| &*source.cursor as &dyn Cursor)
    }
}

impl Cursor for MergeCursor {
    fn seek_first(&mut self) -> Result<(), TableError> {
        self.seek_each(|cursor| cursor.seek_first())
    }

    fn seek(&mut self, key: &[u8], seq: Seq) -> Result<(), TableError> {
        self.seek_each(|cursor| cursor.seek(key, seq))
    }

    fn next(&mut self) -> Result<(), TableError> {
        let Some(mut top) = self.heap.peek_mut() else { return Ok(()) };
        let stepped = top.cursor.next();
        if !top.cursor.valid() {
            self.idle.push(PeekMut::pop(top));
        } else {
            drop(top); // moves it to its place
        }
        if stepped.is_err() {
            // Going on without this source would make its versions look absent.
            self.idle.extend(self.heap.drain());
        }
        stepped
    }

    fn valid(&self) -> bool {
        !self.heap.is_empty()
    }

    fn key(&self) -> &[u8] {
        self.current().map_or(&[], Cursor::key)
    }

    fn seq(&self) -> Seq {
        self.current().map_or(0, Cursor::seq)
    }

    fn slot(&self) -> Slot {
        self.current().map_or(Slot::Tombstone, Cursor::slot)
    }
}

impl Source {
    fn version(&self) -> (&[u8], Seq) {
        (self.cursor.key(), self.cursor.seq())
    }
}

/// Reversed: a heap has the greatest on top.
impl Ord for Source {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(other.version(), self.version()).then_with(|| other.rank.cmp(&self.rank))
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

impl std::fmt::Debug for MergeCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MergeCursor").field("sources", &(self.heap.len() + self.idle.len())).finish()
    }
}
