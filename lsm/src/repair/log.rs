//! What the log says, over holes in it.

use std::collections::VecDeque;
use std::sync::Arc;

use kv_manifest::{SegmentKind, SegmentState};
use kv_vlog::{Entry, Expect, LogEnd, LogTime, Op, Position, SalvageFile, Salvaged, ValuePlace, seq_of};

use super::inventory::{FoundSegment, Inventory};
use super::lost::Lost;
use super::report::RepairReport;
use super::scratch::{Scratch, newer, newest};
use crate::error::StoreError;
use crate::key::{Slot, ValuePointer};
use crate::store::slot_of;
use crate::table::TableReader;

/// No entry has a higher index.
const INDEX_MAX: u64 = (1 << 48) - 1;

/// Reads the log into the scratch tables.
///
/// Entries behind `flushed` are in no table and count. Those up to it are in tables, and are wanted only where tables
/// are lost. Of either kind only committed ones are taken: what is not may have been voided by something that is
/// not here any more.
pub(super) struct LogReading<'a> {
    tables: &'a [Arc<TableReader>],
    lost: &'a Lost,
    scratch: &'a mut Scratch,
    report: &'a mut RepairReport,
    inline_below: u64,
    /// Index of the first entry that is in no table.
    wanted: u64,
    /// Index of the entry that should come next; `None`: none was read.
    next: Option<u64>,
    committed_next: u64,
    /// Read, but not known to be committed.
    pending: VecDeque<Entry>,
    /// Whether the end of the log cannot be read.
    is_cut_short: bool,
    /// The last one taken.
    last: Option<Position>,
    /// From this entry on, none is missing.
    pub whole_from: u64,
    /// The highest term that was met, in entries or votes.
    pub term: u64,
    /// What time it was, as far as entries that were taken say.
    pub time: LogTime,
}

impl<'a> LogReading<'a> {
    pub(super) fn new(
        inventory: &'a Inventory,
        lost: &'a Lost,
        scratch: &'a mut Scratch,
        report: &'a mut RepairReport,
        inline_below: u64,
    ) -> Self {
        let flushed = flushed(inventory);
        let wanted = flushed.map_or(0, |at| at.index + 1);
        Self {
            tables: &inventory.tables,
            lost,
            scratch,
            report,
            inline_below,
            wanted,
            next: None,
            committed_next: wanted,
            pending: VecDeque::new(),
            is_cut_short: false,
            last: flushed,
            whole_from: INDEX_MAX,
            term: flushed.map_or(0, |at| at.term),
            time: inventory.hint.times.last().map_or(0, |step| step.time),
        }
    }

    /// Reads all segments; gives the last entry that counts.
    pub(super) fn run(
        &mut self,
        inventory: &Inventory,
        whole_log: bool,
    ) -> Result<Option<Position>, StoreError> {
        let replay_from = inventory.state.as_ref().and_then(|state| state.replay_from).unwrap_or_default();
        let is_wanted = |found: &&FoundSegment| {
            let segment = found.file.written_as().map(|written| written.segment);
            found.is_log && (!self.lost.is_empty() || segment >= Some(replay_from))
        };
        let log: Vec<&FoundSegment> = inventory.segments.iter().filter(is_wanted).collect();
        let newest = log.last().and_then(|found| found.file.written_as());
        for found in log {
            let is_newest = found.file.written_as() == newest;
            self.segment(found, is_newest)?;
        }
        if !self.lost.is_empty() {
            for found in inventory.segments.iter().filter(|found| !found.is_log) {
                self.values(found)?;
            }
        }
        self.end(inventory, whole_log)
    }

