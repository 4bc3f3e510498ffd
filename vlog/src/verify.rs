//! Whole segments, read and verified: what offline tools and a running store do with them.

use std::path::Path;

use kv_vfs::{Vfs, planted};

use crate::error::VlogError;
use crate::footer::Tally;
use crate::format::SEGMENT_HEADER_BYTES;
use crate::header::SegmentIdentity;
use crate::recover::{SegmentInput, SegmentKind};
use crate::scan::{Found, Record, ScanEnd, SegmentScanner};

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
///
/// A file that has lost its name meanwhile may have
/// been written again, or cut, by the process that owns it: that is no damage, but a file that is not there.
pub fn walk_segment(
    vfs: &dyn Vfs,
    segment: &SegmentInput,
    each: &mut dyn FnMut(&Found),
) -> Result<Verified, VlogError> {
    match walk_named(vfs, segment, each) {
        Err(VlogError::Corruption { .. }) if !vfs.exists(&segment.path)? => {
            let why = format!("{}: given up while it was read", segment.path.display());
            Err(std::io::Error::new(std::io::ErrorKind::NotFound, why).into())
        }
        walked => walked,
    }
}

/// As [`walk_segment`], whatever has become of the name.
fn walk_named(
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
            Err(ScanEnd::Broken { offset, why, is_stale }) => {
                verified.end = offset;
                let why = torn_or_damaged(scanner, path, offset, why, end)?;
                verified.torn = (!is_stale).then_some(why);
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
