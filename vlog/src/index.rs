//! Where each entry of the log lies. Compact: nothing per entry is kept for sealed segments.

use std::collections::BTreeMap;
use std::ops::Bound;

use kv_vfs::planted;

use crate::footer::SegmentSummary;
use crate::types::{Entry, Op, Position};

/// Where an entry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this segment, at this offset.
    At(u64, u32),
    /// In this sealed segment; its number among the segment's entries.
    InSealed(u64, u32),
}

impl Place {
    pub(crate) fn segment(self) -> u64 {
        match self {
            Place::At(segment, _) | Place::InSealed(segment, _) => segment,
        }
    }
}

/// Entries of one segment.
#[derive(Clone, Debug, Default)]
struct SegmentEntries {
    first: u64,
    count: u64,
    /// Of each entry; `None` once the segment is sealed.
    offsets: Option<Vec<u32>>,
    values: u64,
    value_bytes: u64,
}

/// The log's entries, by index. Invariants: entries above the purge floor are consecutive; `last` is the
/// last of them; an index belongs to the newest segment whose first entry is not beyond it. Below the floor
/// entries may be missing: a snapshot stands in for them, and what was before it is not read any more.
#[derive(Debug, Default)]
pub(crate) struct LogIndex {
    segments: BTreeMap<u64, SegmentEntries>,
    /// First index -> segment, for segments that hold entries.
    by_first: BTreeMap<u64, u64>,
    /// First index -> term, for each run of entries of one term. The floor itself always has its term.
    terms: BTreeMap<u64, u64>,
    last: Option<Position>,
    purged: Option<Position>,
}

impl LogIndex {
    /// The last entry; the purged one when nothing follows it.
    pub(crate) fn last(&self) -> Option<Position> {
        self.last.or(self.purged)
    }

    /// Index of the entry that comes next.
    pub(crate) fn next_index(&self) -> u64 {
        self.last().map_or(0, |at| at.index + 1)
    }

    pub(crate) fn purged(&self) -> Option<Position> {
        self.purged
    }

    /// First index that can be read.
    pub(crate) fn first_readable(&self) -> u64 {
        let held = self.by_first.keys().next().copied().unwrap_or_else(|| self.next_index());
        held.max(self.purged.map_or(0, |at| at.index + 1))
    }

    /// Begins a segment that takes entries.
    pub(crate) fn open(&mut self, segment: u64) {
        self.segments.insert(segment, SegmentEntries { offsets: Some(Vec::new()), ..Default::default() });
    }

    /// Takes over a sealed segment from its summary; oldest first.
    pub(crate) fn load(&mut self, segment: u64, summary: &SegmentSummary) {
        let mut held =
            SegmentEntries { values: summary.values, value_bytes: summary.value_bytes, ..Default::default() };
        if let (Some(first), Some(last)) = (summary.first_index, summary.last_index) {
            (held.first, held.count) = (first, last + 1 - first);
            self.truncate(first);
            self.by_first.insert(first, segment);
            for term in &summary.terms {
                self.terms.insert(term.index, term.term);
            }
            self.last = self.term_of(last).map(|term| Position { term, index: last });
        }
        self.segments.insert(segment, held);
    }

    /// Adds the entry that comes next. An older entry at its index, and all behind it, become void.
    pub(crate) fn push(&mut self, segment: u64, offset: u32, entry: &Entry) {
        let Position { term, index } = entry.at;
        if self.last.is_some_and(|last| index <= last.index) {
            self.truncate(index);
        }
        if self.last().map(|last| last.term) != Some(term) || self.terms.is_empty() {
            self.terms.insert(index, term);
        }
        let held = self.segments.entry(segment).or_default();
        if held.count > 0 && index > held.first + held.count {
            // Behind a floor that jumped ahead: nobody asks for what is before the hole, and offsets are
            // found by counting.
            self.by_first.remove(&held.first);
            held.count = 0;
            held.offsets = None;
        }
        if held.count == 0 {
            held.first = index;
            self.by_first.insert(index, segment);
        }
        held.count += 1;
        held.offsets.get_or_insert_default().push(offset);
        for op in entry.payload.ops() {
            if matches!(op, Op::Put { .. }) {
                held.values += 1;
                held.value_bytes += crate::record::op_bytes(op);
            }
        }
        self.last = Some(entry.at);
    }

