//! Walking over one table, and over a level of them.

use std::sync::Arc;

use super::ahead::Ahead;
use super::block::{BlockCursor, Malformed};
use super::cache::CacheUse;
use super::error::TableError;
use super::partition::Place;
use super::reader::TableReader;
use crate::cursor::{Cursor, TwoWayCursor};
use crate::key::{Seq, Slot, compare};

/// Walks over a table, which it keeps. Holds one block at a time, and what was read ahead of those behind it.
#[derive(Debug)]
pub struct TableCursor {
    table: Arc<TableReader>,
    cache: CacheUse,
    /// The block that it stands in, and where it is: at a version of it.
    at: Option<(Place, BlockCursor)>,
    ahead: Ahead,
}

impl TableCursor {
    pub(super) fn new(table: Arc<TableReader>, cache: CacheUse) -> Self {
        Self { table, cache, at: None, ahead: Ahead::default() }
    }

    /// The block that the cursor stands in.
    pub(super) fn place(&self) -> Option<&Place> {
        self.at.as_ref().map(|(place, _)| place)
    }

    /// The table it walks over.
    pub(super) fn table(&self) -> &TableReader {
        &self.table
    }

    fn current(&self) -> Option<&BlockCursor> {
        self.at.as_ref().map(|(_, cursor)| cursor)
    }

    /// Goes on within the block, in place: this is what most steps of a scan are.
    fn step(&mut self, by: impl FnOnce(&mut BlockCursor) -> Result<(), Malformed>) -> Result<(), TableError> {
        let Some((place, cursor)) = &mut self.at else { return Ok(()) };
        let Err(error) = by(cursor) else { return Ok(()) };
        let error = self.table.malformed(place, error);
        self.at = None;
        Err(error)
    }

    fn load(&mut self, place: &Place) -> Result<Option<BlockCursor>, TableError> {
        let (table, ahead) = (&self.table, &mut self.ahead);
        table.block_cursor(place, self.cache, |at| ahead.read_block(table, at))
    }

    /// Goes to the first version of a block, which comes after where it stood.
    fn enter(&mut self, place: Option<Place>, from: Option<(Place, BlockCursor)>) -> Result<(), TableError> {
        let loaded = self.loaded(place)?;
        let table = &self.table;
        let Some((place, mut next)) = loaded else {
            let why = "the last key is not the largest that the properties say";
            return match from {
                Some((at, last)) if *last.key() != *table.properties().largest => {
                    Err(table.damaged(&at, why))
                }
                _ => Ok(()),
            };
        };
        next.seek_first().map_err(|error| table.malformed(&place, error))?;
        if from.is_some_and(|(_, last)| compare(version(&last), version(&next)).is_ge()) {
            return Err(table.damaged(&place, "block is out of order"));
        }
        self.at = Some((place, next));
        Ok(())
    }

    /// Goes to the last version of a block, which comes before where it stood.
    fn enter_back(
        &mut self,
        place: Option<Place>,
        from: Option<(Place, BlockCursor)>,
    ) -> Result<(), TableError> {
        let loaded = self.loaded(place)?;
        let table = &self.table;
        let Some((place, mut next)) = loaded else {
            let why = "the first key is not the smallest that the properties say";
            return match from {
                Some((at, first)) if *first.key() != *table.properties().smallest => {
                    Err(table.damaged(&at, why))
                }
                _ => Ok(()),
            };
        };
        next.seek_last().map_err(|error| table.malformed(&place, error))?;
        if from.is_some_and(|(_, first)| compare(version(&next), version(&first)).is_ge()) {
            return Err(table.damaged(&place, "block is out of order"));
        }
        self.at = Some((place, next));
        Ok(())
    }

    fn loaded(&mut self, place: Option<Place>) -> Result<Option<(Place, BlockCursor)>, TableError> {
        let Some(place) = place else { return Ok(None) };
        Ok(self.load(&place)?.map(|cursor| (place, cursor)))
    }
}

