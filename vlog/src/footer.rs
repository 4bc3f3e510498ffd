//! The footer of a sealed segment: where each of its entries begins.
//!
//! ```text
//! [first index u64][entries u32][terms u32][values u64][value bytes u64]
//! ([term u64][index u64])*  [crc u32 of all before]
//! pages of up to 1,024 offsets: [offset u32]*[crc u32]
//! ```
//! A lookup reads and verifies one page. A segment that recovery cut has no footer: it is scanned instead.

use crate::field::{Fields, FieldsMut};
use crate::format::FOOTER_PAGE_ENTRIES;
use crate::record;
use crate::scan::Record;
use crate::types::{Op, Position};

/// What is known of a sealed segment without reading it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Bytes of groups, from the start of the file; the footer's group, if any, begins here.
    pub end: u64,
    /// Index of its first entry; `None`: it holds none.
    pub first_index: Option<u64>,
    /// Index of its last entry.
    pub last_index: Option<u64>,
    /// First entry of each term in this segment.
    pub terms: Vec<Position>,
    /// Value records.
    pub values: u64,
    /// Bytes of value records.
    pub value_bytes: u64,
    /// Sealed by recovery at a torn tail; there is no footer.
    pub cut: bool,
}

const FIXED: usize = 32;
const PAGE_BYTES: usize = FOOTER_PAGE_ENTRIES * 4 + 4;

/// The footer record's body. `offsets` are those of the entries from `first_index` on.
pub(crate) fn encode(summary: &SegmentSummary, offsets: &[u32]) -> Vec<u8> {
    let mut f = FieldsMut::default();
    f.at(0, &summary.first_index.unwrap_or_default().to_le_bytes());
    f.at(8, &(offsets.len() as u32).to_le_bytes()).at(12, &(summary.terms.len() as u32).to_le_bytes());
    f.at(16, &summary.values.to_le_bytes()).at(24, &summary.value_bytes.to_le_bytes());
    let mut out = f.0;
    for term in &summary.terms {
        out.extend_from_slice(&term.term.to_le_bytes());
        out.extend_from_slice(&term.index.to_le_bytes());
    }
    seal_from(&mut out, 0);
    for page in offsets.chunks(FOOTER_PAGE_ENTRIES) {
        let start = out.len();
        page.iter().for_each(|offset| out.extend_from_slice(&offset.to_le_bytes()));
        seal_from(&mut out, start);
    }
    out
}

fn seal_from(out: &mut Vec<u8>, start: usize) {
    let crc = crc32fast::hash(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&crc.to_le_bytes());
}

/// The fixed part and the terms of a footer, and where its pages begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FooterHead {
    pub first_index: u64,
    pub entries: u32,
    pub terms: Vec<Position>,
    values: u64,
    value_bytes: u64,
    pages_at: usize,
}

impl FooterHead {
    /// Reads the head from the start of the body.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, &'static str> {
        let head = Self::fields(Fields(body)).ok_or("footer is cut short")?;
        let crc_at = head.pages_at - 4;
        if Fields(body).u32(crc_at) != body.get(..crc_at).map(crc32fast::hash) {
            return Err("checksum of the footer does not match");
        }
        Ok(head)
    }

    fn fields(f: Fields<'_>) -> Option<Self> {
        let count = f.u32(12)? as usize;
        let terms_end = FIXED.checked_add(count.checked_mul(16)?)?;
        let terms = f.slice(FIXED, terms_end - FIXED)?;
        let term = |t: &[u8]| Some(Position { term: Fields(t).u64(0)?, index: Fields(t).u64(8)? });
        Some(Self {
            first_index: f.u64(0)?,
            entries: f.u32(8)?,
            values: f.u64(16)?,
            value_bytes: f.u64(24)?,
            terms: terms.chunks_exact(16).map(term).collect::<Option<_>>()?,
            pages_at: terms_end + 4,
        })
    }

    /// Where in the body the page lies that holds entry number `n`, and how long it is.
    pub(crate) fn page(&self, n: u32) -> (usize, usize) {
        let page = n as usize / FOOTER_PAGE_ENTRIES;
        let entries = (self.entries as usize - page * FOOTER_PAGE_ENTRIES).min(FOOTER_PAGE_ENTRIES);
        (self.pages_at + page * PAGE_BYTES, entries * 4 + 4)
    }

    /// Offset of entry number `n`, from its page.
    pub(crate) fn offset_in(page: &[u8], n: u32) -> Result<u32, &'static str> {
        let (offsets, crc) = page.split_last_chunk::<4>().ok_or("footer page is cut short")?;
        if crc32fast::hash(offsets) != u32::from_le_bytes(*crc) {
            return Err("checksum of a footer page does not match");
        }
        Fields(offsets).u32(n as usize % FOOTER_PAGE_ENTRIES * 4).ok_or("footer page is cut short")
    }
}