    fn segment(&mut self, found: &FoundSegment, is_newest: bool) -> Result<(), StoreError> {
        self.report.files += 1;
        if let Ok(header) = found.file.header() {
            self.begin(&header.end)?;
        }
        let sealed = found.known.as_ref().and_then(|known| known.sealed.as_ref());
        let end = sealed.map_or(found.file.bytes(), |sealed| sealed.end);
        let name = found.file.name();
        if sealed.is_some() && found.file.bytes() < end {
            let why = format!("the file ends at {} and was durable up to {end}", found.file.bytes());
            self.report.problem(&name, Some(found.file.bytes()), why);
        }
        let (durable, inline_below) = (sealed.is_some(), self.inline_below);
        found.file.salvage(end, durable, inline_below, &mut |salvaged| match salvaged {
            Salvaged::Entry(entry) => self.entry(entry),
            Salvaged::Vote(vote) => {
                self.term = self.term.max(vote.term);
                Ok(())
            }
            Salvaged::Truncate(next) => {
                self.truncate(next);
                Ok(())
            }
            Salvaged::Committed(next) => self.committed(next),
            Salvaged::Values(_) => Ok(()),
            Salvaged::Damage { from, to, why } => {
                self.is_cut_short |= is_newest && !durable && to == end;
                self.report.problem(&name, Some(from), format!("{why}; up to {to} nothing more can be read"));
                Ok(())
            }
            Salvaged::Torn { from, why } => {
                if is_newest {
                    let what = "what follows was never acknowledged and does not count";
                    self.report.notes.push(format!("{name}, offset {from}: {what}: {why}"));
                }
                Ok(())
            }
        })
    }

    /// Where the log stood when a segment began.
    fn begin(&mut self, end: &LogEnd) -> Result<(), StoreError> {
        let floor = end.purged.map_or(0, |at| at.index + 1);
        self.term = self.term.max(end.vote.map_or(0, |vote| vote.term));
        let Some(last) = end.last else {
            // Nothing came before, or nothing that stands.
            if self.next.is_some_and(|next| next > floor) {
                self.truncate(floor);
            }
            return self.committed(end.committed_next);
        };
        self.term = self.term.max(last.term);
        match self.next {
            Some(next) if last.index < next => self.truncate(last.index + 1),
            Some(next) if last.index + 1 > next.max(floor) => self.hole(next, last.index, last.term),
            Some(_) => self.next = self.next.max(Some(floor)),
            None if last.index >= self.wanted => self.hole(self.wanted, last.index, last.term),
            None => {
                self.next = Some(last.index + 1);
                self.whole_from = last.index + 1;
            }
        }
        self.committed(end.committed_next)
    }

    fn entry(&mut self, entry: Entry) -> Result<(), StoreError> {
        let index = entry.at.index;
        self.term = self.term.max(entry.at.term);
        match self.next {
            Some(next) if index < next => self.truncate(index),
            Some(next) if index > next => self.hole(next, index - 1, entry.at.term),
            Some(_) => {}
            // With nothing in tables, it may begin anywhere.
            None if self.wanted > 0 && index > self.wanted => {
                self.hole(self.wanted, index - 1, entry.at.term);
            }
            None => self.whole_from = index,
        }
        self.next = Some(index + 1);
        self.pending.push_back(entry);
        self.committed(self.committed_next)
    }

    /// Entries are missing, and one of this term follows. Entries before it that are of the same term are part of
    /// the same leader's log, and stand; of others nobody knows whether they were voided in between.
    fn hole(&mut self, from: u64, to: u64, term: u64) {
        let kept = self.pending.iter().rposition(|entry| entry.at.term != term).map_or(0, |at| at + 1);
        let doubtful: Vec<u64> = self.pending.drain(..kept).map(|entry| entry.at.index).collect();
        let from = doubtful.first().copied().unwrap_or(from);
        self.next = Some(to + 1);
        self.whole_from = to + 1;
        if to >= self.wanted {
            self.report.lost_entries.push((from.max(self.wanted), to));
        }
    }

    fn truncate(&mut self, next: u64) {
        while self.pending.back().is_some_and(|entry| entry.at.index >= next) {
            self.pending.pop_back();
        }
        self.next = self.next.map(|known| known.min(next));
    }

