//! Reading entries and values back from segment files. Everything is verified on every read.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use kv_vfs::{File, IoMode, Vfs, planted};

use crate::error::VlogError;
use crate::footer::FooterHead;
use crate::format::{GROUP_HEADER_BYTES, OP_HEADER_BYTES, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use crate::group::GroupHeader;
use crate::header::{SegmentHeader, SegmentIdentity};
use crate::pool::FilePool;
use crate::record::{self, OpHeader, Parsed};
use crate::remap::{self, Moved, PageCache, Remap};
use crate::scan::SegmentScanner;
use crate::types::{Entry, Op, OpValue, Pointer, ValueRecord};
use crate::value::{Codec, StoredValue, chunk_head_len, parse_chunks, value_crc};

/// Read first when the length of a record is not known: most small entries are whole in it.
const FIRST_READ_BYTES: usize = 4 << 10;

/// A segment file, open for reading.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub path: PathBuf,
    file: Arc<dyn File>,
    /// Bytes of groups that are written; reads beyond it go to the tail cache. Does not say durable.
    written: AtomicU64,
    /// What its header must say.
    identity: SegmentIdentity,
    /// Whether its header was seen to say so.
    identified: AtomicBool,
    /// Where values of other segments lie in it, once that was asked.
    remap: OnceLock<FooterRemap>,
    /// Where the file goes when it is closed, once its segment is given up.
    given_up: OnceLock<Arc<FilePool>>,
}

#[derive(Debug)]
struct FooterRemap {
    /// Where the footer's body begins, and how long it is.
    body_at: u64,
    body_bytes: usize,
    head: Remap,
}

impl SegmentFile {
    /// Length of the file in bytes.
    pub(crate) fn file_bytes(&self) -> Result<u64, VlogError> {
        Ok(self.file.len()?)
    }

    pub(crate) fn open(
        vfs: &dyn Vfs,
        path: PathBuf,
        identity: SegmentIdentity,
        written: u64,
    ) -> Result<Arc<Self>, VlogError> {
        let file = vfs.open_read(&path, IoMode::Buffered)?;
        let (written, identified) = (AtomicU64::new(written), AtomicBool::new(false));
        let (remap, given_up) = (OnceLock::new(), OnceLock::new());
        Ok(Arc::new(Self { path, file, written, identity, identified, remap, given_up }))
    }

    /// Has the file go to the pool when the last reader has let go of it: until then nothing else may be written
    /// into it.
    pub(crate) fn give_up(&self, pool: &Arc<FilePool>) {
        if planted::is("recycled while it is read") {
            return pool.give(&self.path);
        }
        self.given_up.get_or_init(|| pool.clone());
    }

    /// Its groups up to `end`, one after the other. Not by the name, which it loses when its segment is given up.
    pub(crate) fn scan(&self, end: u64) -> Result<SegmentScanner, VlogError> {
        let scanner = SegmentScanner::over(self.file.clone(), Some(end))?;
        scanner.expect(&self.identity)?;
        Ok(scanner)
    }