/// What the groups of a segment hold, gathered while they are read, to hold its footer against. Takes 16
/// bytes for each entry of the one segment.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    first_index: u64,
    /// Offset and term of each entry.
    entries: Vec<(u32, u64)>,
    values: u64,
    value_bytes: u64,
}

impl Tally {
    /// Adds the record that comes next.
    pub(crate) fn add(&mut self, offset: u32, record: &Record) {
        match record {
            Record::Entry(entry, _) => {
                self.truncate(entry.at.index);
                if entry.at.index > self.first_index.saturating_add(self.entries.len() as u64) {
                    // What was before lies below a purge floor that jumped ahead; nobody looks it up.
                    self.entries.clear();
                }
                if self.entries.is_empty() {
                    self.first_index = entry.at.index;
                }
                self.entries.push((offset, entry.at.term));
                for op in entry.payload.ops().iter().filter(|op| matches!(op, Op::Put { .. })) {
                    self.values += 1;
                    self.value_bytes += record::op_bytes(op);
                }
            }
            Record::Truncate(next) => self.truncate(*next),
            Record::Vote(_) | Record::Footer | Record::Values(_) => {}
        }
    }

    fn truncate(&mut self, next: u64) {
        let kept = next.saturating_sub(self.first_index);
        self.entries.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
    }

    /// Refuses a footer that does not say what the segment holds and what its owner recorded.
    ///
    /// The footer may leave out the last entries: a truncation that is recorded in the next segment may
    /// have voided them before this one was sealed.
    pub(crate) fn check(&self, body: &[u8], recorded: &SegmentSummary) -> Result<(), String> {
        let head = FooterHead::decode(body)?;
        let differs = |what: &str| Err(format!("{what} differ from what the segment holds"));
        let Some(entries) = self.entries.get(..head.entries as usize) else { return differs("entries") };
        if !entries.is_empty() && head.first_index != self.first_index {
            return differs("indexes");
        }
        if head.terms != term_starts(self.first_index, entries) {
            return differs("terms");
        }
        if (head.values, head.value_bytes) != (self.values, self.value_bytes) {
            return differs("counts of values");
        }
        if !head.offsets(body)?.into_iter().eq(entries.iter().map(|(offset, _)| *offset)) {
            return differs("offsets of entries");
        }
        if head.summary(recorded.end) != *recorded {
            return Err("it differs from what the manifest says of the segment".into());
        }
        Ok(())
    }
}

fn term_starts(first_index: u64, entries: &[(u32, u64)]) -> Vec<Position> {
    let mut starts: Vec<Position> = Vec::new();
    for (index, (_, term)) in (first_index..).zip(entries) {
        if starts.last().is_none_or(|last| last.term != *term) {
            starts.push(Position { term: *term, index });
        }
    }
    starts
}

