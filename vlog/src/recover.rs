//! Recovery: what the segments say, from the replay position on.
//!
//! Below the highest durable end that any valid group names, an invalid frame is corruption and the log
//! refuses to open; above it, it is a torn tail and is cut. The cut is recorded by the owner before the
//! first new acknowledgement, the cut segment is never appended to again, and every open starts a new
//! segment under a new epoch: stale frames behind a cut cannot come back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_vfs::{Vfs, planted};

use crate::error::VlogError;
use crate::footer::SegmentSummary;
use crate::header::{LogEnd, SegmentIdentity};
use crate::index::LogIndex;
use crate::ledger::SealedSegment;
use crate::scan::{Found, Record, ScanEnd, SegmentScanner};
use crate::settle::settle;
use crate::tail::pointer_view;
use crate::types::{Entry, Op, Payload, Position};
use crate::verify::torn_or_damaged;

/// What a segment holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SegmentKind {
    /// A part of the log.
    #[default]
    Log,
    /// Values alone ([`crate::ValueSegmentWriter`]): complete, and not read by recovery.
    Values,
    /// Whatever it was: its values lie in the file of another segment, one of values, and nothing else is left of
    /// it. Path and identity say nothing.
    Moved {
        /// That segment.
        into: u64,
    },
}

/// A segment the owner knows of.
#[derive(Clone, Debug)]
pub struct SegmentInput {
    /// What kind of segment it is.
    pub kind: SegmentKind,
    /// What its header must say.
    pub identity: SegmentIdentity,
    /// Where it is.
    pub path: PathBuf,
    /// What it holds; `None` for the one that was open last.
    pub sealed: Option<SegmentSummary>,
}

/// What recovery starts from.
#[derive(Clone, Debug, Default)]
pub struct RecoverInput {
    /// All segments, oldest first.
    pub segments: Vec<SegmentInput>,
    /// The segment from whose start on records are read; earlier ones are known by their summaries.
    pub replay_from: u64,
    /// The last purged entry. The log may begin above it, and lack entries below it.
    pub purged: Option<Position>,
    /// Values shorter than this are handed over whole, others as pointers.
    pub inline_below: u64,
    /// Whether what is found must be made durable, because something will be built upon it. Not for a
    /// reader that only looks.
    pub durable: bool,
}

/// Takes what recovery reads, in log order.
pub trait Replay {
    /// The owner's error.
    type Error: From<VlogError>;
    /// The next entry; large values as pointers. One at an index that was there before voids the old one
    /// and all behind it.
    fn entry(&mut self, entry: Entry) -> Result<(), Self::Error>;
    /// Entries from this index on are void. Never reaches into committed ones.
    fn truncate(&mut self, next: u64) -> Result<(), Self::Error>;
    /// Entries below this index are committed.
    fn committed(&mut self, next: u64) -> Result<(), Self::Error>;
}

/// What recovery found.
#[derive(Debug)]
pub struct Recovered {
    /// Where the log stands.
    pub end: LogEnd,
    /// The segment that was open last, as it must be recorded now.
    pub sealed: Option<SealedSegment>,
    /// Where its torn tail was cut, for a note to the operator.
    pub torn: Option<String>,
    pub(crate) index: LogIndex,
    pub(crate) segments: Vec<SegmentInput>,
    /// Where everything durable ends: segment and offset.
    pub(crate) durable: (u64, u64),
}

impl Recovered {
    /// What a segment holds: as it was recorded, or as it was just found.
    pub(crate) fn summary_of<'a>(&'a self, segment: &'a SegmentInput) -> Option<&'a SegmentSummary> {
        let found = self.sealed.as_ref().filter(|sealed| sealed.segment == segment.identity.segment);
        segment.sealed.as_ref().or(found.map(|sealed| &sealed.summary))
    }
}

/// Reads the log and hands it to `replay`.
pub fn recover<R: Replay>(
    vfs: &Arc<dyn Vfs>,
    input: RecoverInput,
    replay: &mut R,
) -> Result<Recovered, R::Error> {
    let mut log = Recovery {
        index: LogIndex::default(),
        end: LogEnd { purged: input.purged, ..Default::default() },
        floor_next: input.purged.map(|purged| purged.index + 1),
        inline_below: input.inline_below,
        durable: input.durable,
        replay,
    };
    let (mut sealed, mut torn, mut durable) = (None, None, (0, 0));
    for segment in input.segments.iter().filter(|segment| segment.kind == SegmentKind::Log) {
        let number = segment.identity.segment;
        match &segment.sealed {
            Some(summary) if number < input.replay_from => {
                let first = summary.first_index.unwrap_or_default();
                log.follows(&segment.path, 0, first)?;
                log.index.load(number, summary);
                durable = (number, summary.end);
            }
            known => {
                let (end, cut) = log.scan(vfs, segment)?;
                durable = (number, end);
                if known.is_none() {
                    // Its offsets stay in memory, since it has no footer and its end is read next.
                    let summary = log.index.summary(number, end, true);
                    sealed = Some(SealedSegment { segment: number, summary });
                    torn = cut;
                } else {
                    log.index.seal(number);
                }
            }
        }
    }
    if let Some(purged) = input.purged {
        log.index.purge(purged);
        // Whether or not a group came to say so: what was given up was committed.
        log.replay.committed(purged.index + 1)?;
        log.end.committed_next = log.end.committed_next.max(purged.index + 1);
    }
    log.end.last = log.index.last();
    let Recovery { index, end, .. } = log;
    Ok(Recovered { end, sealed, torn, index, segments: input.segments, durable })
}

