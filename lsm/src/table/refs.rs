//! Which values a table points to: for each segment, the sorted offsets, run-length coded.
//!
//! Value GC marks what is live by the union of these and reads no data block for it.

use std::collections::BTreeMap;

use kv_manifest::SegmentRef;
use kv_vfs::varint;

use super::input::Input;
use crate::key::ValuePointer;

/// What a table points to in one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentOffsets {
    /// The logical segment.
    pub segment: u64,
    /// How many versions point into it.
    pub count: u64,
    /// Sum of the lengths of the records they point to, in bytes.
    pub bytes: u64,
    runs: Vec<Run>,
}

impl SegmentOffsets {
    /// Offsets of the records, ascending; one that several versions point to comes as often.
    pub fn offsets(&self) -> impl Iterator<Item = u32> + '_ {
        self.runs.iter().flat_map(|run| (0..run.times).map(|n| run.first + n * run.stride))
    }
}

/// Offsets at equal distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u32,
    stride: u32,
    /// Invariant: at least 1, and `first + (times - 1) * stride` fits.
    times: u32,
}

/// Collects the pointers of a table.
#[derive(Default)]
pub(super) struct RefsBuilder {
    segments: BTreeMap<u64, Collected>,
}

#[derive(Default)]
struct Collected {
    offsets: Vec<u32>,
    bytes: u64,
}

impl RefsBuilder {
    pub(super) fn add(&mut self, pointer: &ValuePointer) {
        let segment = self.segments.entry(pointer.segment).or_default();
        segment.offsets.push(pointer.offset);
        segment.bytes = segment.bytes.saturating_add(u64::from(pointer.length));
    }

    /// Counts and sums, ascending by segment.
    pub(super) fn totals(&self) -> Vec<SegmentRef> {
        let total = |(segment, collected): (&u64, &Collected)| SegmentRef {
            segment: *segment,
            count: collected.offsets.len() as u64,
            bytes: collected.bytes,
        };
        self.segments.iter().map(total).collect()
    }

    /// All references, ascending by segment and offset.
    pub(super) fn sorted(&mut self) -> Vec<SegmentOffsets> {
        let sort = |(segment, collected): (&u64, &mut Collected)| {
            collected.offsets.sort_unstable();
            SegmentOffsets {
                segment: *segment,
                count: collected.offsets.len() as u64,
                bytes: collected.bytes,
                runs: to_runs(&collected.offsets),
            }
        };
        self.segments.iter_mut().map(sort).collect()
    }
}

fn to_runs(sorted: &[u32]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut last = 0;
    for offset in sorted.iter().copied() {
        match runs.last_mut() {
            Some(run) if run.times == 1 => (run.stride, run.times) = (offset - last, 2),
            Some(run) if offset - last == run.stride => run.times += 1,
            _ => runs.push(Run { first: offset, stride: 0, times: 1 }),
        }
        last = offset;
    }
    runs
}

/// The references as stored.
pub(super) fn encode(refs: &[SegmentOffsets]) -> Vec<u8> {
    let mut out = Vec::new();
    varint::put(&mut out, refs.len() as u64);
    for segment in refs {
        varint::put(&mut out, segment.segment);
        varint::put(&mut out, segment.count);
        varint::put(&mut out, segment.bytes);
        varint::put(&mut out, segment.runs.len() as u64);
        let mut last = 0;
        for run in &segment.runs {
            varint::put(&mut out, u64::from(run.first - last));
            varint::put(&mut out, u64::from(run.stride));
            varint::put(&mut out, u64::from(run.times));
            last = run.first + (run.times - 1) * run.stride;
        }
    }
    out
}

/// Reads what [`encode`] wrote; `None` for other bytes. The result takes a few times their memory.
pub(super) fn decode(content: &[u8]) -> Option<Vec<SegmentOffsets>> {
    let mut input = Input::new(content);
    let count = input.count(4)?;
    let mut refs: Vec<SegmentOffsets> = Vec::with_capacity(count);
    for _ in 0..count {
        let segment = decode_segment(&mut input)?;
        if refs.last().is_some_and(|last| last.segment >= segment.segment) {
            return None;
        }
        refs.push(segment);
    }
    input.end()?;
    Some(refs)
}