fn version(cursor: &BlockCursor) -> (&[u8], Seq) {
    (cursor.key(), cursor.seq())
}

impl Cursor for TableCursor {
    fn seek_first(&mut self) -> Result<(), TableError> {
        self.at = None;
        self.enter(self.table.first(self.cache)?, None)
    }

    fn seek(&mut self, key: &[u8], seq: Seq) -> Result<(), TableError> {
        self.at = None;
        let Some(place) = self.table.find(key, seq, self.cache)? else { return Ok(()) };
        let Some(mut cursor) = self.load(&place)? else { return Ok(()) };
        cursor.seek(key, seq).map_err(|error| self.table.malformed(&place, error))?;
        if !cursor.valid() {
            // Between the last version of this block and its separator.
            return self.enter(self.table.after(&place, self.cache)?, None);
        }
        self.at = Some((place, cursor));
        Ok(())
    }

    fn next(&mut self) -> Result<(), TableError> {
        if self.current().is_some_and(|cursor| !cursor.is_last()) {
            return self.step(BlockCursor::next);
        }
        let Some((place, cursor)) = self.at.take() else { return Ok(()) };
        self.enter(self.table.after(&place, self.cache)?, Some((place, cursor)))
    }

    fn valid(&self) -> bool {
        self.current().is_some()
    }

    fn key(&self) -> &[u8] {
        self.current().map_or(&[], BlockCursor::key)
    }

    fn seq(&self) -> Seq {
        self.current().map_or(0, BlockCursor::seq)
    }

    fn slot(&self) -> Slot {
        self.current().map_or(Slot::Tombstone, BlockCursor::slot)
    }
}

impl TwoWayCursor for TableCursor {
    fn seek_last(&mut self) -> Result<(), TableError> {
        self.at = None;
        self.enter_back(self.table.last(self.cache)?, None)
    }

    fn seek_before(&mut self, key: &[u8], seq: Seq) -> Result<(), TableError> {
        self.at = None;
        let Some(place) = self.table.find(key, seq, self.cache)? else { return self.seek_last() };
        let Some(mut cursor) = self.load(&place)? else { return Ok(()) };
        cursor.seek_before(key, seq).map_err(|error| self.table.malformed(&place, error))?;
        if !cursor.valid() {
            return self.enter_back(self.table.before(&place, self.cache)?, None);
        }
        self.at = Some((place, cursor));
        Ok(())
    }

    fn prev(&mut self) -> Result<(), TableError> {
        if self.current().is_some_and(|cursor| !cursor.is_first()) {
            return self.step(BlockCursor::prev);
        }
        let Some((place, cursor)) = self.at.take() else { return Ok(()) };
        self.enter_back(self.table.before(&place, self.cache)?, Some((place, cursor)))
    }
}

/// Walks over tables that do not overlap, one after the other; of the others nothing is read.
#[derive(Debug)]
pub struct LevelCursor {
    tables: Vec<Arc<TableReader>>,
    cache: CacheUse,
    /// The table that `cursor` walks over.
    at: usize,
    cursor: Option<TableCursor>,
}

impl LevelCursor {
    /// Walks over the tables of a level, given in the order of their keys: for reads of very much, which
    /// leave the cache as it is.
    #[must_use]
    pub fn new(tables: Vec<Arc<TableReader>>) -> Self {
        Self::with(tables, CacheUse::Peek)
    }

    /// As [`LevelCursor::new`], using the cache as told.
    #[must_use]
    pub fn with(tables: Vec<Arc<TableReader>>, cache: CacheUse) -> Self {
        Self { tables, cache, at: 0, cursor: None }
    }

