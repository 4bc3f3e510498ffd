//! Walking over one table, and over a level of them.

use std::sync::Arc;

use super::block::BlockCursor;
use super::error::TableError;
use super::reader::TableReader;
use crate::cursor::Cursor;
use crate::key::{Seq, Slot, compare};

/// Walks over a table, which it keeps open. Holds one block at a time.
#[derive(Debug)]
pub struct TableCursor {
    table: Arc<TableReader>,
    /// The block that `cursor` walks over.
    block: usize,
    cursor: Option<BlockCursor>,
}

impl TableCursor {
    pub(super) fn new(table: Arc<TableReader>) -> Self {
        Self { table, block: 0, cursor: None }
    }

    /// The block that the cursor stands in.
    pub(super) fn block(&self) -> usize {
        self.block
    }

    /// The table it walks over.
    pub(super) fn table(&self) -> &TableReader {
        &self.table
    }

    fn current(&self) -> Option<&BlockCursor> {
        self.cursor.as_ref().filter(|cursor| cursor.valid())
    }

    /// Goes to the first version of a block, which comes after `last`.
    fn enter(&mut self, block: usize, last: Option<BlockCursor>) -> Result<(), TableError> {
        let Some(mut next) = self.table.block_cursor(block)? else {
            let ends_well = last.is_none_or(|last| *last.key() == *self.table.properties().largest);
            let why = "the last key is not the largest that the properties say";
            return if ends_well { Ok(()) } else { Err(self.table.damaged(self.block, why)) };
        };
        next.seek_first().map_err(|error| self.table.malformed(block, error))?;
        let back = |last: &BlockCursor| compare((last.key(), last.seq()), (next.key(), next.seq())).is_ge();
        if last.as_ref().is_some_and(back) {
            return Err(self.table.damaged(block, "block is out of order"));
        }
        self.block = block;
        self.cursor = Some(next);
        Ok(())
    }
}

impl Cursor for TableCursor {
    fn seek_first(&mut self) -> Result<(), TableError> {
        self.cursor = None;
        self.enter(0, None)
    }

    fn seek(&mut self, key: &[u8], seq: Seq) -> Result<(), TableError> {
        self.cursor = None;
        let block = self.table.index().find(key, seq);
        let Some(mut cursor) = self.table.block_cursor(block)? else { return Ok(()) };
        cursor.seek(key, seq).map_err(|error| self.table.malformed(block, error))?;
        if !cursor.valid() {
            // Between the last version of this block and its separator.
            return self.enter(block + 1, None);
        }
        self.block = block;
        self.cursor = Some(cursor);
        Ok(())
    }

    fn next(&mut self) -> Result<(), TableError> {
        let Some(mut cursor) = self.cursor.take() else { return Ok(()) };
        if cursor.is_last() {
            return self.enter(self.block + 1, Some(cursor));
        }
        cursor.next().map_err(|error| self.table.malformed(self.block, error))?;
        self.cursor = Some(cursor);
        Ok(())
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

    fn slot(&self) -> &Slot {
        self.current().map_or(&Slot::Tombstone, BlockCursor::slot)
    }
}

/// Walks over tables that do not overlap, one after the other; of the others nothing is read.
#[derive(Debug)]
pub struct LevelCursor {
    tables: Vec<Arc<TableReader>>,
    /// The table that `cursor` walks over.
    at: usize,
    cursor: Option<TableCursor>,
}

impl LevelCursor {
    /// Walks over the tables of a level, given in the order of their keys.
    #[must_use]
    pub fn new(tables: Vec<Arc<TableReader>>) -> Self {
        Self { tables, at: 0, cursor: None }
    }

    fn current(&self) -> Option<&TableCursor> {
        self.cursor.as_ref().filter(|cursor| cursor.valid())
    }

    /// Goes to the first version of a table, which comes after the last of the table before.
    fn enter(&mut self, at: usize) -> Result<(), TableError> {
        self.cursor = None;
        self.at = at;
        let Some(table) = self.tables.get(at) else { return Ok(()) };
        let mut cursor = table.cursor();
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
        let mut cursor = table.cursor();
        cursor.seek(key, seq)?;
        if !cursor.valid() {
            return self.enter(at + 1);
        }
        self.at = at;
        self.cursor = Some(cursor);
        Ok(())
    }

    fn next(&mut self) -> Result<(), TableError> {
        let Some(mut cursor) = self.cursor.take() else { return Ok(()) };
        cursor.next()?;
        if !cursor.valid() {
            return self.enter(self.at + 1);
        }
        self.cursor = Some(cursor);
        Ok(())
    }

    fn valid(&self) -> bool {
        self.current().is_some()
    }

    fn key(&self) -> &[u8] {
        self.current().map_or(&[], TableCursor::key)
    }

    fn seq(&self) -> Seq {
        self.current().map_or(0, TableCursor::seq)
    }

    fn slot(&self) -> &Slot {
        self.current().map_or(&Slot::Tombstone, TableCursor::slot)
    }
}
