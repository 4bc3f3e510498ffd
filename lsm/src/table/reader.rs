//! An open table: point reads and whatever else needs its bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kv_manifest::names;
use kv_vfs::{File, IoMode, Vfs};

use super::block::{Block, BlockCursor, Malformed};
use super::cursor::TableCursor;
use super::error::TableError;
use super::filter::Filter;
use super::format::{
    BLOCK_HEADER_BYTES, BlockHandle, FOOTER_BYTES, FORMAT_VERSION, Footer, FooterError, TableIdentity,
};
use super::index::Index;
use super::properties::Properties;
use super::refs::{self, SegmentOffsets};
use super::stored;
use crate::key::{Seq, Slot};

/// An open table. Footer, properties, index and filter are in memory; data blocks and references are read,
/// and checked, each time.
#[derive(Debug)]
pub struct TableReader {
    path: PathBuf,
    file: Arc<dyn File>,
    bytes: u64,
    footer: Footer,
    properties: Properties,
    index: Index,
    filter: Filter,
}

impl TableReader {
    /// Opens the table `identity.table_id` in `dir`, which the manifest says is `expected_bytes` long.
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
        let file = vfs.open_read(&path, IoMode::Buffered)?;
        let bytes = file.len()?;
        if bytes != expected_bytes {
            let why = format!("the file is {bytes} bytes long, the manifest says {expected_bytes}");
            return Err(TableError::corruption(&path, bytes.min(expected_bytes), why));
        }
        let footer = read_footer(&*file, &path, bytes)?;
        if let Some((field, found, expected)) = footer.identity.difference(identity) {
            return Err(TableError::Foreign { file: path, field, found, expected });
        }
        Self::load(path, file, bytes, footer).map(Arc::new)
    }

    /// Opens a table on its own word, for tools: whichever it is, as long as it is.
    ///
    /// # Errors
    /// As [`TableReader::open`], but never [`TableError::Foreign`].
    pub fn open_any(vfs: &Arc<dyn Vfs>, path: &Path) -> Result<Arc<Self>, TableError> {
        let file = vfs.open_read(path, IoMode::Buffered)?;
        let bytes = file.len()?;
        let footer = read_footer(&*file, path, bytes)?;
        Self::load(path.to_path_buf(), file, bytes, footer).map(Arc::new)
    }

    fn load(path: PathBuf, file: Arc<dyn File>, bytes: u64, footer: Footer) -> Result<Self, TableError> {
        let section = |handle| read_stored(&*file, &path, footer.identity.table_id, handle);
        let damaged = |at: BlockHandle, why: &str| TableError::corruption(&path, at.offset, why);
        let properties = Properties::decode(&section(footer.properties)?)
            .ok_or_else(|| damaged(footer.properties, "properties cannot be decoded"))?;
        let index = Index::parse(&section(footer.index)?, footer.filter.offset)
            .map_err(|why| damaged(footer.index, &format!("index: {why}")))?;
        if index.len() as u64 != properties.blocks {
            return Err(damaged(footer.index, "index has another number of blocks than the properties"));
        }
        let filter = Filter::parse(section(footer.filter)?)
            .ok_or_else(|| damaged(footer.filter, "filter cannot be decoded"))?;
        Ok(Self { path, file, bytes, footer, properties, index, filter })
    }

    /// The newest version of `key` that is not newer than `seq`.
    ///
    /// # Errors
    /// Damage or a failed read; never "absent" instead.
    pub fn get(&self, key: &[u8], seq: Seq) -> Result<Option<(Seq, Slot)>, TableError> {
        if !self.filter.may_contain(key) {
            return Ok(None);
        }
        let block = self.index.find(key, seq);
        let Some(mut cursor) = self.block_cursor(block)? else { return Ok(None) };
        cursor.seek(key, seq).map_err(|error| self.malformed(block, error))?;
        let found = cursor.valid() && cursor.key() == key;
        Ok(found.then(|| (cursor.seq(), cursor.slot().clone())))
    }

    /// Walks over the versions, keeping the table open.
    #[must_use]
    pub fn cursor(self: &Arc<Self>) -> TableCursor {
        TableCursor::new(self.clone())
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

    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    pub(super) fn footer(&self) -> &Footer {
        &self.footer
    }

    /// A data block to walk over; `None` behind the last.
    pub(super) fn block_cursor(&self, block: usize) -> Result<Option<BlockCursor>, TableError> {
        let Some(handle) = self.index.handle(block) else { return Ok(None) };
        let content = self.read_block(handle)?;
        let parsed = Block::parse(content).map_err(|error| self.malformed(block, error))?;
        Ok(Some(BlockCursor::new(parsed)))
    }

    /// Reads, checks and unpacks a block. Everything that reads an open table comes through here.
    fn read_block(&self, handle: BlockHandle) -> Result<Bytes, TableError> {
        read_stored(&*self.file, &self.path, self.footer.identity.table_id, handle)
    }

    /// Damage in a data block whose checksum is right.
    pub(super) fn malformed(&self, block: usize, error: Malformed) -> TableError {
        self.damaged(block, &format!("{} (at {} of the unpacked block)", error.why, error.at))
    }

    /// Damage in a data block.
    pub(super) fn damaged(&self, block: usize, why: &str) -> TableError {
        let offset = self.index.handle(block).map_or(self.footer.filter.offset, |handle| handle.offset);
        TableError::corruption(&self.path, offset, why)
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
    stored::decode(buffer.into(), table_id, handle.offset)
        .map_err(|why| TableError::corruption(path, handle.offset, why))
}

/// Reads bytes that must be there: a file that is shorter than it was is damaged.
fn read_exact(file: &dyn File, path: &Path, buffer: &mut [u8], offset: u64) -> Result<(), TableError> {
    file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => TableError::corruption(path, offset, "the file ends before"),
        _ => TableError::Io(error),
    })
}
