//! Reading a segment from front to back: what recovery, verification and inspection share.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kv_vfs::{AlignedBuf, BLOCK, File, IoMode, Vfs, planted};

use crate::error::VlogError;
use crate::footer::{SegmentSummary, Tally};
use crate::format::{GROUP_HEADER_BYTES, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, round_up};
use crate::group::GroupHeader;
use crate::header::{SegmentHeader, SegmentIdentity};
use crate::record::{self, Parsed};
use crate::remap;
use crate::types::{Entry, ValueRecord, Vote};

/// Bytes read ahead. Bounds the memory of a scan, together with the largest group.
const WINDOW_BYTES: usize = 1 << 20;

/// A record found by a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An entry, with the offset in the segment of each of its operations.
    Entry(Entry, Vec<u32>),
    /// A vote.
    Vote(Vote),
    /// Entries from this index on are void.
    Truncate(u64),
    /// The footer; nothing follows it.
    Footer,
    /// Value records, with their offsets in the segment; in segments of values only.
    Values(Vec<ValueRecord>),
}

/// A whole, valid group.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its header.
    pub header: GroupHeader,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its records, each with its offset in the file and its length.
    pub records: Vec<(u32, u32, Record)>,
}

/// Why a scan ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanEnd {
    /// At the end of what counts.
    Complete {
        /// Offset of the end.
        offset: u64,
    },
    /// What follows is no valid group: a torn tail, or damage.
    Broken {
        /// Where it begins.
        offset: u64,
        /// What is wrong with it.
        why: String,
        /// Whether no group of this segment begins there, in a file that held another one before: then it is
        /// what that left, as far as anybody can tell.
        is_stale: bool,
    },
}

/// Reads the groups of one segment in order, verifying everything.
#[derive(Debug)]
pub struct SegmentScanner {
    file: Arc<dyn File>,
    header: SegmentHeader,
    window: AlignedBuf,
    window_at: u64,
    end: u64,
    at: u64,
    previous_crc: u32,
    number: u32,
}

impl SegmentScanner {
    /// Opens a segment file and reads its header. `end`: read no further than this offset.
    pub fn open(vfs: &dyn Vfs, path: &Path, end: Option<u64>) -> Result<Self, VlogError> {
        Self::over(vfs.open_read(path, IoMode::Direct)?, end)
    }

    /// As [`SegmentScanner::open`], of a file that is open, whatever its name is by now.
    pub(crate) fn over(file: Arc<dyn File>, end: Option<u64>) -> Result<Self, VlogError> {
        let (len, path) = (file.len()?, file.path().to_path_buf());
        let mut block = AlignedBuf::new();
        block.resize(BLOCK);
        let got = file.read_at(block.as_mut_slice(), 0)?;
        if got < BLOCK {
            return Err(VlogError::corruption(
                &path,
                0,
                format!("segment header is cut short at {got} bytes"),
            ));
        }
        let header = SegmentHeader::decode(&path, block.as_slice())?;
        Ok(Self {
            file,
            header,
            window: AlignedBuf::new(),
            window_at: 0,
            end: end.map_or(len, |end| end.min(len)),
            at: u64::from(SEGMENT_HEADER_BYTES),
            previous_crc: header.crc,
            number: 0,
        })
    }

    /// The segment's header.
    #[must_use]
    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// Refuses a file that holds another segment than it should.
    pub fn expect(&self, identity: &SegmentIdentity) -> Result<(), VlogError> {
        self.header.expect(self.file.path(), identity)
    }

    /// The next group, or why there is none.
    pub fn next_group(&mut self) -> Result<Result<Found, ScanEnd>, VlogError> {
        if self.at >= self.end {
            return Ok(Err(ScanEnd::Complete { offset: self.at }));
        }
        let offset = self.at;
        let header = self.header_at(offset)?;
        let is_stale =
            self.header.identity.generation > 0 && !header.is_ok_and(|header| self.is_ours(&header));
        let parsed = match header {
            Ok(header) => self.group(offset, header)?,
            Err(why) => Err(why.to_string()),
        };
        Ok(match parsed {
            Ok(found) => {
                self.at += u64::from(found.header.length);
                self.previous_crc = found.header.crc;
                self.number += 1;
                Ok(found)
            }
            Err(why) => Err(ScanEnd::Broken { offset, why, is_stale }),
        })
    }

    /// The highest durable end, in this segment, that any valid group header behind `offset` names.
    ///
    /// The writer begins a group only after the one before it is durable, so a group behind a broken one
    /// proves that the broken one was acknowledged and is damaged, not torn.
    pub fn durable_end_named_behind(&mut self, offset: u64) -> Result<Option<u64>, VlogError> {
        let mut highest = None;
        let mut at = offset + BLOCK as u64;
        while at < self.end {
            if let Ok(header) = self.header_at(at)?
                && self.is_ours(&header)
                && header.durable_segment == header.segment
            {
                highest = highest.max(Some(header.durable_end));
            }
            at += BLOCK as u64;
        }
        Ok(highest)
    }

