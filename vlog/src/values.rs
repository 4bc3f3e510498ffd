//! Writing segments of values: what a snapshot brings, and what value GC keeps.
//!
//! They have the header and the groups of other segments, but hold no part of the log: each group is one
//! record of whole value records, which pointers name as they name those inside entries. Nothing in them
//! counts before the owner has recorded the segment, so they are synced once, at their end. One that value GC
//! writes has a footer: where in it the values are that pointers into other segments name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_vfs::{AlignedBuf, File, IoMode, Vfs, planted};

use crate::error::{VlogError, file_name};
use crate::footer::SegmentSummary;
use crate::format::{
    GROUP_BYTES_MAX, GROUP_HEADER_BYTES, KEY_BYTES_MAX, OP_HEADER_BYTES, RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES, round_up,
};
use crate::group::GroupHeader;
use crate::header::{LogEnd, SegmentHeader, SegmentIdentity};
use crate::record;
use crate::remap::{self, Moved};
use crate::types::Pointer;
use crate::value::StoredValue;

/// Bytes before the first value record of a group.
const GROUP_START: u32 = GROUP_HEADER_BYTES + RECORD_HEADER_BYTES;
/// Buffers larger than this are given back after use.
const BUFFER_KEPT_BYTES: usize = 8 << 20;

/// Writes one segment of values, front to back. Holds one group in memory.
///
/// Until [`ValueSegmentWriter::finish`] returns and the owner has synced the directory and recorded the
/// segment, the file is nothing; one that is given up is removed by the caller.
pub struct ValueSegmentWriter {
    identity: SegmentIdentity,
    path: PathBuf,
    file: Arc<dyn File>,
    group_bytes_max: u32,
    ledger_number: u64,
    /// The open group: room for the headers, then value records.
    buffer: AlignedBuf,
    /// Checksums of the headers of its value records.
    crcs: Vec<u32>,
    /// Where the open group begins.
    offset: u64,
    previous_crc: u32,
    number: u32,
    values: u64,
    value_bytes: u64,
}

impl ValueSegmentWriter {
    /// Creates the file and writes its header. `ledger_number` is the owner's count that is durable now;
    /// a group takes no further value beyond `group_bytes_max` bytes, a larger value has one of its own.
    pub fn create(
        vfs: &dyn Vfs,
        path: PathBuf,
        identity: SegmentIdentity,
        ledger_number: u64,
        group_bytes_max: u32,
    ) -> Result<Self, VlogError> {
        let end = LogEnd { ledger_number, ..LogEnd::default() };
        let (block, previous_crc) = SegmentHeader::encode(&identity, &end);
        let file = vfs.create(&path, IoMode::Direct)?;
        let mut buffer = AlignedBuf::new();
        buffer.extend_from_slice(&block);
        file.write_at(buffer.as_slice(), 0)?;
        let mut writer = Self {
            identity,
            path,
            file,
            group_bytes_max: group_bytes_max.min(GROUP_BYTES_MAX),
            ledger_number,
            buffer,
            crcs: Vec::new(),
            offset: u64::from(SEGMENT_HEADER_BYTES),
            previous_crc,
            number: 0,
            values: 0,
            value_bytes: 0,
        };
        writer.begin_group();
        Ok(writer)
    }

    /// The logical segment.
    #[must_use]
    pub fn segment(&self) -> u64 {
        self.identity.segment
    }

    /// Its file and whose it is.
    #[must_use]
    pub fn identity(&self) -> &SegmentIdentity {
        &self.identity
    }