    /// Goes on within the table; says whether that has come to its end.
    fn step(
        &mut self,
        by: impl FnOnce(&mut TableCursor) -> Result<(), TableError>,
    ) -> Result<bool, TableError> {
        let Some(cursor) = &mut self.cursor else { return Ok(false) };
        let stepped = by(cursor);
        let is_valid = cursor.valid();
        if stepped.is_err() {
            self.cursor = None;
        }
        stepped.map(|()| !is_valid)
    }

    /// Goes to the first version of a table, which comes after the last of the table before.
    fn enter(&mut self, at: usize) -> Result<(), TableError> {
        self.cursor = None;
        self.at = at;
        let Some(table) = self.tables.get(at) else { return Ok(()) };
        let mut cursor = table.cursor_with(self.cache);
        cursor.seek_first()?;
        let before = at.checked_sub(1).and_then(|before| self.tables.get(before));
        if before.is_some_and(|before| *before.properties().largest >= *cursor.key()) {
            return Err(TableError::corruption(table.path(), 0, "keys overlap those of the table before"));
        }
        self.cursor = Some(cursor);
        Ok(())
    }
}

impl Cursor for LevelCursor {
    fn seek_first(&mut self) -> Result<(), TableError> {
        self.enter(0)
    }

    fn seek(&mut self, key: &[u8], seq: Seq) -> Result<(), TableError> {
        self.cursor = None;
        let at = self.tables.partition_point(|table| *table.properties().largest < *key);
        let Some(table) = self.tables.get(at) else { return Ok(()) };
        let mut cursor = table.cursor_with(self.cache);
        cursor.seek(key, seq)?;
        if !cursor.valid() {
            return self.enter(at + 1);
        }
        self.at = at;
        self.cursor = Some(cursor);
        Ok(())
    }

    fn next(&mut self) -> Result<(), TableError> {
        if self.step(TableCursor::next)? { self.enter(self.at + 1) } else { Ok(()) }
    }

    fn valid(&self) -> bool {
        self.cursor.as_ref().is_some_and(TableCursor::valid)
    }

    fn key(&self) -> &[u8] {
        self.cursor.as_ref().map_or(&[], TableCursor::key)
    }

    fn seq(&self) -> Seq {
        self.cursor.as_ref().map_or(0, TableCursor::seq)
    }

    fn slot(&self) -> Slot {
        self.cursor.as_ref().map_or(Slot::Tombstone, TableCursor::slot)
    }
}

impl LevelCursor {
    /// Goes to the last version of a table, which comes before the first of the table behind it.
    fn enter_back(&mut self, at: Option<usize>) -> Result<(), TableError> {
        self.cursor = None;
        let Some((at, table)) = at.and_then(|at| Some((at, self.tables.get(at)?))) else { return Ok(()) };
        self.at = at;
        let mut cursor = table.cursor_with(self.cache);
        cursor.seek_last()?;
        let behind = self.tables.get(at + 1);
        if behind.is_some_and(|behind| *behind.properties().smallest <= *cursor.key()) {
            return Err(TableError::corruption(table.path(), 0, "keys overlap those of the table behind"));
        }
        self.cursor = Some(cursor);
        Ok(())
    }
}

impl TwoWayCursor for LevelCursor {
    fn seek_last(&mut self) -> Result<(), TableError> {
        self.enter_back(self.tables.len().checked_sub(1))
    }

    fn seek_before(&mut self, key: &[u8], seq: Seq) -> Result<(), TableError> {
        self.cursor = None;
        let at = self.tables.partition_point(|table| *table.properties().largest < *key);
        let Some(table) = self.tables.get(at) else { return self.seek_last() };
        let mut cursor = table.cursor_with(self.cache);
        cursor.seek_before(key, seq)?;
        if !cursor.valid() {
            return self.enter_back(at.checked_sub(1));
        }
        self.at = at;
        self.cursor = Some(cursor);
        Ok(())
    }

    fn prev(&mut self) -> Result<(), TableError> {
        if self.step(TableCursor::prev)? { self.enter_back(self.at.checked_sub(1)) } else { Ok(()) }
    }
}
