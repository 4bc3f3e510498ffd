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
use crate::recover::{SegmentInput, SegmentKind};
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
        let file = vfs.open_read(path, IoMode::Direct)?;
        let len = file.len()?;
        let mut block = AlignedBuf::new();
        block.resize(BLOCK);
        let got = file.read_at(block.as_mut_slice(), 0)?;
        if got < BLOCK {
            return Err(VlogError::corruption(
                path,
                0,
                format!("segment header is cut short at {got} bytes"),
            ));
        }
        let header = SegmentHeader::decode(path, block.as_slice())?;
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
        let parsed = match self.header_at(offset)? {
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
            Err(why) => Err(ScanEnd::Broken { offset, why }),
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
    fn verify_footer(
        &mut self,
        tally: &Tally,
        summary: &SegmentSummary,
    ) -> Result<Result<u64, String>, VlogError> {
        let footer = self.footer()?;
        Ok(footer.and_then(|(body, length)| tally.check(&body, summary).map(|()| length)))
    }

    /// Reads the remap that may stand where the scan of a segment of values has ended; returns its length.
    fn verify_remap(&mut self) -> Result<Result<u64, String>, VlogError> {
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

    fn is_ours(&self, header: &GroupHeader) -> bool {
        let ours = &self.header.identity;
        header.segment == ours.segment && header.generation == ours.generation && header.epoch == ours.epoch
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

/// What a verification read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Groups.
    pub groups: u64,
    /// Records, operations included.
    pub records: u64,
    /// Bytes.
    pub bytes: u64,
    /// The end of the last valid group.
    pub end: u64,
    /// What follows it, where that is no valid group and no damage: a torn tail.
    pub torn: Option<String>,
}

/// Reads and verifies every record of a segment up to `end`, or up to its torn tail if `end` is `None`.
pub fn verify_segment(
    vfs: &dyn Vfs,
    path: &Path,
    identity: &SegmentIdentity,
    end: Option<u64>,
) -> Result<Verified, VlogError> {
    let mut scanner = SegmentScanner::open(vfs, path, end)?;
    scanner.expect(identity)?;
    verify_groups(&mut scanner, path, end, &mut |_| {})
}

/// Reads and verifies a segment as its owner knows it, giving each group to `each`: every record up to the
/// end it was sealed at, and the footer, which must say what the groups hold; of one that is not sealed,
/// every record up to its torn tail.
pub fn walk_segment(
    vfs: &dyn Vfs,
    segment: &SegmentInput,
    each: &mut dyn FnMut(&Found),
) -> Result<Verified, VlogError> {
    let end = segment.sealed.as_ref().map(|summary| summary.end);
    let mut scanner = SegmentScanner::open(vfs, &segment.path, end)?;
    scanner.expect(&segment.identity)?;
    if segment.kind == SegmentKind::Values {
        return walk_values(&mut scanner, segment, each);
    }
    let mut tally = Tally::default();
    let mut verified = verify_groups(&mut scanner, &segment.path, end, &mut |found| {
        found.records.iter().for_each(|(offset, _, record)| tally.add(*offset, record));
        each(found);
    })?;
    if let Some(summary) = segment.sealed.as_ref().filter(|summary| !summary.cut) {
        let at = verified.end;
        verified.bytes += scanner
            .verify_footer(&tally, summary)?
            .map_err(|why| VlogError::corruption(&segment.path, at, format!("footer: {why}")))?;
    }
    Ok(verified)
}

/// A segment of values has a footer only where values of other segments are in it. Its owner recorded how much of what
/// it holds.
fn walk_values(
    scanner: &mut SegmentScanner,
    segment: &SegmentInput,
    each: &mut dyn FnMut(&Found),
) -> Result<Verified, VlogError> {
    let known = segment.sealed.clone().unwrap_or_default();
    let (mut values, mut value_bytes, mut stranger) = (0, 0, None);
    let mut verified = verify_groups(scanner, &segment.path, Some(known.end), &mut |found| {
        for (offset, _, record) in &found.records {
            match record {
                Record::Values(records) => {
                    values += records.len() as u64;
                    value_bytes += records.iter().map(|record| u64::from(record.length)).sum::<u64>();
                }
                _ => stranger = stranger.or(Some(*offset)),
            }
        }
        each(found);
    })?;
    let bad = |at, why: &str| Err(VlogError::corruption(&segment.path, at, why));
    if let Some(offset) = stranger {
        return bad(u64::from(offset), "a record of the log in a segment of values");
    }
    if (values, value_bytes) != (known.values, known.value_bytes) {
        return bad(known.end, "it does not hold the values that the manifest says");
    }
    verified.bytes += scanner
        .verify_remap()?
        .map_err(|why| VlogError::corruption(&segment.path, known.end, format!("footer: {why}")))?;
    Ok(verified)
}

fn verify_groups(
    scanner: &mut SegmentScanner,
    path: &Path,
    end: Option<u64>,
    each: &mut dyn FnMut(&Found),
) -> Result<Verified, VlogError> {
    let mut verified = Verified { bytes: u64::from(SEGMENT_HEADER_BYTES), ..Default::default() };
    loop {
        match scanner.next_group()? {
            Ok(found) => {
                verified.add(&found);
                each(&found);
            }
            Err(ScanEnd::Complete { offset }) => {
                verified.end = offset;
                if end.is_some_and(|end| offset < end) {
                    let why = "the file is shorter than the manifest says";
                    return Err(VlogError::corruption(path, offset, why));
                }
                return Ok(verified);
            }
            Err(ScanEnd::Broken { offset, why }) => {
                verified.end = offset;
                verified.torn = Some(torn_or_damaged(scanner, path, offset, why, end)?);
                return Ok(verified);
            }
        }
    }
}

impl Verified {
    fn add(&mut self, found: &Found) {
        self.groups += 1;
        self.bytes += u64::from(found.header.length);
        self.records += found.records.len() as u64;
        for (_, _, record) in &found.records {
            self.records += match record {
                Record::Entry(_, ops) => ops.len() as u64,
                Record::Values(values) => values.len() as u64,
                Record::Vote(_) | Record::Truncate(_) | Record::Footer => 0,
            };
        }
    }
}

/// A broken group is a torn tail only where nothing says that it was durable; else it is damage.
pub(crate) fn torn_or_damaged(
    scanner: &mut SegmentScanner,
    path: &Path,
    offset: u64,
    why: String,
    end: Option<u64>,
) -> Result<String, VlogError> {
    let named = scanner.durable_end_named_behind(offset)?.filter(|durable| *durable > offset);
    if let Some(durable) = named.or(end).filter(|_| !planted::is("log cut at any bad checksum")) {
        let why = format!("{why}; it was durable up to {durable}, so this is damage and no torn tail");
        return Err(VlogError::corruption(path, offset, why));
    }
    Ok(why)
}