impl FooterHead {
    /// All offsets, each page verified; nothing may follow them.
    fn offsets(&self, body: &[u8]) -> Result<Vec<u32>, &'static str> {
        let mut offsets = Vec::with_capacity((self.entries as usize).min(body.len() / 4));
        let mut end = self.pages_at;
        for n in (0..self.entries).step_by(FOOTER_PAGE_ENTRIES) {
            let (at, len) = self.page(n);
            end = at.saturating_add(len);
            let page = body.get(at..end).ok_or("footer page is cut short")?;
            Self::offset_in(page, n)?;
            let words = page.split_last_chunk::<4>().map_or(&[][..], |(words, _)| words);
            offsets.extend(words.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)));
        }
        if end == body.len() { Ok(offsets) } else { Err("something follows the last page of the footer") }
    }

    /// What the owner must have recorded.
    fn summary(&self, end: u64) -> SegmentSummary {
        let last = u64::from(self.entries).checked_sub(1).map(|n| self.first_index.saturating_add(n));
        SegmentSummary {
            end,
            first_index: last.map(|_| self.first_index),
            last_index: last,
            terms: self.terms.clone(),
            values: self.values,
            value_bytes: self.value_bytes,
            cut: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Entry, Payload};

    fn tally(entries: impl IntoIterator<Item = (u64, u64)>) -> Tally {
        let mut tally = Tally::default();
        for (n, (term, index)) in (0u32..).zip(entries) {
            let entry = Entry { at: Position { term, index }, time: 0, payload: Payload::Blank };
            tally.add(4096 + n * 77, &Record::Entry(entry, Vec::new()));
        }
        tally
    }

    #[test]
    fn a_footer_is_held_against_what_was_read() {
        let mut seen = tally((0..2500).map(|n| (1 + n / 2000, 100 + n)));
        seen.add(0, &Record::Truncate(2600));
        let offsets: Vec<u32> = (0..2500).map(|n| n * 77 + 4096).collect();
        let terms = vec![Position { term: 1, index: 100 }, Position { term: 2, index: 2100 }];
        let (first_index, last_index) = (Some(100), Some(2599));
        let whole = SegmentSummary { end: 9, first_index, last_index, terms, ..Default::default() };
        assert_eq!(seen.check(&encode(&whole, &offsets), &whole), Ok(()));

        let refused = |seen: &Tally, summary: &SegmentSummary, offsets: &[u32], what: &str| {
            let why = seen.check(&encode(summary, offsets), &whole).unwrap_err();
            assert!(why.contains(what), "{why}");
        };
        let mut moved = offsets.clone();
        moved[1500] += 1;
        refused(&seen, &whole, &moved, "offsets");
        refused(&seen, &SegmentSummary { terms: vec![], ..whole.clone() }, &offsets, "terms");
        refused(&seen, &SegmentSummary { values: 1, ..whole.clone() }, &offsets, "values");
        refused(&seen, &SegmentSummary { first_index: Some(99), ..whole.clone() }, &offsets, "indexes");
        refused(&seen, &whole, &offsets[..2400], "manifest");
        seen.add(0, &Record::Truncate(200));
        refused(&seen, &whole, &offsets, "entries");
        let mut longer = encode(&whole, &offsets);
        longer.push(0);
        assert!(tally((0..2500).map(|n| (1 + n / 2000, 100 + n))).check(&longer, &whole).is_err());
    }

    #[test]
    fn entries_that_are_written_again_count_once() {
        let seen = tally([(1, 5), (1, 6), (1, 7), (2, 6), (2, 7), (3, 4)]);
        assert_eq!((seen.first_index, &seen.entries[..]), (4, &[(4096 + 5 * 77, 3)][..]));
        let empty = SegmentSummary::default();
        assert_eq!(Tally::default().check(&encode(&empty, &[]), &empty), Ok(()));
    }

    #[test]
    fn every_offset_comes_back_from_its_page() {
        let offsets: Vec<u32> = (0..2500).map(|n| n * 77 + 4096).collect();
        let terms = vec![Position { term: 1, index: 100 }, Position { term: 3, index: 900 }];
        let summary = SegmentSummary { first_index: Some(100), terms: terms.clone(), ..Default::default() };
        let body = encode(&summary, &offsets);
        let head = FooterHead::decode(&body).unwrap();
        assert_eq!((head.first_index, head.entries, &head.terms), (100, 2500, &terms));
        for (n, offset) in (0..).zip(&offsets) {
            let (at, len) = head.page(n);
            assert_eq!(FooterHead::offset_in(&body[at..at + len], n), Ok(*offset));
        }
        let (at, len) = head.page(2499);
        assert_eq!(at + len, body.len());
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let summary = SegmentSummary {
            first_index: Some(5),
            terms: vec![Position { term: 1, index: 5 }],
            ..Default::default()
        };
        let body = encode(&summary, &[1, 2, 3]);
        for bit in 0..body.len() * 8 {
            let mut flipped = body.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let whole = FooterHead::decode(&flipped).and_then(|head| {
                let (at, len) = head.page(0);
                FooterHead::offset_in(flipped.get(at..at + len).ok_or("cut")?, 0)
            });
            assert!(whole.is_err(), "bit {bit}");
        }
    }
}