    /// Makes the entries from `next` on void.
    pub(crate) fn truncate(&mut self, next: u64) {
        let void: Vec<u64> = self.by_first.range(next..).map(|(first, _)| *first).collect();
        for first in void {
            if let Some(segment) = self.by_first.remove(&first) {
                self.cut_segment(segment, 0);
            }
        }
        if let Some((first, segment)) = self.by_first.range(..next).next_back().map(|(f, s)| (*f, *s)) {
            self.cut_segment(segment, next - first);
        }
        self.terms.split_off(&next);
        if self.last.is_some_and(|last| last.index >= next) {
            let index = next.checked_sub(1).filter(|index| self.by_first.range(..=index).next().is_some());
            self.last = index.and_then(|index| Some(Position { term: self.term_of(index)?, index }));
        }
    }

    fn cut_segment(&mut self, segment: u64, count: u64) {
        if let Some(held) = self.segments.get_mut(&segment) {
            held.count = held.count.min(count);
            if let Some(offsets) = &mut held.offsets {
                offsets.truncate(count as usize);
            }
        }
    }

    /// Gives up the entries up to and including `at`.
    pub(crate) fn purge(&mut self, at: Position) {
        if self.purged.is_some_and(|purged| purged.index >= at.index) {
            return;
        }
        self.purged = Some(at);
        if self.last.is_some_and(|last| last.index <= at.index) {
            self.last = None;
        }
        let newest = self.segments.keys().next_back().copied();
        // The newest one stays: entries are still added to it, and its seal says all that it holds.
        self.segments.retain(|segment, held| {
            Some(*segment) == newest || (held.count > 0 && held.first + held.count > at.index + 1)
        });
        self.by_first.retain(|_, segment| self.segments.contains_key(segment));
        self.forget_terms(at);
    }

    /// Keeps the terms of what is held, and that of the floor.
    fn forget_terms(&mut self, floor: Position) {
        let held = self.by_first.keys().next().copied().unwrap_or(floor.index).min(floor.index);
        if let Some(first) = self.terms.range(..=held).next_back().map(|(first, _)| *first) {
            self.terms = self.terms.split_off(&first);
        }
        if self.term_of(floor.index) != Some(floor.term) {
            self.terms.insert(floor.index, floor.term);
            // What follows may have begun the run when the floor was not known, in recovery.
            if self.terms.get(&(floor.index + 1)) == Some(&floor.term) {
                self.terms.remove(&(floor.index + 1));
            }
        }
    }

    /// The last entry of the newest segment that ends at `index_max` or before, lies above the floor, and
    /// behind which segments of `bytes` bytes follow; `open` is still written and ends nowhere.
    pub(crate) fn boundary(
        &self,
        open: u64,
        index_max: u64,
        bytes: u64,
        bytes_of: impl Fn(u64) -> u64,
    ) -> Option<Position> {
        let mut behind = 0u64;
        for (first, segment) in self.by_first.iter().rev() {
            let count = self.segments.get(segment).map_or(0, |held| held.count);
            let last = (first + count).saturating_sub(1);
            if self.purged.is_some_and(|purged| last <= purged.index) {
                return None;
            }
            if *segment != open && count > 0 && behind >= bytes && last <= index_max {
                return Some(Position { term: self.term_of(last)?, index: last });
            }
            behind += bytes_of(*segment);
        }
        None
    }

