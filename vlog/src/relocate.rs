//! What value GC does with segments: reads values by their places alone, and has others be looked up elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kv_vfs::Vfs;

use crate::error::VlogError;
use crate::files::Location;
use crate::format::{KEY_BYTES_MAX, OP_HEADER_BYTES};
use crate::header::SegmentIdentity;
use crate::log::Vlog;
use crate::pool::FilePool;
use crate::read::SegmentFile;
use crate::record::OpHeader;
use crate::recover::{SegmentInput, SegmentKind};
use crate::remap::{Moved, PageCache};
use crate::state::Shared;
use crate::types::{Pointer, ValueRecord};

/// Read at once where the values asked for stand close together.
const WINDOW_BYTES: u64 = 64 << 10;
/// Read at once where they do not: most headers and keys are whole in it.
const HEAD_BYTES: u64 = 512;

/// What a value record says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueHead {
    /// The key.
    pub key: Bytes,
    /// The version of the key.
    pub seq: u64,
    /// Length of the record in bytes.
    pub length: u32,
}

/// Reads the values in the file of one complete segment, by their places. Whoever has it keeps the file from being
/// removed.
pub struct ValueReader {
    segment: u64,
    file: Arc<SegmentFile>,
    shared: Arc<Shared>,
    window: Bytes,
    window_at: u64,
}

impl ValueReader {
    /// Length of the file in bytes, with its footer.
    pub fn file_bytes(&self) -> Result<u64, VlogError> {
        self.file.file_bytes()
    }

    /// Where in the file the value lies that pointers name so; `None`: there is none.
    pub fn place(&self, segment: u64, offset: u32) -> Result<Option<u32>, VlogError> {
        if segment == self.segment {
            return Ok(Some(offset));
        }
        self.file.moved(segment, offset, self.shared.files.pages())
    }

    /// What the value record says that begins here; its value is not read. Quicker in ascending order.
    pub fn head(&mut self, offset: u32) -> Result<ValueHead, VlogError> {
        let at = u64::from(offset);
        let fixed = OP_HEADER_BYTES as usize;
        let first = self.bytes(at, fixed)?;
        let key_bytes =
            first.get(8..12).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes) as usize;
        let bytes = self.bytes(at, fixed + key_bytes.min(KEY_BYTES_MAX))?;
        let (header, key) = OpHeader::decode(&bytes).map_err(|why| self.file.corruption(at, why))?;
        let length = u32::try_from(header.record_bytes());
        let length = length.map_err(|_| self.file.corruption(at, "length of a value makes no sense"))?;
        Ok(ValueHead { key: bytes.slice_ref(key), seq: header.seq, length })
    }

    /// The value record that begins here and is this long, verified.
    pub fn value(&self, offset: u32, length: u32) -> Result<ValueRecord, VlogError> {
        self.file.record(offset, length)
    }

    fn bytes(&mut self, at: u64, len: usize) -> Result<Bytes, VlogError> {
        let end = self.window_at + self.window.len() as u64;
        if at < self.window_at || at + len as u64 > end {
            let is_close = (self.window_at..end + WINDOW_BYTES).contains(&at);
            let wanted = (if is_close { WINDOW_BYTES } else { HEAD_BYTES }).max(len as u64);
            let room = self.file.written().saturating_sub(at);
            // What goes beyond the end is asked for all the same: the file says what is wrong then.
            self.window = self.file.read(at, wanted.min(room).max(len as u64) as usize)?;
            self.window_at = at;
        }
        let start = (at - self.window_at) as usize;
        Ok(self.window.slice(start..start + len))
    }
}

impl std::fmt::Debug for ValueReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ValueReader").field("segment", &self.segment).finish_non_exhaustive()
    }
}

/// A segment of values that is open, but that nobody finds yet.
#[derive(Debug)]
pub struct ValueFile(Arc<SegmentFile>);

impl Vlog {
    /// Reads the values in the file of a segment that is complete and was not moved.
    pub fn value_reader(&self, segment: u64) -> Result<ValueReader, VlogError> {
        let file = self.shared.files.expect(segment)?;
        let shared = self.shared.clone();
        Ok(ValueReader { segment, file, shared, window: Bytes::new(), window_at: 0 })
    }

    /// Opens a segment of values that is complete and durable and ends at `end`, for [`Vlog::move_values`].
    pub fn open_values(
        &self,
        identity: SegmentIdentity,
        path: PathBuf,
        end: u64,
    ) -> Result<ValueFile, VlogError> {
        Ok(ValueFile(SegmentFile::open(&*self.vfs, path, identity, end)?))
    }

    /// Lets reads find this segment; and the values of these other segments in it, by the remap in its footer.
    pub fn move_values(&self, into: ValueFile, segments: &[u64]) {
        let ValueFile(file) = into;
        self.shared.files.insert(file.identity().segment, file.clone(), SegmentKind::Values);
        self.shared.files.move_into(file, segments);
    }

    /// Lets go of the places that values of these segments had in files of these numbers, and of segments that have no
    /// other. With `file`, that path goes: its owner has given it up durably. It is recycled or removed when the last
    /// read of it is done.
    pub fn give_up(&self, places: &[(u64, u64)], file: Option<&Path>) {
        let held: Vec<_> = places
            .iter()
            .filter_map(|(segment, file)| self.shared.files.remove_place(*segment, *file))
            .collect();
        let Some(path) = file else { return };
        match held.iter().find(|held| held.path == path) {
            Some(held) => held.give_up(&self.shared.pool),
            None => self.shared.pool.give(path),
        }
    }

    /// Files that wait to be written again.
    #[must_use]
    pub fn pool(&self) -> &Arc<FilePool> {
        &self.shared.pool
    }

    /// The pointer to the same value in the segment whose file holds it now, if that file will do; else the pointer
    /// itself. `pages`: what was read of remaps last.
    pub fn resolve(
        &self,
        pointer: Pointer,
        will_do: impl Fn(u64) -> bool,
        pages: &PageCache,
    ) -> Result<Pointer, VlogError> {
        let files = &self.shared.files;
        let Some(Location { file, moved: true }) = files.location(pointer.segment, 0) else {
            return Ok(pointer);
        };
        let SegmentIdentity { segment, file: number, .. } = *file.identity();
        if !will_do(number) {
            return Ok(pointer);
        }
        let offset = file.moved(pointer.segment, pointer.offset, pages)?;
        Ok(offset.map_or(pointer, |offset| Pointer { segment, offset, ..pointer }))
    }
}

/// What a segment of values says of the values of others in it: all of its remap, ascending.
pub fn read_moves(vfs: &dyn Vfs, owner: &SegmentInput) -> Result<Vec<Moved>, VlogError> {
    let end = owner.sealed.as_ref().map_or(0, |summary| summary.end);
    SegmentFile::open(vfs, owner.path.clone(), owner.identity, end)?.moves()
}
