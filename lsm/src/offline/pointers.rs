//! The pointers into the file of one segment, met by its records.

use std::collections::BTreeMap;
use std::sync::Arc;

use kv_vlog::{Found, Moved, Op, Record};

use crate::table::{TableError, TableReader};

/// Where tables point to in the file of one segment.
#[derive(Debug, Default)]
pub(super) struct Pointers {
    /// Ascending, each once.
    offsets: Vec<u32>,
    /// How many of them were met by a record or passed.
    met: usize,
    /// Those that no record met.
    pub dangling: Vec<u32>,
}

impl Pointers {
    pub(super) fn new(mut offsets: Vec<u32>) -> Self {
        offsets.sort_unstable();
        offsets.dedup();
        Self { offsets, met: 0, dangling: Vec::new() }
    }

    /// The value records of the group that comes next.
    pub(super) fn group(&mut self, found: &Found) {
        for (_, _, record) in &found.records {
            match record {
                Record::Entry(entry, offsets) => {
                    let ops = entry.payload.ops().iter().zip(offsets);
                    let puts = ops.filter(|(op, _)| matches!(op, Op::Put { .. }));
                    puts.for_each(|(_, offset)| self.value(*offset));
                }
                Record::Values(values) => values.iter().for_each(|value| self.value(value.offset)),
                Record::Vote(_) | Record::Truncate(_) | Record::Footer => {}
            }
        }
    }

    fn value(&mut self, offset: u32) {
        self.pass(offset);
        if self.next() == Some(offset) {
            self.met += 1;
        }
    }

    fn pass(&mut self, offset: u32) {
        while let Some(next) = self.next().filter(|next| *next < offset) {
            self.dangling.push(next);
            self.met += 1;
        }
    }

    fn next(&self) -> Option<u32> {
        self.offsets.get(self.met).copied()
    }

    /// The records end here: how many pointers lead further.
    pub(super) fn unmet(&self) -> usize {
        self.offsets.len().saturating_sub(self.met)
    }

    /// Nothing follows: whatever is left dangles.
    pub(super) fn end(&mut self) {
        let rest = self.offsets.get(self.met..).unwrap_or_default();
        self.dangling.extend_from_slice(rest);
        self.met = self.offsets.len();
    }
}

/// Where all tables point to in some segments, unsorted. A table that cannot be read now, although it could before,
/// is an error.
pub(super) fn collect(
    readers: &[Arc<TableReader>],
    segments: impl Iterator<Item = u64>,
) -> Result<BTreeMap<u64, Vec<u32>>, TableError> {
    let mut offsets: BTreeMap<u64, Vec<u32>> = segments.map(|id| (id, Vec::new())).collect();
    for reader in readers {
        for refs in reader.refs()? {
            if let Some(offsets) = offsets.get_mut(&refs.segment) {
                offsets.extend(refs.offsets());
            }
        }
    }
    Ok(offsets)
}

/// Where in the new file the values are that these offsets of a segment name, by the remap of that file. What the
/// remap lacks comes second.
pub(super) fn translate(moves: &[Moved], segment: u64, offsets: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let (mut found, mut missing) = (Vec::with_capacity(offsets.len()), Vec::new());
    for offset in offsets {
        let moved = moves.binary_search_by(|moved| (moved.segment, moved.from).cmp(&(segment, *offset)));
        match moved.ok().and_then(|at| moves.get(at)) {
            Some(moved) => found.push(moved.to),
            None => missing.push(*offset),
        }
    }
    (found, missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_translated_and_what_is_not_there_is_told() {
        let moved = |segment, from, to| Moved { segment, from, to };
        let moves = [moved(1, 10, 500), moved(2, 10, 600), moved(2, 20, 400)];
        assert_eq!(translate(&moves, 2, &[20, 10, 15]), (vec![400, 600], vec![15]));
        assert_eq!(translate(&moves, 3, &[20]), (vec![], vec![20]));
    }

    #[test]
    fn what_no_record_meets_dangles() {
        let mut pointers = Pointers::new(vec![30, 10, 20, 10, 50, 60]);
        [10, 15, 20, 40].into_iter().for_each(|offset| pointers.value(offset));
        assert_eq!((pointers.dangling.clone(), pointers.unmet()), (vec![30], 2));
        pointers.end();
        assert_eq!((pointers.dangling, pointers.offsets.len()), (vec![30, 50, 60], 5));
    }
}