    /// Where an entry lies, if the log holds it and has not given it up.
    pub(crate) fn place(&self, index: u64) -> Option<Place> {
        if index >= self.next_index() || self.purged.is_some_and(|purged| index <= purged.index) {
            return None;
        }
        let (first, segment) = self.by_first.range(..=index).next_back()?;
        let number = index - first;
        let held = self.segments.get(segment).filter(|held| number < held.count)?;
        Some(match &held.offsets {
            Some(offsets) => Place::At(*segment, *offsets.get(number as usize)?),
            None => Place::InSealed(*segment, number as u32),
        })
    }

    /// Term of an entry, known without reading it.
    pub(crate) fn term_of(&self, index: u64) -> Option<u64> {
        self.terms.range(..=index).next_back().map(|(_, term)| *term)
    }

    /// First entry of each term, from `first` to `last`, both given even if they begin no term.
    pub(crate) fn term_starts(&self, first: u64, last: u64) -> Vec<Position> {
        let mut starts: Vec<Position> =
            self.term_of(first).map(|term| Position { term, index: first }).into_iter().collect();
        let within = self.terms.range((Bound::Excluded(first), Bound::Included(last.max(first))));
        starts.extend(within.map(|(index, term)| Position { term: *term, index: *index }));
        starts
    }

    /// What a segment holds, for its seal.
    pub(crate) fn summary(&self, segment: u64, end: u64, cut: bool) -> SegmentSummary {
        let Some(held) = self.segments.get(&segment) else {
            return SegmentSummary { end, cut, ..Default::default() };
        };
        let range = (held.count > 0).then(|| (held.first, held.first + held.count - 1));
        SegmentSummary {
            end,
            first_index: range.map(|r| r.0),
            last_index: range.map(|r| r.1),
            terms: range.map(|(first, last)| self.term_starts(first, last)).unwrap_or_default(),
            values: held.values,
            value_bytes: held.value_bytes,
            cut,
        }
    }

    /// Offsets of a segment's entries, while they are in memory.
    pub(crate) fn offsets(&self, segment: u64) -> &[u32] {
        self.segments.get(&segment).and_then(|held| held.offsets.as_deref()).unwrap_or_default()
    }