/// The newest count of the owner that a segment's valid groups name. Counts only grow, so that of the
/// newest segment is the newest of all.
pub fn ledger_number(vfs: &Arc<dyn Vfs>, segment: &SegmentInput) -> Result<u64, VlogError> {
    let end = segment.sealed.as_ref().map(|summary| summary.end);
    let mut scanner = SegmentScanner::open(&**vfs, &segment.path, end)?;
    scanner.expect(&segment.identity)?;
    let mut newest = scanner.header().end.ledger_number;
    while let Ok(found) = scanner.next_group()? {
        newest = newest.max(found.header.ledger_number);
    }
    Ok(newest)
}

struct Recovery<'a, R> {
    index: LogIndex,
    end: LogEnd,
    /// Entries below it were given up; `None`: none were, and the log may begin anywhere.
    floor_next: Option<u64>,
    inline_below: u64,
    durable: bool,
    replay: &'a mut R,
}

impl<R: Replay> Recovery<'_, R> {
    /// Reads one segment; returns its end and, if its tail was torn, what was wrong there.
    fn scan(&mut self, vfs: &Arc<dyn Vfs>, input: &SegmentInput) -> Result<(u64, Option<String>), R::Error> {
        if self.durable && input.sealed.is_none() {
            // It is replayed below and may be built upon: survives a power loss just after this recovery.
            settle(&**vfs, &input.path)?;
        }
        let limit = input.sealed.as_ref().map(|summary| summary.end);
        let mut scanner = SegmentScanner::open(&**vfs, &input.path, limit)?;
        scanner.expect(&input.identity)?;
        self.head(&input.path, &scanner.header().end.clone())?;
        self.index.open(input.identity.segment);
        loop {
            match scanner.next_group()? {
                Ok(found) => self.group(&input.path, input.identity.segment, found)?,
                Err(ScanEnd::Complete { offset }) => {
                    if let Some(limit) = limit.filter(|limit| offset < *limit) {
                        let why = format!("the file ends here, but was durable up to {limit}");
                        return Err(VlogError::corruption(&input.path, offset, why).into());
                    }
                    return Ok((offset, None));
                }
                Err(ScanEnd::Broken { offset, why, is_stale }) => {
                    let why = torn_or_damaged(&mut scanner, &input.path, offset, why, limit)?;
                    let name = crate::error::file_name(&input.path);
                    return Ok((offset, (!is_stale).then(|| format!("{name}, offset {offset}: {why}"))));
                }
            }
        }
    }

    fn head(&mut self, path: &Path, end: &LogEnd) -> Result<(), R::Error> {
        // A truncation may stand in a segment that is not read; the header says where the log ended.
        let next = end.last.map_or(0, |last| last.index + 1);
        self.follows(path, 0, next)?;
        if next < self.index.next_index() && !planted::is("truncation in a header not replayed") {
            self.index.truncate(next);
            self.replay.truncate(next)?;
        }
        self.end.vote = end.vote.or(self.end.vote);
        self.end.ledger_number = self.end.ledger_number.max(end.ledger_number);
        self.committed(end.committed_next)
    }

    fn group(&mut self, path: &Path, segment: u64, found: Found) -> Result<(), R::Error> {
        for (offset, _, record) in found.records {
            match record {
                Record::Entry(entry, ops) => self.entry(path, segment, offset, entry, &ops)?,
                Record::Vote(vote) => self.end.vote = Some(vote),
                Record::Truncate(_) if planted::is("truncation not replayed") => {}
                Record::Truncate(next) => {
                    self.index.truncate(next);
                    self.replay.truncate(next)?;
                }
                Record::Footer => {}
                Record::Values(_) => {
                    let why = "a record of values in a segment of the log";
                    return Err(VlogError::corruption(path, u64::from(offset), why).into());
                }
            }
        }
        self.end.ledger_number = self.end.ledger_number.max(found.header.ledger_number);
        let known_next = self.index.next_index().max(self.floor_next.unwrap_or_default());
        if found.header.committed_next > known_next {
            let why = format!(
                "entries below {} are said to be committed, but the log ends at {}",
                found.header.committed_next,
                self.index.next_index()
            );
            return Err(VlogError::corruption(path, found.offset, why).into());
        }
        self.committed(found.header.committed_next)
    }

    fn entry(
        &mut self,
        path: &Path,
        segment: u64,
        offset: u32,
        entry: Entry,
        ops: &[u32],
    ) -> Result<(), R::Error> {
        self.follows(path, offset, entry.at.index)?;
        self.index.push(segment, offset, &entry);
        let payload = match &entry.payload {
            Payload::Ops(list) => {
                let view = |(op, at): (&Op, &u32)| pointer_view(op, segment, *at, self.inline_below);
                Payload::Ops(list.iter().zip(ops).map(view).collect())
            }
            other => other.clone(),
        };
        self.replay.entry(Entry { payload, ..entry })
    }

    /// Refuses what stands at `index` where entries before it are missing. Those below the floor may be:
    /// their segments were dropped, or never written here because a snapshot came in their place.
    fn follows(&self, path: &Path, offset: u32, index: u64) -> Result<(), VlogError> {
        let begins = self.index.last().is_none() && self.floor_next.is_none();
        let next = self.index.next_index().max(self.floor_next.unwrap_or_default());
        if begins || index <= next {
            return Ok(());
        }
        let why = format!("entry {index} follows where {next} should: entries are missing");
        Err(VlogError::corruption(path, u64::from(offset), why))
    }

    fn committed(&mut self, next: u64) -> Result<(), R::Error> {
        if next > self.end.committed_next {
            self.end.committed_next = next;
            self.replay.committed(next)?;
        }
        Ok(())
    }
}
