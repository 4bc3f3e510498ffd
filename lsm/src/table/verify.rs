//! Reading everything in a table and comparing it with what the table says of itself.

use std::sync::Arc;

use kv_manifest::SegmentRef;

use super::cache::CacheUse;
use super::cursor::TableCursor;
use super::error::TableError;
use super::format::BlockHandle;
use super::properties::{Properties, Tally};
use super::reader::TableReader;
use crate::cursor::Cursor;
use crate::key::compare;

impl TableReader {
    /// Reads and checks everything: checksums, order, the index, that the filter lets every key through,
    /// properties and references.
    ///
    /// # Errors
    /// [`TableError::Corruption`] for the first thing that is wrong; a failed read.
    pub fn verify(self: &Arc<Self>) -> Result<(), TableError> {
        self.verify_counting().map(drop)
    }

    /// As [`Self::verify`]; gives what the versions point to, as counted.
    pub(crate) fn verify_counting(self: &Arc<Self>) -> Result<Vec<SegmentRef>, TableError> {
        let mut tally = Tally::default();
        let mut cursor = self.cursor_with(CacheUse::Bypass);
        cursor.seek_first()?;
        while cursor.valid() {
            check_version(&cursor)?;
            tally.add(cursor.key(), cursor.seq(), &cursor.slot());
            cursor.next()?;
        }
        tally.end();
        let counted = tally.refs.totals();
        let damaged = |at: BlockHandle, why| Err(TableError::corruption(self.path(), at.offset, why));
        if tally.refs.sorted() != self.refs()? {
            return damaged(self.footer.refs, "references are not those of the data blocks");
        }
        let said = self.properties();
        let found = Properties {
            blocks: said.blocks,
            block_bytes: said.block_bytes,
            cause: said.cause.clone(),
            ..tally.properties
        };
        if found != *said {
            return damaged(self.footer.properties, "properties are not those of the data blocks");
        }
        Ok(counted)
    }
}

/// Checks the version that the cursor stands at against index and filter.
fn check_version(cursor: &TableCursor) -> Result<(), TableError> {
    let (table, Some(place)) = (cursor.table(), cursor.place()) else { return Ok(()) };
    let version = (cursor.key(), cursor.seq());
    let ends = place.partition.index.separator(place.block);
    let fits = ends.is_some_and(|end| compare(version, end).is_le())
        && table.separator_before(place).is_none_or(|begin| compare(begin, version).is_lt());
    if !fits {
        return Err(table.damaged(place, "a version is not in the block that the index says"));
    }
    if !place.partition.filter.may_contain(cursor.key()) {
        return Err(table.damaged(place, "a key is missing in the filter"));
    }
    Ok(())
}