    pub(crate) fn identity(&self) -> &SegmentIdentity {
        &self.identity
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    pub(crate) fn set_written(&self, to: u64) {
        self.written.store(to, Ordering::Release);
    }

    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Bytes, VlogError> {
        self.identify()?;
        self.read_any(offset, len)
    }

    /// Refuses a file that belongs elsewhere, before the first byte of it is used: one of another node may
    /// hold the same keys and versions in the same places, with other values. Not when it is opened: that
    /// would make opening a directory as slow as it has segments.
    fn identify(&self) -> Result<(), VlogError> {
        if self.identified.load(Ordering::Acquire) || planted::is("segment not identified") {
            return Ok(());
        }
        let header = SegmentHeader::decode(&self.path, &self.read_any(0, SEGMENT_HEADER_BYTES as usize)?)?;
        header.expect(&self.path, &self.identity)?;
        self.identified.store(true, Ordering::Release);
        Ok(())
    }

    fn read_any(&self, offset: u64, len: usize) -> Result<Bytes, VlogError> {
        let mut bytes = vec![0; len];
        let got = self.file.read_at(&mut bytes, offset)?;
        if got < len {
            let why = format!("{len} bytes wanted, the file ends after {got}");
            return Err(self.corruption(offset, why));
        }
        Ok(Bytes::from(bytes))
    }

    pub(crate) fn corruption(&self, offset: u64, why: impl Into<String>) -> VlogError {
        VlogError::corruption(&self.path, offset, why)
    }

    /// The entry whose record begins at `offset`.
    pub(crate) fn entry(&self, offset: u32) -> Result<(Entry, u32), VlogError> {
        let at = u64::from(offset);
        let room = self.written().saturating_sub(at) as usize;
        let mut bytes = self.read(at, room.min(FIRST_READ_BYTES))?;
        let length = record::peek(&bytes).map_or(0, |(length, _)| length as usize);
        if length < RECORD_HEADER_BYTES as usize || length > room {
            return Err(self.corruption(at, "record length makes no sense"));
        }
        if length > bytes.len() {
            bytes = self.read(at, length)?;
        }
        match record::parse(&bytes).map_err(|why| self.corruption(at, why))?.0 {
            Parsed::Entry(entry, _) => Ok((entry, length as u32)),
            _ => Err(self.corruption(at, "the record is no log entry")),
        }
    }

    /// The value record that the pointer names, whole.
    pub(crate) fn value(&self, pointer: Pointer, key: &[u8], seq: u64) -> Result<StoredValue, VlogError> {
        let at = u64::from(pointer.offset);
        let bytes = self.read(at, pointer.length as usize)?;
        let (header, op) = record::parse_op(&bytes).map_err(|why| self.corruption(at, why))?;
        if header.record_bytes() != u64::from(pointer.length) {
            return Err(self.corruption(at, "the value record has another length than its pointer"));
        }
        match op {
            Op::Put { key: found, value: OpValue::Full(value) } if found == key && header.seq == seq => {
                Ok(value)
            }
            _ => Err(self.corruption(at, "misdirected read: the record holds another key or version")),
        }
    }

    /// The value record that begins here and is this long, whoever's it is.
    pub(crate) fn record(&self, offset: u32, length: u32) -> Result<ValueRecord, VlogError> {
        let at = u64::from(offset);
        let bytes = self.read(at, length as usize)?;
        let (header, op) = record::parse_op(&bytes).map_err(|why| self.corruption(at, why))?;
        match op {
            Op::Put { key, value: OpValue::Full(value) } if header.record_bytes() == u64::from(length) => {
                Ok(ValueRecord { offset, length, seq: header.seq, key, value })
            }
            _ => Err(self.corruption(at, "a value of another length, or none, is where one was")),
        }
    }

    /// Where in this file the value of another segment lies, by the remap in its footer.
    pub(crate) fn moved(&self, segment: u64, from: u32, pages: &PageCache) -> Result<Option<u32>, VlogError> {
        let FooterRemap { body_at, head, .. } = self.remap()?;
        let Some(place) = head.page(segment, from) else { return Ok(None) };
        let at = body_at + place.at as u64;
        let entries = match pages.get(self.identity.file, at) {
            Some(entries) => entries,
            None => {
                let entries = remap::entries_of(&self.read(at, place.bytes)?);
                let entries = entries.map_err(|why| self.corruption(at, why))?;
                pages.put(self.identity.file, at, entries.clone());
                entries
            }
        };
        Ok(remap::find(&entries, from))
    }

    /// All of its remap.
    pub(crate) fn moves(&self) -> Result<Vec<Moved>, VlogError> {
        let FooterRemap { body_at, body_bytes, .. } = self.remap()?;
        let body = self.read(*body_at, *body_bytes)?;
        remap::decode_all(&body).map_err(|why| self.corruption(*body_at, why))
    }

    fn remap(&self) -> Result<&FooterRemap, VlogError> {
        match self.remap.get() {
            Some(remap) => Ok(remap),
            // Two who read it at once have read the same.
            None => self.read_remap().map(|remap| self.remap.get_or_init(|| remap)),
        }
    }

    fn read_remap(&self) -> Result<FooterRemap, VlogError> {
        let end = self.written();
        let bad = |why: &str| self.corruption(end, format!("footer: {why}"));
        let group = GroupHeader::decode(&self.read(end, GROUP_HEADER_BYTES as usize)?).map_err(bad)?;
        if !self.identity.wrote(&group) {
            return Err(bad("it belongs to an earlier use of the file"));
        }
        let before = GROUP_HEADER_BYTES + RECORD_HEADER_BYTES;
        let body_at = end + u64::from(before);
        let body_bytes = group.used.saturating_sub(before) as usize;
        let head_bytes = remap::head_bytes(&self.read(body_at, remap::FIXED)?).unwrap_or_default();
        if head_bytes > body_bytes {
            return Err(bad("the head of the remap is longer than the remap"));
        }
        let head = Remap::decode(&self.read(body_at, head_bytes)?, body_bytes).map_err(bad)?;
        Ok(FooterRemap { body_at, body_bytes, head })
    }

    /// `length` bytes of a chunked value from `offset` on: only the chunks they touch are read. `None`
    /// where the value is not chunked.
    pub(crate) fn value_range(
        &self,
        pointer: Pointer,
        key: &[u8],
        seq: u64,
        range: std::ops::Range<u64>,
    ) -> Result<Option<Bytes>, VlogError> {
        let at = u64::from(pointer.offset);
        let fixed = OP_HEADER_BYTES as usize + key.len();
        let first = self.read(at, (fixed + 8).min(pointer.length as usize))?;
        let (header, found) = OpHeader::decode(&first).map_err(|why| self.corruption(at, why))?;
        if found != key || header.seq != seq || header.record_bytes() != u64::from(pointer.length) {
            return Err(self.corruption(at, "misdirected read: the record holds another key or version"));
        }
        if header.codec != Codec::Chunked as u8 {
            return Ok(None);
        }
        let head_len = first.get(fixed..).and_then(chunk_head_len).unwrap_or_default();
        if head_len > header.stored_bytes as usize {
            return Err(self.corruption(at, "chunk table is longer than the value"));
        }
        let head = self.read(at + fixed as u64, head_len)?;
        if value_crc(key, Codec::Chunked, header.value_bytes, header.expires, &head) != header.value_crc {
            return Err(self.corruption(at, "checksum of the chunk table does not match"));
        }
        let chunks = parse_chunks(&head, header.value_bytes).map_err(|why| self.corruption(at, why))?;
        let body_at = at + (fixed + head_len) as u64;
        let mut out = Vec::with_capacity((range.end - range.start) as usize);
        for chunk in chunks {
            let chunk_range = chunk.value_offset..chunk.value_offset + chunk.value_bytes as u64;
            if chunk_range.end <= range.start || chunk_range.start >= range.end {
                continue;
            }
            let chunk_at = body_at + chunk.at as u64;
            let stored = self.read(chunk_at, chunk.stored)?;
            let raw = chunk.unpack_alone(&stored).map_err(|why| self.corruption(chunk_at, why))?;
            let from = range.start.saturating_sub(chunk_range.start) as usize;
            let to = (range.end.min(chunk_range.end) - chunk_range.start) as usize;
            out.extend_from_slice(raw.get(from..to).unwrap_or_default());
        }
        Ok(Some(Bytes::from(out)))
    }

    /// Offset of entry number `n` of a sealed segment, from the footer behind `end`.
    pub(crate) fn footer_offset(&self, end: u64, n: u32) -> Result<u32, VlogError> {
        let bad = |why: &str| self.corruption(end, why.to_string());
        let group = self.read(end, GROUP_HEADER_BYTES as usize)?;
        let group = GroupHeader::decode(&group).map_err(bad)?;
        if !self.identity.wrote(&group) && !planted::is("groups of an earlier use believed") {
            return Err(bad("the footer belongs to an earlier use of the file"));
        }
        let body_at = end + u64::from(GROUP_HEADER_BYTES + RECORD_HEADER_BYTES);
        // Fixed part first: it says how long the terms are.
        let fixed = self.read(body_at, 32)?;
        let terms = fixed.get(12..16).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
        let room = self.file.len()?.saturating_sub(body_at);
        let head_len = (u64::from(terms) * 16 + 36).min(room);
        let head = FooterHead::decode(&self.read(body_at, head_len as usize)?).map_err(bad)?;
        if n >= head.entries {
            return Err(bad("the footer does not hold the entry"));
        }
        let (page_at, page_len) = head.page(n);
        FooterHead::offset_in(&self.read(body_at + page_at as u64, page_len)?, n).map_err(bad)
    }
}

impl Drop for SegmentFile {
    fn drop(&mut self) {
        if let Some(pool) = self.given_up.take() {
            pool.give(&self.path);
        }
    }
}