    fn committed(&mut self, next: u64) -> Result<(), StoreError> {
        self.committed_next = self.committed_next.max(next);
        while self.pending.front().is_some_and(|entry| entry.at.index < self.committed_next) {
            if let Some(entry) = self.pending.pop_front() {
                self.take(&entry)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let is_new = entry.at.index >= self.wanted;
        self.time = self.time.max(entry.time);
        if !is_new && self.lost.is_empty() {
            return Ok(());
        }
        let checks = entry.payload.ops().iter().any(|op| matches!(op, Op::Check { .. }));
        if is_new {
            self.last = Some(entry.at);
            if checks && !self.holds(entry)? {
                return Ok(());
            }
        } else if checks {
            // What it was to be decided by has been compacted away.
            self.whole_from = self.whole_from.max(entry.at.index + 1);
            return Ok(());
        }
        for (number, op) in (0u16..).zip(entry.payload.ops()) {
            let seq = seq_of(entry.at.index, number);
            if let Some(slot) = slot_of(op)?
                && (is_new || self.lost.may_have_held(op.key(), seq))
            {
                self.scratch.insert(op.key(), seq, slot)?;
            }
        }
        Ok(())
    }

    /// Whether all checks of an entry hold, as of the entry before.
    fn holds(&self, entry: &Entry) -> Result<bool, StoreError> {
        let before = seq_of(entry.at.index, 0).saturating_sub(1);
        for op in entry.payload.ops() {
            let Op::Check { key, expect } = op else { continue };
            let found = newer(self.scratch.get(key, before)?, newest(self.tables, key, before)?);
            let current = found.filter(|(_, slot)| !slot.is_gone(self.time)).map(|(seq, _)| seq);
            let holds = match expect {
                Expect::Absent => current.is_none(),
                Expect::Seq(seq) => current == Some(*seq),
            };
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Values that lost tables may have pointed to.
    fn values(&mut self, found: &FoundSegment) -> Result<(), StoreError> {
        self.report.files += 1;
        let Some(written) = found.file.written_as() else { return Ok(()) };
        let Self { lost, scratch, wanted, .. } = self;
        let mut each = |file: &SalvageFile| {
            file.salvage(file.bytes(), true, 0, &mut |salvaged| {
                let Salvaged::Values(places) = salvaged else { return Ok(()) };
                for ValuePlace { offset, length, key, seq, value_bytes, expires } in places {
                    if seq < seq_of(*wanted, 0) && lost.may_have_held(&key, seq) {
                        let segment = written.segment;
                        let pointer = ValuePointer { segment, offset, length, value_bytes };
                        scratch.insert(&key, seq, Slot::Pointer(pointer, expires))?;
                    }
                }
                Ok::<(), StoreError>(())
            })
        };
        each(&found.file)
    }

    fn end(&mut self, inventory: &Inventory, whole_log: bool) -> Result<Option<Position>, StoreError> {
        let next = self.next.unwrap_or(self.wanted);
        // Of older segments entries may have been voided since they were complete.
        let known_end = inventory.state.as_ref().and_then(|state| {
            let is_log = |segment: &&SegmentState| segment.kind == SegmentKind::Log && !segment.remapped;
            state.segments.values().rfind(is_log)?.sealed.as_ref()?.last_index
        });
        let known_next = known_end.map_or(0, |last| last + 1).max(self.committed_next);
        if known_next > next.max(self.wanted) {
            self.report.lost_entries.push((next.max(self.wanted), known_next - 1));
            self.whole_from = known_next;
        }
        if self.is_cut_short {
            self.report.lost_entries.push((known_next.max(next), u64::MAX));
            self.whole_from = INDEX_MAX;
        }
        if whole_log {
            self.committed(u64::MAX)?;
        }
        self.report.uncommitted = self.pending.len() as u64;
        self.scratch.spill()?;
        Ok(self.last)
    }
}

/// The last entry that is in tables: as the manifest says, or as tables and what is left of it show.
fn flushed(inventory: &Inventory) -> Option<Position> {
    let said =
        |state: &kv_manifest::State| state.flushed.map(|at| Position { term: at.term, index: at.index });
    if let Some(state) = &inventory.state {
        return said(state);
    }
    let floors = inventory.segments.iter().filter_map(|found| found.file.header().ok()?.end.purged);
    let tables = inventory.tables.iter().map(|table| table.properties().seq_max >> 16);
    let tables = tables.max().map(|index| Position { term: 0, index });
    [said(&inventory.hint), floors.max_by_key(|at| at.index), tables]
        .into_iter()
        .flatten()
        .max_by_key(|at| (at.index, at.term))
}
