//! Reading entries and values from the log: from memory where they are new, else from their segment.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::VlogError;
use crate::index::{LogIndex, Place};
use crate::log::Vlog;
use crate::read::SegmentFile;
use crate::scan::{Record, ScanEnd};
use crate::tail::Cached;
use crate::types::{Entry, Op, OpValue, Pointer};
use crate::value::StoredValue;

impl Vlog {
    /// Entries of `range` from its start, until they hold `bytes_max` bytes: at least one, if the log
    /// holds the first. With `values`, as they were appended; else as apply wants them, large values as
    /// pointers. Stops at the end of the log; [`VlogError::Purged`] if the start is below it.
    pub fn entries(&self, range: Range<u64>, bytes_max: u64, values: bool) -> Result<Vec<Entry>, VlogError> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for index in range {
            if !entries.is_empty() && bytes >= bytes_max {
                break;
            }
            let Some(cached) = self.entry(index)? else { break };
            bytes += u64::from(cached.bytes);
            entries.push(self.seen(&cached, values));
        }
        Ok(entries)
    }

    /// As [`Vlog::entries`], but from memory alone: `None` where the disk would have to be read.
    #[must_use]
    pub fn cached_entries(&self, range: Range<u64>, bytes_max: u64, values: bool) -> Option<Vec<Entry>> {
        let inner = self.shared.inner.lock();
        if range.start < inner.index.first_readable() {
            return None;
        }
        let end = range.end.min(inner.index.next_index());
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for index in range.start..end {
            if !entries.is_empty() && bytes >= bytes_max {
                break;
            }
            let cached = inner.tail.get(index)?;
            bytes += u64::from(cached.bytes);
            entries.push(self.seen(cached, values));
        }
        Some(entries)
    }

    fn seen(&self, cached: &Cached, values: bool) -> Entry {
        if values { cached.entry.clone() } else { cached.pointers(self.shared.options.inline_below) }
    }

    fn entry(&self, index: u64) -> Result<Option<Arc<Cached>>, VlogError> {
        match self.find_entry(index) {
            // Given up, and its segment with it, between the two looks.
            Err(_) if self.is_purged(index) => Err(VlogError::Purged { index }),
            found => found,
        }
    }

    fn is_purged(&self, index: u64) -> bool {
        self.shared.inner.lock().index.purged().is_some_and(|purged| index <= purged.index)
    }

    fn find_entry(&self, index: u64) -> Result<Option<Arc<Cached>>, VlogError> {
        let place = {
            let inner = self.shared.inner.lock();
            // First: an entry that was given up may be in memory still.
            if index < inner.index.first_readable() {
                return Err(VlogError::Purged { index });
            }
            if let Some(cached) = inner.tail.get(index) {
                return Ok(Some(cached.clone()));
            }
            match inner.index.place(index) {
                Some(place) => place,
                None => return Ok(None),
            }
        };
        let (segment, offset) = match place {
            Place::At(segment, offset) => (segment, offset),
            Place::InSealed(segment, number) => (segment, self.sealed_offset(segment, number)?),
        };
        let file = self.file(segment)?;
        let (entry, bytes) = file.entry(offset)?;
        if entry.at.index != index {
            let why = format!("misdirected read: entry {} where {index} should be", entry.at.index);
            return Err(file.corruption(u64::from(offset), why));
        }
        Ok(Some(Arc::new(Cached { entry, segment, offset, bytes })))
    }

    fn sealed_offset(&self, segment: u64, number: u32) -> Result<u32, VlogError> {
        let file = self.file(segment)?;
        // The footer of a sealed segment begins where its groups end.
        let end = file.written();
        if !self.cut.contains(&segment) {
            return file.footer_offset(end, number);
        }
        let offsets = self.scan_offsets(segment, &file, end)?;
        let missing = || file.corruption(end, "the cut segment does not hold the entry");
        offsets.get(number as usize).copied().ok_or_else(missing)
    }

    /// Entry offsets of a cut segment, which has no footer; remembers those of the last one asked for.
    fn scan_offsets(&self, segment: u64, file: &SegmentFile, end: u64) -> Result<Arc<Vec<u32>>, VlogError> {
        let mut scanned = self.scanned.lock();
        if let Some((of, offsets)) = &*scanned
            && *of == segment
        {
            return Ok(offsets.clone());
        }
        let mut index = LogIndex::default();
        index.open(segment);
        let mut scanner = file.scan(end)?;
        loop {
            match scanner.next_group()? {
                Ok(found) => {
                    for (offset, _, record) in found.records {
                        match record {
                            Record::Entry(entry, _) => index.push(segment, offset, &entry),
                            Record::Truncate(next) => index.truncate(next),
                            Record::Vote(_) | Record::Footer | Record::Values(_) => {}
                        }
                    }
                }
                Err(ScanEnd::Complete { .. }) => break,
                Err(ScanEnd::Broken { offset, why, .. }) => return Err(file.corruption(offset, why)),
            }
        }
        let offsets = Arc::new(index.offsets(segment).to_vec());
        *scanned = Some((segment, offsets.clone()));
        Ok(offsets)
    }

    fn file(&self, segment: u64) -> Result<Arc<SegmentFile>, VlogError> {
        self.shared.files.expect(segment)
    }

    /// The value that a pointer names, as stored; fails unless the record holds this key and version.
    pub fn value(&self, pointer: Pointer, key: &[u8], seq: u64) -> Result<StoredValue, VlogError> {
        match self.unwritten(pointer, key, seq)? {
            Some(value) => Ok(value),
            None => {
                let (file, at) = self.shared.files.locate(pointer)?;
                file.value(at, key, seq)
            }
        }
    }

    /// A part of a value, uncompressed; `range` lies within the value. Reads only the chunks it touches.
    pub fn value_range(
        &self,
        pointer: Pointer,
        key: &[u8],
        seq: u64,
        range: Range<u64>,
    ) -> Result<Bytes, VlogError> {
        if self.unwritten(pointer, key, seq)?.is_none() {
            let (file, at) = self.shared.files.locate(pointer)?;
            if let Some(part) = file.value_range(at, key, seq, range.clone())? {
                return Ok(part);
            }
        }
        let whole = self.decoded(pointer, key, seq)?;
        let end = (range.end as usize).min(whole.len());
        Ok(whole.slice((range.start as usize).min(end)..end))
    }

    /// The value that a pointer names, uncompressed.
    pub fn decoded(&self, pointer: Pointer, key: &[u8], seq: u64) -> Result<Bytes, VlogError> {
        self.value(pointer, key, seq)?.decode().map_err(|why| VlogError::Corruption {
            file: format!("segment {}", pointer.segment),
            offset: u64::from(pointer.offset),
            why,
        })
    }

    /// A value that is applied but not yet written: only in memory.
    fn unwritten(&self, pointer: Pointer, key: &[u8], seq: u64) -> Result<Option<StoredValue>, VlogError> {
        let end = u64::from(pointer.offset) + u64::from(pointer.length);
        let written = || {
            let place = self.shared.files.location(pointer.segment, 0);
            place.is_some_and(|place| place.moved || end <= place.file.written())
        };
        if written() {
            return Ok(None);
        }
        let found = self.shared.inner.lock().tail.find(pointer);
        let why = match found {
            Some((s, Op::Put { key: k, value: OpValue::Full(value) })) if (&*k, s) == (key, seq) => {
                return Ok(Some(value));
            }
            // Written and let go between the two looks.
            None if written() => return Ok(None),
            None => "a pointer names bytes beyond the segment's end",
            Some(_) => "misdirected read: the record holds another key or version",
        };
        let (file, offset) = (format!("segment {}", pointer.segment), u64::from(pointer.offset));
        Err(VlogError::Corruption { file, offset, why: why.into() })
    }
}
