//! An open table: point reads and whatever else needs its bytes.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use kv_manifest::names;
use kv_vfs::{File, IoMode, Vfs};

use super::block::Malformed;
use super::cache::{CacheUse, Cached, TableCaches, TableFile};
use super::cursor::TableCursor;
use super::error::TableError;
use super::filter::Filter;
use super::format::{
    BLOCK_HEADER_BYTES, BlockHandle, FOOTER_BYTES, FORMAT_VERSION, Footer, FooterError, IndexLevels,
    TableIdentity,
};
use super::index::Index;
use super::partition::{Partition, Place, Top};
use super::properties::Properties;
use super::refs::{self, SegmentOffsets};
use super::stored;
use crate::key::{Seq, Slot};

/// An open table. Footer, properties and the index of a small table, or of the partitions of a large one, are
/// in memory. Data blocks and partitions come from the caches it was opened with; what comes from the disk is
/// checked each time.
#[derive(Debug)]
pub struct TableReader {
    pub(super) path: PathBuf,
    vfs: Arc<dyn Vfs>,
    file: TableFile,
    bytes: u64,
    pub(super) footer: Footer,
    properties: Properties,
    pub(super) directory: Directory,
    obsolete: AtomicBool,
}

/// Where the data blocks are.
#[derive(Debug)]
pub(super) enum Directory {
    Whole(Arc<Partition>),
    Partitions(Top),
}

impl TableReader {
    /// Opens the table `identity.table_id` in `dir`, which the manifest says is `expected_bytes` long. Its
    /// file stays open, and nothing is cached.
    ///
    /// # Errors
    /// [`TableError::Foreign`] where it is another table than `identity` says, [`TableError::Newer`],
    /// [`TableError::Corruption`], [`TableError::Io`] (also where it is missing).
    pub fn open(
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        identity: &TableIdentity,
        expected_bytes: u64,
    ) -> Result<Arc<Self>, TableError> {
        let path = dir.join(names::table_name(identity.table_id));
        let file = TableFile::Alone(vfs.open_read(&path, IoMode::Buffered)?);
        Self::open_file(vfs, path, file, identity, expected_bytes)
    }

    /// As [`TableReader::open`], with blocks and open files in caches that other tables share.
    ///
    /// # Errors
    /// As [`TableReader::open`].
    pub fn open_cached(
        caches: &Arc<TableCaches>,
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        identity: &TableIdentity,
        expected_bytes: u64,
    ) -> Result<Arc<Self>, TableError> {
        let path = dir.join(names::table_name(identity.table_id));
        let (number, caches, files) = (identity.table_id, caches.clone(), vfs.clone());
        let file = TableFile::Shared { number, caches, vfs: files };
        Self::open_file(vfs, path, file, identity, expected_bytes)
    }

    fn open_file(
        vfs: &Arc<dyn Vfs>,
        path: PathBuf,
        file: TableFile,
        identity: &TableIdentity,
        expected_bytes: u64,
    ) -> Result<Arc<Self>, TableError> {
        let open = file.get(&path)?;
        let bytes = open.len()?;
        if bytes != expected_bytes {
            let why = format!("the file is {bytes} bytes long, the manifest says {expected_bytes}");
            return Err(TableError::corruption(&path, bytes.min(expected_bytes), why));
        }
        let footer = read_footer(&*open, &path, bytes)?;
        if let Some((field, found, expected)) = footer.identity.difference(identity) {
            return Err(TableError::Foreign { file: path, field, found, expected });
        }
        Self::load(vfs, path, file, bytes, footer).map(Arc::new)
    }

    /// Opens a table on its own word, for tools: whichever it is, as long as it is.
    ///
    /// # Errors
    /// As [`TableReader::open`], but never [`TableError::Foreign`].
    pub fn open_any(vfs: &Arc<dyn Vfs>, path: &Path) -> Result<Arc<Self>, TableError> {
        let file = vfs.open_read(path, IoMode::Buffered)?;
        let bytes = file.len()?;
        let footer = read_footer(&*file, path, bytes)?;
        Self::load(vfs, path.to_path_buf(), TableFile::Alone(file), bytes, footer).map(Arc::new)
    }