    /// The file it writes.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes so far, those not yet written included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        if self.crcs.is_empty() { self.offset } else { self.group_end(0) }
    }

    /// Adds a value as it is stored, verified by the caller; says where it lies. After an error the writer
    /// is good for nothing.
    pub fn add(&mut self, key: &[u8], seq: u64, value: &StoredValue) -> Result<Pointer, VlogError> {
        let length = u64::from(OP_HEADER_BYTES) + (key.len() + value.stored_bytes()) as u64;
        if key.len() > KEY_BYTES_MAX || round_up(u64::from(GROUP_START) + length) > GROUP_BYTES_MAX.into() {
            let why = format!("a value record of {length} bytes; a group holds {GROUP_BYTES_MAX}");
            return Err(VlogError::Refused { why });
        }
        let full = self.buffer.len() as u64 + length > u64::from(self.group_bytes_max)
            || self.crcs.len() >= usize::from(u16::MAX);
        if full && !self.crcs.is_empty() {
            self.write_group()?;
        }
        if self.group_end(length) > u64::from(u32::MAX) {
            let why = format!("the segment is full at {} bytes: offsets have 32 bits", self.bytes());
            return Err(VlogError::Refused { why });
        }
        let offset = self.offset as u32 + self.buffer.len() as u32;
        self.crcs.push(record::put_value(&mut self.buffer, key, seq, value));
        self.values += 1;
        self.value_bytes += length;
        Ok(Pointer { segment: self.identity.segment, offset, length: length as u32 })
    }

    /// Completes the segment: its contents are durable on return, its name is not. A failed sync says
    /// nothing about what is on disk: it is [`VlogError::Poisoned`], and must not be tried again.
    pub fn finish(mut self) -> Result<SegmentSummary, VlogError> {
        self.end_values()?;
        self.file.sync_data().map_err(|error| self.sync_failed(&error))?;
        Ok(self.summary(self.offset))
    }

    /// As [`ValueSegmentWriter::finish`], with a footer that says where values of other segments are in this one; says
    /// how long the file is, too.
    ///
    /// # Panics
    /// Unless the moves strictly ascend by segment and old offset.
    pub fn finish_moved(mut self, moves: &[Moved]) -> Result<(SegmentSummary, u64), VlogError> {
        self.end_values()?;
        let end = self.offset;
        let body = remap::encode(moves);
        if body.len() as u64 + u64::from(GROUP_START) > u64::from(GROUP_BYTES_MAX) {
            let why = format!("a remap of {} values; a group holds {GROUP_BYTES_MAX} bytes", moves.len());
            return Err(VlogError::Refused { why });
        }
        self.buffer.clear();
        self.buffer.resize(GROUP_HEADER_BYTES as usize);
        let crc = record::put_footer(&mut self.buffer, &body);
        self.end_group(crc)?;
        planted::unless("moved values not synced", || self.file.sync_data())
            .map_err(|error| self.sync_failed(&error))?;
        Ok((self.summary(end), self.offset))
    }

    fn end_values(&mut self) -> Result<(), VlogError> {
        if self.crcs.is_empty() { Ok(()) } else { self.write_group() }
    }

    fn sync_failed(&self, error: &std::io::Error) -> VlogError {
        VlogError::Poisoned { why: format!("{}: the sync failed: {error}", file_name(&self.path)) }
    }

    fn summary(&self, end: u64) -> SegmentSummary {
        let Self { values, value_bytes, .. } = *self;
        SegmentSummary { end, values, value_bytes, ..SegmentSummary::default() }
    }

    fn group_end(&self, more: u64) -> u64 {
        self.offset + round_up(self.buffer.len() as u64 + more)
    }

    fn begin_group(&mut self) {
        self.buffer.clear();
        if self.buffer.capacity() > BUFFER_KEPT_BYTES {
            self.buffer = AlignedBuf::new();
        }
        self.buffer.resize(GROUP_START as usize);
        self.crcs.clear();
    }

    fn write_group(&mut self) -> Result<(), VlogError> {
        let used = self.buffer.len() as u32;
        let (record, record_crc) = record::values_header(&self.crcs, used - GROUP_START);
        self.put(GROUP_HEADER_BYTES as usize, &record);
        self.end_group(record_crc)
    }

    /// Writes the group that is in the buffer, which holds one record.
    fn end_group(&mut self, record_crc: u32) -> Result<(), VlogError> {
        let used = self.buffer.len() as u32;
        self.buffer.pad_to_block();
        let header = GroupHeader {
            segment: self.identity.segment,
            generation: self.identity.generation,
            number: self.number,
            epoch: self.identity.epoch,
            length: self.buffer.len() as u32,
            used,
            // Nothing of the segment is durable before all of it is.
            durable_segment: 0,
            durable_end: 0,
            committed_next: 0,
            ledger_number: self.ledger_number,
            previous_crc: self.previous_crc,
            records: 1,
            records_crc: crc32fast::hash(&record_crc.to_le_bytes()),
            crc: 0,
        };
        let (header, crc) = header.encode();
        self.put(0, &header);
        self.file.write_at(self.buffer.as_slice(), self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.previous_crc = crc;
        self.number += 1;
        self.begin_group();
        Ok(())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.buffer.as_mut_slice().get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
}

impl std::fmt::Debug for ValueSegmentWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ValueSegmentWriter").field("path", &self.path).field("bytes", &self.bytes()).finish()
    }
}
