//! What is live in each file of values.

use std::collections::BTreeMap;

use kv_manifest::{SegmentKind, SegmentState, State};
use kv_vlog::format::{GROUP_HEADER_BYTES, RECORD_HEADER_BYTES, round_up};

use super::plan::remap_bytes;

/// Whether a file can be collected at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Complete, and read by nothing but pointers.
    Complete,
    /// The log writes into it.
    Active,
    /// Log entries in it are above the purge floor, up to this one.
    AboveFloor {
        /// Index of the last one.
        last_index: u64,
    },
    /// Recovery reads the log from it on.
    Replayed,
}

/// What one file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileUse {
    /// Its number.
    pub file: u64,
    /// The segment it was made for.
    pub owner: u64,
    /// The segments that have their values in it, its owner among them; ascending.
    pub segments: Vec<u64>,
    /// Bytes that count; 0 while the log writes into it.
    pub bytes: u64,
    /// Bytes of all values in it, if it holds nothing but values: what a new file of them would not be shorter than.
    pub value_bytes: Option<u64>,
    /// Length of the file, with its footer; 0 while the log writes into it.
    pub file_bytes: u64,
    /// Bytes of the values in it that tables point to, exactly: what is not in tables is in the files that
    /// cannot be collected.
    pub live_bytes: u64,
    /// How many these are.
    pub live_values: u64,
    /// Whether it can be collected.
    pub standing: Standing,
}

/// All files of values, by number.
#[must_use]
pub fn files(state: &State) -> Vec<FileUse> {
    let mut live: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for refs in state.tables.values().flat_map(|table| &table.refs) {
        let (bytes, values) = live.entry(refs.segment).or_default();
        *bytes = bytes.saturating_add(refs.bytes);
        *values = values.saturating_add(refs.count);
    }
    let describe = |owner: &SegmentState| {
        let mut found = FileUse {
            file: owner.file,
            owner: owner.segment,
            segments: Vec::new(),
            bytes: owner.sealed.as_ref().map_or(0, |held| held.end),
            value_bytes: owner
                .sealed
                .as_ref()
                .filter(|_| owner.kind == SegmentKind::Values)
                .map(|h| h.value_bytes),
            file_bytes: 0,
            live_bytes: 0,
            live_values: 0,
            standing: standing(state, owner),
        };
        for segment in state.segments_in(owner.file) {
            let (bytes, values) = live.get(&segment.segment).copied().unwrap_or_default();
            found.segments.push(segment.segment);
            found.live_bytes = found.live_bytes.saturating_add(bytes);
            found.live_values = found.live_values.saturating_add(values);
        }
        found.file_bytes = found.bytes + footer_bytes(owner, found.segments.len() as u64);
        found
    };
    let mut files: Vec<FileUse> =
        state.segments.values().filter(|segment| !segment.remapped).map(describe).collect();
    files.sort_by_key(|found| found.file);
    files
}

/// Length of the footer of a file with the values of so many segments, its owner's included; to a block or two.
fn footer_bytes(owner: &SegmentState, segments: u64) -> u64 {
    let Some(held) = &owner.sealed else { return 0 };
    match (owner.kind, held.first_index.zip(held.last_index)) {
        (SegmentKind::Values, _) if segments > 1 => remap_bytes(held.values, segments),
        (SegmentKind::Log, indexes) if !held.cut => {
            let entries = indexes.map_or(0, |(first, last)| last - first + 1);
            let head = u64::from(GROUP_HEADER_BYTES + RECORD_HEADER_BYTES) + 36;
            round_up(head + 16 * held.terms.len() as u64 + 4 * entries + 4 * (entries / 1024 + 1))
        }
        _ => 0,
    }
}

/// Whether the file of this segment, its owner, can be collected.
///
/// What is complete, below the floor and below the replay position is in tables as a whole: from then on a
/// pointer into it may die, but none is made. So what tables point to at any later time is all that is live.
#[must_use]
pub fn standing(state: &State, owner: &SegmentState) -> Standing {
    let Some(held) = &owner.sealed else { return Standing::Active };
    let floor = state.purge_floor.map(|floor| floor.index);
    match held.last_index {
        Some(last_index) if floor.is_none_or(|floor| last_index > floor) => {
            Standing::AboveFloor { last_index }
        }
        // Whatever it holds: marks in it may matter.
        _ if owner.kind == SegmentKind::Log && Some(owner.segment) >= state.replay_from => Standing::Replayed,
        _ => Standing::Complete,
    }
}

#[cfg(test)]
mod tests {
    use kv_manifest::{LogPosition, SealedInfo};

    use super::*;

    fn state() -> State {
        let mut state = State::default();
        state.purge_floor = Some(LogPosition { term: 1, index: 20 });
        state.replay_from = Some(5);
        state
    }

    fn log(segment: u64, last_index: Option<u64>) -> SegmentState {
        let sealed = Some(SealedInfo { first_index: last_index, last_index, ..SealedInfo::default() });
        SegmentState { segment, sealed, ..SegmentState::default() }
    }

    #[test]
    fn a_file_is_complete_below_the_floor_and_the_replay_position() {
        let mut state = state();
        assert_eq!(standing(&state, &log(4, Some(20))), Standing::Complete);
        assert_eq!(standing(&state, &log(4, None)), Standing::Complete);
        assert_eq!(standing(&state, &log(4, Some(21))), Standing::AboveFloor { last_index: 21 });
        assert_eq!(standing(&state, &log(5, Some(20))), Standing::Replayed);
        assert_eq!(standing(&state, &SegmentState { sealed: None, ..log(4, None) }), Standing::Active);
        let values = SegmentState { kind: SegmentKind::Values, ..log(9, None) };
        assert_eq!(standing(&state, &values), Standing::Complete);
        state.purge_floor = None;
        assert_eq!(standing(&state, &log(4, Some(0))), Standing::AboveFloor { last_index: 0 });
        assert_eq!(standing(&state, &log(4, None)), Standing::Complete);
        state.replay_from = None;
        assert_eq!(standing(&state, &log(4, None)), Standing::Replayed, "nothing was ever flushed");
    }
}