    fn load(
        vfs: &Arc<dyn Vfs>,
        path: PathBuf,
        file: TableFile,
        bytes: u64,
        footer: Footer,
    ) -> Result<Self, TableError> {
        let open = file.get(&path)?;
        let section = |handle| read_stored(&*open, &path, footer.identity.table_id, handle);
        let damaged = |at: BlockHandle, why: &str| TableError::corruption(&path, at.offset, why);
        let properties = Properties::decode(&section(footer.properties)?)
            .ok_or_else(|| damaged(footer.properties, "properties cannot be decoded"))?;
        let index_error = |why| damaged(footer.index, &format!("index: {why}"));
        let content = section(footer.index)?;
        let (directory, blocks) = match footer.levels {
            IndexLevels::One => {
                let index = Index::parse(&content, 0..footer.filter.offset).map_err(index_error)?;
                let filter = Filter::parse(section(footer.filter)?)
                    .ok_or_else(|| damaged(footer.filter, "filter cannot be decoded"))?;
                let blocks = index.len() as u64;
                (Directory::Whole(Arc::new(Partition { index, filter })), blocks)
            }
            IndexLevels::Two => {
                let top = Top::parse(&content, footer.filter).map_err(index_error)?;
                let blocks = top.blocks();
                (Directory::Partitions(top), blocks)
            }
        };
        if blocks != properties.blocks {
            return Err(damaged(footer.index, "index has another number of blocks than the properties"));
        }
        drop(open);
        let (vfs, obsolete) = (vfs.clone(), AtomicBool::new(false));
        Ok(Self { path, vfs, file, bytes, footer, properties, directory, obsolete })
    }

    /// The newest version of `key` that is not newer than `seq`.
    ///
    /// # Errors
    /// Damage or a failed read; never "absent" instead.
    pub fn get(&self, key: &[u8], seq: Seq) -> Result<Option<(Seq, Slot)>, TableError> {
        let number = self.partition_of(key, seq);
        let Some(partition) = self.partition(number, CacheUse::Fill)? else { return Ok(None) };
        if !partition.filter.may_contain(key) {
            return Ok(None);
        }
        let block = partition.index.find(key, seq);
        let place = Place { partition, number, block };
        let Some(mut cursor) = self.block_cursor(&place, CacheUse::Fill, |at| self.read_data_block(at))?
        else {
            return Ok(None);
        };
        cursor.seek(key, seq).map_err(|error| self.malformed(&place, error))?;
        let found = cursor.valid() && cursor.key() == key;
        Ok(found.then(|| (cursor.seq(), cursor.slot())))
    }

    /// Walks over the versions, keeping the table: for reads of very much, which leave the cache as it is.
    #[must_use]
    pub fn cursor(self: &Arc<Self>) -> TableCursor {
        TableCursor::new(self.clone(), CacheUse::Peek)
    }

    /// As [`TableReader::cursor`], using the cache as told.
    #[must_use]
    pub fn cursor_with(self: &Arc<Self>, cache: CacheUse) -> TableCursor {
        TableCursor::new(self.clone(), cache)
    }

    /// Has the file removed once nobody reads it any more. Call only after the manifest has durably dropped
    /// the table.
    pub fn retire(&self) {
        self.obsolete.store(true, Ordering::Release);
    }

    /// Where the data blocks lie in the file that may hold keys from `from` on, up to `to` (exclusive); by the
    /// index alone.
    ///
    /// # Errors
    /// Damage or a failed read.
    pub fn bytes_of(&self, from: &[u8], to: Option<&[u8]>) -> Result<Range<u64>, TableError> {
        let properties = &self.properties;
        let begins_behind = to.is_some_and(|to| to <= &*properties.smallest);
        if begins_behind || from > &*properties.largest {
            return Ok(0..0);
        }
        let begin = self.find(from, Seq::MAX, CacheUse::Fill)?.and_then(|place| place.handle());
        let end = match to {
            Some(to) => self.find(to, Seq::MAX, CacheUse::Fill)?.and_then(|place| place.handle()?.end()),
            None => None,
        };
        let all = self.data_bytes();
        Ok(begin.map_or(all, |block| block.offset)..end.unwrap_or(all))
    }

