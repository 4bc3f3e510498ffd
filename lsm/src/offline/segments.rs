//! Each segment by itself, and against the pointers into it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kv_manifest::{SegmentState, State, names};
use kv_vlog::{Record, read_moves, walk_segment};

use super::pointers::{self, Pointers, translate};
use super::report::Problem;
use super::{Check, segment_input};
use crate::error::StoreError;
use crate::table::TableReader;

/// Pointers that are held in memory at once, unless those into one file are more; 4 bytes each.
const POINTERS_MAX: u64 = 4 << 20;

impl Check<'_> {
    /// Reads all segments.
    pub(super) fn segments(
        &mut self,
        state: &State,
        readers: Vec<Arc<TableReader>>,
    ) -> Result<(), StoreError> {
        for batch in batches(state) {
            let inside = batch.iter().filter_map(|id| state.segments.get(id));
            let inside =
                inside.flat_map(|owner| state.segments_in(owner.file)).map(|segment| segment.segment);
            let mut offsets = match pointers::collect(&readers, inside) {
                Ok(offsets) => offsets,
                Err(error) => {
                    self.found("a table", error.into())?;
                    BTreeMap::new()
                }
            };
            for owner in batch.iter().filter_map(|id| state.segments.get(id)) {
                let pointers = self.pointers_into(state, owner, &mut offsets)?;
                self.segment(state, owner, pointers)?;
            }
        }
        Ok(())
    }

    /// Where tables point to in the file of this segment, its owner, those included whose values were moved there.
    fn pointers_into(
        &mut self,
        state: &State,
        owner: &SegmentState,
        offsets: &mut BTreeMap<u64, Vec<u32>>,
    ) -> Result<Pointers, StoreError> {
        let file = names::segment_name(owner.file);
        let mut all = offsets.remove(&owner.segment).unwrap_or_default();
        let moved: Vec<u64> =
            state.segments_in(owner.file).filter(|s| s.remapped).map(|s| s.segment).collect();
        if moved.is_empty() || self.suspect.contains(&file) {
            return Ok(Pointers::new(all));
        }
        let moves = match read_moves(&*self.vfs, &segment_input(&self.dir, state, owner)) {
            Ok(moves) => moves,
            Err(error) => {
                self.found(&file, error.into())?;
                return Ok(Pointers::new(all));
            }
        };
        for segment in moved {
            let wanted = offsets.remove(&segment).unwrap_or_default();
            let (found, missing) = translate(&moves, segment, &wanted);
            all.extend(found);
            for offset in missing {
                let why = format!(
                    "tables point to offset {offset} of segment {segment}, whose values were moved here, but the \
                     remap does not say where"
                );
                self.report.problem(Problem { file: file.clone(), offset: None, why });
            }
        }
        Ok(Pointers::new(all))
    }

    fn segment(
        &mut self,
        state: &State,
        segment: &SegmentState,
        mut pointers: Pointers,
    ) -> Result<(), StoreError> {
        let file = names::segment_name(segment.file);
        if self.suspect.contains(&file) {
            return Ok(());
        }
        let input = segment_input(&self.dir, state, segment);
        let vfs = self.vfs.clone();
        let walked = walk_segment(&*vfs, &input, &mut |found| {
            pointers.group(found);
            let operations = |record: &Record| match record {
                Record::Entry(_, operations) => operations.len() as u64,
                Record::Values(values) => values.len() as u64,
                _ => 0,
            };
            let records = found.records.iter().map(|(_, _, record)| 1 + operations(record));
            self.report.records += records.sum::<u64>();
            self.advance(u64::from(found.header.length));
        });
        self.report.segments += 1;
        match walked {
            Ok(verified) => {
                pointers.end();
                if let Some(torn) = verified.torn {
                    let end = verified.end;
                    let what = "what follows was never acknowledged and does not count";
                    self.report.note(format!("{file}, offset {end}: {what}: {torn}"));
                }
            }
            Err(error) => {
                self.found(&file, error.into())?;
                let unmet = pointers.unmet();
                if unmet > 0 {
                    let what = "values that tables point to stand at or behind the damage";
                    self.report.note(format!("{file}: {unmet} {what}"));
                }
            }
        }
        for offset in pointers.dangling {
            let why = "tables point here, but no value record begins here".into();
            self.report.problem(Problem { file: file.clone(), offset: Some(offset.into()), why });
        }
        Ok(())
    }
}

/// Owners of files in order, as many at a time as the pointers into their files fit into memory.
fn batches(state: &State) -> Vec<Vec<u64>> {
    let owner_of = |segment: &SegmentState| match segment.remapped {
        true => state.owner_of(segment.file).map_or(segment.segment, |owner| owner.segment),
        false => segment.segment,
    };
    let mut counts: BTreeMap<u64, u64> = state.segments.values().map(|s| (owner_of(s), 0)).collect();
    for refs in state.tables.values().flat_map(|table| &table.refs) {
        let owner = state.segments.get(&refs.segment).map_or(refs.segment, owner_of);
        let count = counts.entry(owner).or_default();
        *count = count.saturating_add(refs.count);
    }
    let (mut batches, mut room) = (Vec::<Vec<u64>>::new(), 0);
    for (segment, count) in counts {
        match batches.last_mut().filter(|_| count <= room) {
            Some(batch) => batch.push(segment),
            None => {
                batches.push(vec![segment]);
                room = POINTERS_MAX;
            }
        }
        room = room.saturating_sub(count);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_manifest::{SegmentRef, TableMeta};

    #[test]
    fn a_batch_holds_no_more_than_fits_but_at_least_one() {
        let mut state = State::default();
        let counts = [1, POINTERS_MAX - 1, 1, 3 * POINTERS_MAX, 0, 5];
        let refs = (1u64..).zip(counts).map(|(segment, count)| SegmentRef { segment, count, bytes: 0 });
        state.tables.insert(1, TableMeta { refs: refs.collect(), ..TableMeta::default() });
        for segment in 1..=6 {
            state.segments.insert(segment, SegmentState { segment, ..SegmentState::default() });
        }
        assert_eq!(batches(&state), [vec![1, 2], vec![3], vec![4, 5], vec![6]]);
    }
}