fn decode_segment(input: &mut Input<'_>) -> Option<SegmentOffsets> {
    let (segment, count, bytes) = (input.number()?, input.number()?, input.number()?);
    let runs = input.count(3)?;
    let mut refs = SegmentOffsets { segment, count, bytes, runs: Vec::with_capacity(runs) };
    let (mut last, mut total) = (0u32, 0u64);
    for _ in 0..runs {
        let first = last.checked_add(input.u32()?)?;
        let (stride, times) = (input.u32()?, input.u32()?);
        last = first.checked_add(times.checked_sub(1)?.checked_mul(stride)?)?;
        total = total.checked_add(u64::from(times))?;
        refs.runs.push(Run { first, stride, times });
    }
    (total == count && count > 0).then_some(refs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn build(pointers: &[(u64, u32, u32)]) -> Vec<SegmentOffsets> {
        let mut builder = RefsBuilder::default();
        for (segment, offset, length) in pointers {
            let pointer =
                ValuePointer { segment: *segment, offset: *offset, length: *length, value_bytes: 0 };
            builder.add(&pointer);
        }
        let totals = builder.totals();
        let refs = builder.sorted();
        let sums = refs.iter().map(|r| SegmentRef { segment: r.segment, count: r.count, bytes: r.bytes });
        assert_eq!(sums.collect::<Vec<_>>(), totals);
        refs
    }

    proptest! {
        #[test]
        fn every_offset_comes_back(pointers: Vec<(u8, u32, u32)>) {
            let pointers: Vec<_> = pointers.iter().map(|(s, o, l)| (u64::from(*s % 4), *o, *l)).collect();
            let refs = decode(&encode(&build(&pointers))).unwrap();
            let mut found: Vec<_> = refs.iter().flat_map(|r| r.offsets().map(|o| (r.segment, o))).collect();
            let mut expected: Vec<_> = pointers.iter().map(|(s, o, _)| (*s, *o)).collect();
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            for refs in decode(&bytes).into_iter().flatten() {
                prop_assert!(refs.offsets().take(1000).is_sorted());
            }
        }
    }

    #[test]
    fn equal_records_one_after_the_other_take_a_few_bytes() {
        let pointers: Vec<_> = (0..10_000).map(|n| (7, 4096 + n * 1100, 1100)).collect();
        let refs = build(&pointers);
        assert!(encode(&refs).len() < 20);
        assert_eq!((refs[0].count, refs[0].bytes), (10_000, 11_000_000));
        assert_eq!(refs[0].offsets().last(), Some(4096 + 9_999 * 1100));
    }

    #[test]
    fn the_whole_range_of_offsets_fits() {
        let refs = build(&[(1, 0, 1), (1, u32::MAX, 1), (1, u32::MAX, 1), (u64::MAX, 5, u32::MAX)]);
        assert_eq!(decode(&encode(&refs)).unwrap(), refs);
        assert_eq!(refs[0].offsets().collect::<Vec<_>>(), [0, u32::MAX, u32::MAX]);
    }

    #[test]
    fn counts_that_lie_are_refused() {
        assert_eq!(decode(&[0]), Some(vec![]));
        assert_eq!(decode(&[1, 7, 2, 9, 1, 0, 5, 1]), None, "count is not what the runs hold");
        assert_eq!(decode(&[1, 7, 0, 9, 0]), None, "a segment without offsets");
        assert_eq!(decode(&[1, 7, 0, 9, 1, 0, 5, 0]), None, "an empty run");
        let mut far = vec![1, 7, 0xff, 0xff, 0xff, 0xff, 0x0f, 9, 1, 2, 1];
        far.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(decode(&far), None, "a run past the last offset");
        assert_eq!(decode(&[2, 7, 1, 9, 1, 0, 0, 1, 7, 1, 9, 1, 0, 0, 1]), None, "a segment twice");
    }
}
