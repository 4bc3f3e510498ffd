//! Finding the data blocks of a table, through its partitions.

use std::sync::Arc;

use bytes::Bytes;

use super::block::{Block, BlockCursor};
use super::cache::{CacheUse, Cached};
use super::error::TableError;
use super::filter::Filter;
use super::format::BlockHandle;
use super::index::Index;
use super::partition::{Partition, Place, TopEntry};
use super::reader::{Directory, TableReader};
use crate::key::{Seq, compare};

impl TableReader {
    /// Where the only block is that may hold the first version not before `(key, seq)`; `None` where none can.
    pub(super) fn find(&self, key: &[u8], seq: Seq, cache: CacheUse) -> Result<Option<Place>, TableError> {
        let number = self.partition_of(key, seq);
        let Some(partition) = self.partition(number, cache)? else { return Ok(None) };
        let block = partition.index.find(key, seq);
        Ok((block < partition.index.len()).then_some(Place { partition, number, block }))
    }

    /// Where the first block is.
    pub(super) fn first(&self, cache: CacheUse) -> Result<Option<Place>, TableError> {
        self.begin_of(0, cache)
    }

    /// Where the last block is.
    pub(super) fn last(&self, cache: CacheUse) -> Result<Option<Place>, TableError> {
        self.end_of(self.partitions().checked_sub(1), cache)
    }

    /// Where the next block is.
    pub(super) fn after(&self, place: &Place, cache: CacheUse) -> Result<Option<Place>, TableError> {
        let block = place.block + 1;
        if block < place.partition.index.len() {
            return Ok(Some(Place { block, ..place.clone() }));
        }
        self.begin_of(place.number + 1, cache)
    }

    /// Where the block before is.
    pub(super) fn before(&self, place: &Place, cache: CacheUse) -> Result<Option<Place>, TableError> {
        match place.block.checked_sub(1) {
            Some(block) => Ok(Some(Place { block, ..place.clone() })),
            None => self.end_of(place.number.checked_sub(1), cache),
        }
    }

    fn begin_of(&self, number: usize, cache: CacheUse) -> Result<Option<Place>, TableError> {
        let partition = self.partition(number, cache)?;
        Ok(partition.map(|partition| Place { partition, number, block: 0 }))
    }

    fn end_of(&self, number: Option<usize>, cache: CacheUse) -> Result<Option<Place>, TableError> {
        let Some(number) = number else { return Ok(None) };
        let partition = self.partition(number, cache)?;
        Ok(partition.map(|partition| {
            let block = partition.index.len().saturating_sub(1);
            Place { partition, number, block }
        }))
    }

    /// The separator before a block: that of the block before.
    pub(super) fn separator_before<'a>(&'a self, place: &'a Place) -> Option<(&'a [u8], Seq)> {
        match place.block.checked_sub(1) {
            Some(block) => place.partition.index.separator(block),
            None => Some(self.top_entry(place.number.checked_sub(1)?)?.separator()),
        }
    }

    /// A data block to walk over; `None` where there is none. `read` gives its content where the cache does not.
    pub(super) fn block_cursor(
        &self,
        place: &Place,
        cache: CacheUse,
        read: impl FnOnce(BlockHandle) -> Result<Bytes, TableError>,
    ) -> Result<Option<BlockCursor>, TableError> {
        let Some(handle) = place.handle() else { return Ok(None) };
        if let Some(Cached::Block(block)) = self.cached(handle, cache) {
            return Ok(Some(BlockCursor::new(block)));
        }
        let content = read(handle)?;
        let block = Block::parse(content).map_err(|error| self.malformed(place, error))?;
        self.cache(handle, cache, || Cached::Block(block.clone()));
        Ok(Some(BlockCursor::new(block)))
    }

    fn partitions(&self) -> usize {
        match &self.directory {
            Directory::Whole(_) => 1,
            Directory::Partitions(top) => top.len(),
        }
    }

    pub(super) fn partition_of(&self, key: &[u8], seq: Seq) -> usize {
        match &self.directory {
            Directory::Whole(_) => 0,
            Directory::Partitions(top) => top.find(key, seq),
        }
    }

    fn top_entry(&self, number: usize) -> Option<&TopEntry> {
        match &self.directory {
            Directory::Whole(_) => None,
            Directory::Partitions(top) => top.get(number),
        }
    }

    pub(super) fn partition(
        &self,
        number: usize,
        cache: CacheUse,
    ) -> Result<Option<Arc<Partition>>, TableError> {
        if let Directory::Whole(partition) = &self.directory {
            return Ok((number == 0).then(|| partition.clone()));
        }
        let Some(entry) = self.top_entry(number) else { return Ok(None) };
        if let Some(Cached::Partition(partition)) = self.cached(entry.filter, cache) {
            return Ok(Some(partition));
        }
        let partition = Arc::new(self.load_partition(entry)?);
        self.cache(entry.filter, cache, || Cached::Partition(partition.clone()));
        Ok(Some(partition))
    }

    fn load_partition(&self, entry: &TopEntry) -> Result<Partition, TableError> {
        let damaged = |at: BlockHandle, why: &str| TableError::corruption(&self.path, at.offset, why);
        let filter = Filter::parse(self.read_block(entry.filter)?)
            .ok_or_else(|| damaged(entry.filter, "filter cannot be decoded"))?;
        let index = Index::parse(&self.read_block(entry.index)?, entry.data.clone())
            .map_err(|why| damaged(entry.index, &format!("index: {why}")))?;
        let ends = index.last().is_some_and(|last| compare(last, entry.separator()).is_eq());
        if !ends || index.len() as u64 != entry.blocks {
            return Err(damaged(entry.index, "the partition is not what the index of partitions says"));
        }
        Ok(Partition { index, filter })
    }
}