    /// Reads the footer's group, which begins where the scan has ended; returns its length.
    pub(crate) fn verify_footer(
        &mut self,
        tally: &Tally,
        summary: &SegmentSummary,
    ) -> Result<Result<u64, String>, VlogError> {
        let footer = self.footer()?;
        Ok(footer.and_then(|(body, length)| tally.check(&body, summary).map(|()| length)))
    }

    /// Reads the remap that may stand where the scan of a segment of values has ended; returns its length.
    pub(crate) fn verify_remap(&mut self) -> Result<Result<u64, String>, VlogError> {
        if self.file.len()? <= self.at {
            return Ok(Ok(0));
        }
        let checked = |(body, length)| match remap::decode_all(&body) {
            Ok(_) => Ok(length),
            Err(why) => Err(why.to_string()),
        };
        Ok(self.footer()?.and_then(checked))
    }

    /// The body of the footer, whose group begins where the scan has ended, and the length of the group.
    fn footer(&mut self) -> Result<Result<(Bytes, u64), String>, VlogError> {
        self.end = self.file.len()?;
        let found = match self.next_group()? {
            Ok(found) => found,
            Err(ScanEnd::Complete { .. }) => return Ok(Err("it is missing".into())),
            Err(ScanEnd::Broken { why, .. }) => return Ok(Err(why)),
        };
        let [(start, length, Record::Footer)] = found.records[..] else {
            return Ok(Err("other records stand in its place".into()));
        };
        let (at, len) = (start + RECORD_HEADER_BYTES, length.saturating_sub(RECORD_HEADER_BYTES));
        let body = self.bytes(u64::from(at), len as usize)?.unwrap_or_default();
        Ok(Ok((Bytes::copy_from_slice(body), u64::from(found.header.length))))
    }

    /// Whether the group was written for this segment. A recycled file has groups of other segments behind the end of its
    /// own, valid and chained ones.
    fn is_ours(&self, header: &GroupHeader) -> bool {
        self.header.identity.wrote(header) || planted::is("groups of an earlier use believed")
    }

    fn header_at(&mut self, offset: u64) -> Result<Result<GroupHeader, &'static str>, VlogError> {
        let bytes = self.bytes(offset, GROUP_HEADER_BYTES as usize)?;
        Ok(bytes.ok_or("group header is cut short").and_then(GroupHeader::decode))
    }

    fn group(&mut self, offset: u64, header: GroupHeader) -> Result<Result<Found, String>, VlogError> {
        if !self.is_ours(&header) {
            return Ok(Err("group belongs to an earlier use of the file".into()));
        }
        if header.previous_crc != self.previous_crc || header.number != self.number {
            return Ok(Err("group does not follow the one before it".into()));
        }
        let Some(bytes) = self.bytes(offset, header.length as usize)? else {
            return Ok(Err(format!("group of {} bytes is cut short by the end of the file", header.length)));
        };
        let bytes = Bytes::copy_from_slice(bytes.get(..header.used as usize).unwrap_or_default());
        Ok(records(&header, offset, &bytes).map(|records| Found { header, offset, records }))
    }

    /// Bytes of the file, `None` beyond the end; read through the window.
    fn bytes(&mut self, offset: u64, len: usize) -> Result<Option<&[u8]>, VlogError> {
        if offset + len as u64 > self.end {
            return Ok(None);
        }
        let window_end = self.window_at + self.window.len() as u64;
        if offset < self.window_at || offset + len as u64 > window_end {
            self.window_at = offset;
            let room = round_up(self.end - offset) as usize;
            self.window.resize(round_up(len as u64).max(WINDOW_BYTES as u64).min(room as u64) as usize);
            let got = self.file.read_at(self.window.as_mut_slice(), offset)?;
            self.window.resize(got);
        }
        let start = (offset - self.window_at) as usize;
        Ok(self.window.as_slice().get(start..start + len))
    }
}

fn records(header: &GroupHeader, offset: u64, bytes: &Bytes) -> Result<Vec<(u32, u32, Record)>, String> {
    let mut found = Vec::with_capacity((header.records as usize).min(bytes.len() / 32));
    let mut digest = crc32fast::Hasher::new();
    let mut at = GROUP_HEADER_BYTES as usize;
    for _ in 0..header.records {
        if at >= bytes.len() {
            return Err("group ends before its last record".into());
        }
        let rest = bytes.slice(at..);
        let (length, _) = record::peek(&rest).ok_or("record is cut short")?;
        let (parsed, crc) = record::parse(&rest)?;
        digest.update(&crc.to_le_bytes());
        let start = offset as u32 + at as u32;
        found.push((start, length, public(parsed, start)));
        at += length as usize;
    }
    if at != bytes.len() || digest.finalize() != header.records_crc {
        return Err("records do not match their group".into());
    }
    Ok(found)
}

fn public(parsed: Parsed, start: u32) -> Record {
    match parsed {
        Parsed::Entry(entry, ops) => Record::Entry(entry, ops.into_iter().map(|at| start + at).collect()),
        Parsed::Vote(vote) => Record::Vote(vote),
        Parsed::Truncate(next) => Record::Truncate(next),
        Parsed::Footer(_) => Record::Footer,
        Parsed::Values(mut values) => {
            values.iter_mut().for_each(|value| value.offset += start);
            Record::Values(values)
        }
    }
}