    /// Length of all data blocks in the file, in bytes.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.footer.filter.offset
    }

    /// Reads which values the table points to, ascending by segment.
    ///
    /// # Errors
    /// Damage or a failed read.
    pub fn refs(&self) -> Result<Vec<SegmentOffsets>, TableError> {
        let content = self.read_block(self.footer.refs)?;
        let damaged = |why| TableError::corruption(&self.path, self.footer.refs.offset, why);
        let refs = refs::decode(&content).ok_or_else(|| damaged("references cannot be decoded"))?;
        let total = refs.iter().fold(0u64, |sum, segment| sum.saturating_add(segment.count));
        if total == self.properties.pointers {
            Ok(refs)
        } else {
            Err(damaged("another number of references than the properties say"))
        }
    }

    /// Whose table it is and which.
    #[must_use]
    pub fn identity(&self) -> &TableIdentity {
        &self.footer.identity
    }

    /// What the table says of itself.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// Length of the file, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn cached(&self, at: BlockHandle, cache: CacheUse) -> Option<Cached> {
        self.file.caches()?.get(self.footer.identity.table_id, at.offset, cache)
    }

    pub(super) fn cache(&self, at: BlockHandle, cache: CacheUse, cached: impl FnOnce() -> Cached) {
        if let Some(caches) = self.file.caches() {
            caches.put(self.footer.identity.table_id, at.offset, cache, cached);
        }
    }

    /// Reads, checks and unpacks a data block.
    pub(super) fn read_data_block(&self, handle: BlockHandle) -> Result<Bytes, TableError> {
        if let Some(caches) = self.file.caches() {
            caches.count_data_block();
        }
        self.read_block(handle)
    }

    /// Reads, checks and unpacks a block. What reads an open table comes through here, or through
    /// [`Self::read_ahead`].
    pub(super) fn read_block(&self, handle: BlockHandle) -> Result<Bytes, TableError> {
        if let Some(caches) = self.file.caches() {
            caches.count_read(handle.len as usize);
        }
        let file = self.file.get(&self.path)?;
        read_stored(&*file, &self.path, self.footer.identity.table_id, handle)
    }

    /// Reads data blocks as stored, for [`Self::unpack_data_block`].
    pub(super) fn read_ahead(&self, offset: u64, stored: &mut [u8]) -> Result<(), TableError> {
        if let Some(caches) = self.file.caches() {
            caches.count_read(stored.len());
        }
        read_exact(&*self.file.get(&self.path)?, &self.path, stored, offset)
    }

    /// Checks and unpacks a data block that was read ahead.
    pub(super) fn unpack_data_block(&self, stored: Bytes, handle: BlockHandle) -> Result<Bytes, TableError> {
        if let Some(caches) = self.file.caches() {
            caches.count_data_block();
        }
        unpack(stored, &self.path, self.footer.identity.table_id, handle)
    }

    /// Damage in a data block whose checksum is right.
    pub(super) fn malformed(&self, place: &Place, error: Malformed) -> TableError {
        self.damaged(place, &format!("{} (at {} of the unpacked block)", error.why, error.at))
    }

    /// Damage in a data block.
    pub(super) fn damaged(&self, place: &Place, why: &str) -> TableError {
        let offset = place.handle().map_or(self.footer.filter.offset, |handle| handle.offset);
        TableError::corruption(&self.path, offset, why)
    }
}

impl Drop for TableReader {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Acquire)
            && let Err(error) = self.vfs.remove(&self.path)
        {
            // Nothing is lost: the next open finds an orphan and removes it.
            tracing::warn!(%error, "could not remove a table that is no longer needed");
        }
    }
}

/// Reads the footer of a file of `bytes` bytes and checks that the sections are where they can be.
fn read_footer(file: &dyn File, path: &Path, bytes: u64) -> Result<Footer, TableError> {
    let Some(at) = bytes.checked_sub(FOOTER_BYTES as u64) else {
        return Err(TableError::corruption(path, 0, format!("{bytes} bytes are no table")));
    };
    let mut buffer = [0; FOOTER_BYTES];
    read_exact(file, path, &mut buffer, at)?;
    let footer = Footer::decode(&buffer).map_err(|error| match error {
        FooterError::Malformed(why) => TableError::corruption(path, at, why),
        FooterError::Newer(version) => {
            TableError::Newer { file: path.to_path_buf(), version, known: FORMAT_VERSION }
        }
    })?;
    let mut end = Some(footer.filter.offset);
    for section in [footer.filter, footer.refs, footer.properties, footer.index] {
        end = end.filter(|end| *end == section.offset).and(section.end());
    }
    if end == Some(at) {
        Ok(footer)
    } else {
        Err(TableError::corruption(path, at, "sections do not fill the file"))
    }
}

/// Reads a stored block. Its handle was checked against the file's length, which bounds the memory.
fn read_stored(
    file: &dyn File,
    path: &Path,
    table_id: u64,
    handle: BlockHandle,
) -> Result<Bytes, TableError> {
    if (handle.len as usize) < BLOCK_HEADER_BYTES {
        return Err(TableError::corruption(path, handle.offset, "block is shorter than its header"));
    }
    let mut buffer = vec![0; handle.len as usize];
    read_exact(file, path, &mut buffer, handle.offset)?;
    unpack(buffer.into(), path, table_id, handle)
}

/// Checks and unpacks a stored block.
fn unpack(stored: Bytes, path: &Path, table_id: u64, handle: BlockHandle) -> Result<Bytes, TableError> {
    stored::decode(stored, table_id, handle.offset)
        .map_err(|why| TableError::corruption(path, handle.offset, why))
}

/// Reads bytes that must be there: a file that is shorter than it was is damaged.
fn read_exact(file: &dyn File, path: &Path, buffer: &mut [u8], offset: u64) -> Result<(), TableError> {
    file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => TableError::corruption(path, offset, "the file ends before"),
        _ => TableError::Io(error),
    })
}