    /// Forgets the offsets of a segment: they are in its footer now, or found by scanning.
    pub(crate) fn seal(&mut self, segment: u64) {
        if let Some(held) = self.segments.get_mut(&segment)
            && !planted::is("offsets of sealed segments kept")
        {
            held.offsets = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Payload;

    fn blank(term: u64, index: u64) -> Entry {
        Entry { at: Position { term, index }, time: 0, payload: Payload::Blank }
    }

    fn sample() -> LogIndex {
        let mut log = LogIndex::default();
        log.open(1);
        (0..10).for_each(|i| log.push(1, 100 + i as u32, &blank(1, i)));
        log.open(2);
        (10..15).for_each(|i| log.push(2, 200 + i as u32, &blank(2, i)));
        log
    }

    #[test]
    fn finds_entries_across_segments_and_a_seal() {
        let mut log = sample();
        assert_eq!(log.place(9), Some(Place::At(1, 109)));
        assert_eq!(log.place(10), Some(Place::At(2, 210)));
        assert_eq!(log.place(15), None);
        let summary = log.summary(1, 4096, false);
        assert_eq!((summary.first_index, summary.last_index), (Some(0), Some(9)));
        log.seal(1);
        assert_eq!(log.place(3), Some(Place::InSealed(1, 3)));
        assert_eq!(
            log.term_starts(3, 14),
            vec![Position { term: 1, index: 3 }, Position { term: 2, index: 10 }]
        );
    }

    #[test]
    fn truncating_reaches_into_older_segments_and_terms() {
        let mut log = sample();
        log.truncate(7);
        assert_eq!(log.last(), Some(Position { term: 1, index: 6 }));
        assert_eq!(log.place(7), None);
        log.push(2, 300, &blank(4, 7));
        assert_eq!(log.place(7), Some(Place::At(2, 300)));
        assert_eq!(log.place(8), None);
        assert_eq!(log.summary(2, 1, false).terms, vec![Position { term: 4, index: 7 }]);
    }

    #[test]
    fn a_later_summary_voids_what_an_earlier_one_claims() {
        let mut log = LogIndex::default();
        let mut load = |segment, first, last, terms: &[(u64, u64)]| {
            let terms = terms.iter().map(|(term, index)| Position { term: *term, index: *index }).collect();
            let summary = SegmentSummary {
                first_index: Some(first),
                last_index: Some(last),
                terms,
                ..Default::default()
            };
            log.load(segment, &summary);
        };
        load(1, 0, 20, &[(1, 0), (2, 18)]);
        load(2, 16, 30, &[(3, 16)]);
        assert_eq!(log.place(18), Some(Place::InSealed(2, 2)));
        assert_eq!(log.place(15), Some(Place::InSealed(1, 15)));
        assert_eq!((log.term_of(17), log.term_of(18), log.term_of(15)), (Some(3), Some(3), Some(1)));
    }

    #[test]
    fn a_purge_forgets_what_lies_wholly_below() {
        let mut log = sample();
        log.purge(Position { term: 1, index: 4 });
        assert_eq!((log.first_readable(), log.place(5)), (5, Some(Place::At(1, 105))));
        assert_eq!(log.summary(1, 9, false).terms, vec![Position { term: 1, index: 0 }]);
        log.purge(Position { term: 2, index: 11 });
        assert_eq!((log.segments.len(), log.by_first.len()), (1, 1));
        assert_eq!(log.term_starts(11, 14), vec![Position { term: 2, index: 11 }]);
        assert_eq!(log.summary(2, 9, false).first_index, Some(10));
        log.purge(Position { term: 1, index: 4 });
        assert_eq!(log.purged(), Some(Position { term: 2, index: 11 }), "a floor does not go back");
    }

    #[test]
    fn the_floor_may_jump_beyond_the_end() {
        let mut log = sample();
        let floor = Position { term: 4, index: 99 };
        log.purge(floor);
        assert_eq!((log.last(), log.next_index(), log.place(12)), (Some(floor), 100, None));
        assert_eq!((log.first_readable(), log.term_of(99)), (100, Some(4)));
        assert_eq!(log.summary(2, 9, false).terms, vec![Position { term: 2, index: 10 }]);
        log.push(2, 500, &blank(4, 100));
        log.push(2, 501, &blank(5, 101));
        assert_eq!((log.place(101), log.offsets(2)), (Some(Place::At(2, 501)), &[500, 501][..]));
        assert_eq!(log.term_starts(99, 101), vec![floor, Position { term: 5, index: 101 }]);
        let summary = log.summary(2, 9, false);
        assert_eq!((summary.first_index, summary.last_index), (Some(100), Some(101)));
        log.truncate(100);
        assert_eq!((log.last(), log.place(100)), (Some(floor), None));
    }

    #[test]
    fn a_boundary_is_the_end_of_a_segment() {
        let mut log = sample();
        log.open(3);
        let boundary = |log: &LogIndex, max, bytes| log.boundary(3, max, bytes, |_| 100).map(|at| at.index);
        assert_eq!(boundary(&log, 99, 0), Some(14));
        assert_eq!(
            (boundary(&log, 13, 0), boundary(&log, 99, 1), boundary(&log, 99, 101)),
            (Some(9), Some(9), None)
        );
        log.push(3, 1, &blank(2, 15));
        assert_eq!((boundary(&log, 99, 100), boundary(&log, 99, 101)), (Some(14), Some(9)));
        log.purge(Position { term: 1, index: 9 });
        assert_eq!((boundary(&log, 99, 100), boundary(&log, 99, 101)), (Some(14), None));
    }

    #[test]
    fn truncating_everything_leaves_nothing() {
        let mut log = sample();
        log.truncate(0);
        assert_eq!((log.last(), log.next_index(), log.place(0)), (None, 0, None));
    }
}
