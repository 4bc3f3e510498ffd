//! The rules by which change-sets fold, one by one.

use proptest::prelude::*;

use super::make::*;
use crate::encode::whole_state;
use crate::fold::Fold;
use crate::{ChangeSet, Edit, Identity, InvalidEdit, SealedInfo, SegmentKind, SegmentRef, State, TimeStep};

fn next(state: &State, edits: Vec<Edit>) -> ChangeSet {
    ChangeSet { number: state.number + 1, edits, ..ChangeSet::default() }
}

/// Applies each list of edits as one change-set; none of them may be refused.
fn state_after(steps: Vec<Vec<Edit>>) -> State {
    let mut state = blank();
    for edits in steps {
        let set = next(&state, edits);
        state.apply(&set).unwrap();
    }
    state
}

/// The change-set is refused for this reason, and the state stays what it was.
#[track_caller]
fn refused(state: &State, edits: Vec<Edit>, why: InvalidEdit) {
    let mut after = state.clone();
    assert_eq!(after.apply(&next(state, edits)), Err(why));
    assert_eq!(after, *state, "a refused change-set left a trace");
}

#[track_caller]
fn accepted(state: &State, edits: Vec<Edit>) -> State {
    let mut after = state.clone();
    after.apply(&next(state, edits)).unwrap();
    after
}

#[test]
fn begins_with_an_identity_and_has_no_second_one() {
    let mut state = State::default();
    let set = ChangeSet { number: 1, edits: vec![Edit::NextFile(2)], ..ChangeSet::default() };
    assert_eq!(state.apply(&set), Err(InvalidEdit::NoIdentity));
    let set = ChangeSet { number: 0, edits: vec![Edit::Identity(identity())], ..ChangeSet::default() };
    assert_eq!(state.apply(&set), Err(InvalidEdit::Number { expected: 1, got: 0 }));
    let twice = vec![Edit::Identity(identity()), Edit::Identity(identity())];
    let set = ChangeSet { number: 1, edits: twice, ..ChangeSet::default() };
    assert_eq!(state.apply(&set), Err(InvalidEdit::SecondIdentity));
    assert_eq!(state, State::default());
    refused(&blank(), vec![Edit::Identity(Identity::default())], InvalidEdit::SecondIdentity);
}

#[test]
fn numbers_have_no_gap_and_no_repeat() {
    for got in [0, 1, 3] {
        let mut state = blank();
        let set = ChangeSet { number: got, ..ChangeSet::default() };
        assert_eq!(state.apply(&set), Err(InvalidEdit::Number { expected: 2, got }));
    }
}

#[test]
fn tables_come_and_go_by_name() {
    let state = state_after(vec![vec![add(5, 0, "a", "b")]]);
    refused(&state, vec![add(5, 0, "a", "b")], InvalidEdit::KnownTable { id: 5 });
    refused(&state, vec![Edit::RemoveTable { id: 6 }], InvalidEdit::UnknownTable { id: 6 });
    refused(&state, vec![Edit::MoveTable { id: 6, level: 1 }], InvalidEdit::UnknownTable { id: 6 });
    let twice = vec![Edit::RemoveTable { id: 5 }, Edit::RemoveTable { id: 5 }];
    refused(&state, twice, InvalidEdit::UnknownTable { id: 5 });
    assert_eq!(accepted(&state, vec![Edit::MoveTable { id: 5, level: 3 }]).tables[&5].level, 3);
    assert!(accepted(&state, vec![Edit::RemoveTable { id: 5 }]).tables.is_empty());
}

#[test]
fn implausible_tables_are_refused() {
    let state = state_after(vec![vec![open_segment(1, 2), open_segment(2, 3)]]);
    let with = |change: &dyn Fn(&mut crate::TableMeta)| {
        let mut table = table(5, 0, "a", "b", &[1, 2]);
        change(&mut table);
        let mut after = state.clone();
        after.apply(&next(&state, vec![Edit::AddTable(table)]))
    };
    assert_eq!(with(&|_| ()), Ok(()));
    let refusals: [&dyn Fn(&mut crate::TableMeta); 5] = [
        &|t| t.smallest = b"c".to_vec(),
        &|t| t.seq_min = 10,
        &|t| t.tombstones = 6,
        &|t| t.refs.reverse(),
        &|t| t.refs = vec![SegmentRef { segment: 1, count: 1, bytes: 1 }; 2],
    ];
    for change in refusals {
        assert!(matches!(with(change), Err(InvalidEdit::Table { id: 5, .. })));
    }
}

#[test]
fn levels_below_the_first_do_not_overlap() {
    let state = state_after(vec![vec![add(1, 1, "c", "e"), add(2, 1, "k", "m"), add(3, 2, "a", "z")]]);
    let overlap = |left, right| InvalidEdit::Overlap { level: 1, left, right };
    refused(&state, vec![add(4, 1, "a", "c")], overlap(4, 1));
    refused(&state, vec![add(4, 1, "e", "f")], overlap(1, 4));
    refused(&state, vec![add(4, 1, "d", "d")], overlap(1, 4));
    refused(&state, vec![add(4, 1, "c", "e")], overlap(1, 4));
    refused(&state, vec![add(4, 1, "a", "z")], overlap(4, 1));
    refused(&state, vec![add(4, 1, "f", "k")], overlap(4, 2));
    refused(&state, vec![add(4, 2, "z", "z")], InvalidEdit::Overlap { level: 2, left: 3, right: 4 });
    refused(&state, vec![Edit::MoveTable { id: 3, level: 1 }], overlap(3, 1));
    accepted(&state, vec![add(4, 1, "f", "j"), add(5, 1, "a", "b"), add(6, 1, "n", "z")]);
    accepted(&state, vec![add(4, 0, "a", "z"), add(5, 0, "a", "z")]);
}

#[test]
fn a_compaction_may_name_its_outputs_before_its_inputs() {
    let state = state_after(vec![vec![add(1, 1, "a", "m"), add(2, 2, "a", "z")]]);
    let edits = vec![
        add(3, 2, "a", "m"),
        add(4, 2, "n", "z"),
        Edit::RemoveTable { id: 1 },
        Edit::RemoveTable { id: 2 },
    ];
    let after = accepted(&state, edits);
    assert_eq!(after.tables.keys().copied().collect::<Vec<_>>(), [3, 4]);
    refused(&after, vec![add(5, 2, "m", "n")], InvalidEdit::Overlap { level: 2, left: 3, right: 5 });
}

#[test]
fn file_numbers_are_taken_before_and_used_once() {
    let state = state_after(vec![vec![add(5, 0, "a", "b"), open_segment(1, 6)]]);
    let not_taken = |file| InvalidEdit::FileNotTaken { file, next_file: 100 };
    refused(&state, vec![add(100, 0, "a", "b")], not_taken(100));
    refused(&state, vec![open_segment(2, 200)], not_taken(200));
    let in_use = |file| InvalidEdit::FileInUse { file };
    refused(&state, vec![add(6, 0, "a", "b")], in_use(6));
    refused(&state, vec![open_segment(2, 5)], in_use(5));
    refused(&state, vec![open_segment(2, 6)], in_use(6));
    refused(&state, vec![open_segment(2, 7), open_segment(3, 7)], in_use(7));
    refused(&state, vec![Edit::RemoveTable { id: 5 }, add(5, 0, "a", "b")], in_use(5));
    // The number may be taken in the same change-set, wherever it says so.
    let after = accepted(&state, vec![add(100, 0, "a", "b"), Edit::NextFile(101)]);
    assert_eq!(after.next_file, 101);
    // Numbers may be recorded out of turn; they only ever add up.
    assert_eq!(accepted(&after, vec![Edit::NextFile(50)]).next_file, 101);
}

#[test]
fn segments_are_opened_sealed_remapped_and_dropped_in_turn() {
    let state = state_after(vec![vec![open_segment(1, 2)]]);
    refused(&state, vec![open_segment(1, 3)], InvalidEdit::KnownSegment { segment: 1 });
    refused(&state, vec![seal(2)], InvalidEdit::UnknownSegment { segment: 2 });
    refused(&state, vec![Edit::DropSegment { segment: 1 }], InvalidEdit::OpenSegment { segment: 1 });
    refused(&state, vec![remap(1, 3)], InvalidEdit::OpenSegment { segment: 1 });
    refused(&state, vec![remap(2, 3)], InvalidEdit::UnknownSegment { segment: 2 });

    let state = accepted(&state, vec![seal(1)]);
    assert_eq!(state.segments[&1].sealed, Some(sealed(8192)));
    refused(&state, vec![seal(1)], InvalidEdit::SealedSegment { segment: 1 });
    refused(&state, vec![remap(1, 2)], InvalidEdit::FileInUse { file: 2 });
    refused(&state, vec![remap(1, 3)], InvalidEdit::NoOwner { segment: 1, file: 3 });
    let remapped = accepted(&state, vec![add_values(7, 3), remap(1, 3)]);
    assert_eq!((remapped.segments[&1].file, remapped.segments[&1].remapped), (3, true));
    refused(&remapped, vec![open_segment(2, 3)], InvalidEdit::FileInUse { file: 3 });
    let drop_it = |segment| Edit::DropSegment { segment };
    assert!(accepted(&remapped, vec![drop_it(1), drop_it(7)]).segments.is_empty());
    // Sealed and dropped at once: a segment that recovery found to hold nothing.
    let state = state_after(vec![vec![open_segment(1, 2)]]);
    assert!(accepted(&state, vec![seal(1), Edit::DropSegment { segment: 1 }]).segments.is_empty());
}

#[test]
fn one_output_file_serves_the_victims_of_one_collection() {
    let opened = (1..=4).map(|n| open_segment(n, n)).chain((1..=3).map(seal)).collect();
    let state = state_after(vec![opened]);
    let state = accepted(&state, vec![add_values(9, 10), remap(1, 10), remap(2, 10)]);
    assert_eq!(state.owner_of(10).map(|owner| owner.segment), Some(9));
    assert!(state.segments_in(10).map(|segment| segment.segment).eq([1, 2, 9]));
    refused(&state, vec![remap(3, 10)], InvalidEdit::FileInUse { file: 10 });
    // A segment of the log cannot move in with them, in either order, nor a second one of values.
    refused(&state, vec![remap(1, 11), open_segment(5, 11)], InvalidEdit::FileInUse { file: 11 });
    let no_owner = InvalidEdit::NoOwner { segment: 1, file: 11 };
    refused(&state, vec![open_segment(5, 11), remap(1, 11)], no_owner);
    refused(&state, vec![add_values(5, 11), add_values(6, 11)], InvalidEdit::FileInUse { file: 11 });
    // The owner stays until they are gone; it may itself move on, with them.
    let drop_it = |segment| Edit::DropSegment { segment };
    refused(&state, vec![drop_it(9)], InvalidEdit::NoOwner { segment: 1, file: 10 });
    refused(&state, vec![drop_it(9), drop_it(1)], InvalidEdit::NoOwner { segment: 2, file: 10 });
    assert_eq!(accepted(&state, vec![drop_it(9), drop_it(1), drop_it(2)]).segments.len(), 2);
    refused(&state, vec![add_values(8, 11), remap(9, 11)], InvalidEdit::NoOwner { segment: 1, file: 10 });
    let again = accepted(&state, vec![add_values(8, 11), remap(9, 11), remap(1, 11), drop_it(2)]);
    assert!(again.segments_in(11).map(|segment| segment.segment).eq([1, 8, 9]));
    assert_eq!(again.segments_in(10).count(), 0);
    // The state written down afresh keeps them together.
    let mut again = State::default();
    again.apply(&whole_state(&state, 0)).unwrap();
    assert_eq!(again, state);
    refused(&again, vec![remap(3, 10)], InvalidEdit::FileInUse { file: 10 });
}

#[test]
fn what_is_replayed_is_not_remapped() {
    let state = state_after(vec![vec![open_segment(1, 1), seal(1), Edit::ReplayFrom { segment: 1 }]]);
    let moved = InvalidEdit::ReplayOfRemapped { segment: 1, file: 2 };
    refused(&state, vec![add_values(2, 2), remap(1, 2)], moved);
}

#[test]
fn implausible_seals_are_refused() {
    let state = state_after(vec![vec![open_segment(1, 2)]]);
    let infos = [
        SealedInfo { first_index: None, ..sealed(1) },
        SealedInfo { last_index: None, ..sealed(1) },
        SealedInfo { first_index: Some(4), ..sealed(1) },
        SealedInfo { terms: vec![position(2, 1), position(2, 2)], ..sealed(1) },
    ];
    for info in infos {
        let mut after = state.clone();
        let set = next(&state, vec![Edit::SealSegment { segment: 1, info }]);
        assert!(matches!(after.apply(&set), Err(InvalidEdit::Segment { segment: 1, .. })));
    }
    let empty = SealedInfo { cut: true, ..SealedInfo::default() };
    accepted(&state, vec![Edit::SealSegment { segment: 1, info: empty }]);
}

#[test]
fn a_segment_outlives_the_tables_that_point_to_it() {
    let pointing = Edit::AddTable(table(5, 0, "a", "b", &[1]));
    refused(&blank(), vec![pointing.clone()], InvalidEdit::PointsNowhere { table: 5, segment: 1 });
    let state = accepted(&blank(), vec![pointing, open_segment(1, 2), seal(1)]);
    let drop_it = Edit::DropSegment { segment: 1 };
    refused(&state, vec![drop_it.clone()], InvalidEdit::PointedTo { segment: 1, tables: 1 });
    let after = accepted(&state, vec![drop_it, Edit::RemoveTable { id: 5 }]);
    assert!(after.segments.is_empty() && after.tables.is_empty());
    // Moving a table does not lose count of what it points to.
    let moved = accepted(&state, vec![Edit::MoveTable { id: 5, level: 1 }]);
    refused(&moved, vec![Edit::DropSegment { segment: 1 }], InvalidEdit::PointedTo { segment: 1, tables: 1 });
}

#[test]
fn positions_do_not_go_back() {
    let marks = vec![
        open_segment(4, 4),
        open_segment(5, 5),
        seal(5),
        Edit::Epoch(3),
        flushed(10),
        Edit::PurgeFloor(position(1, 6)),
        Edit::ReplayFrom { segment: 5 },
    ];
    let state = state_after(vec![marks]);
    let back = |what, from, to| InvalidEdit::Backwards { what, from, to };
    refused(&state, vec![flushed(9)], back("the flushed position", 10, 9));
    let older = Edit::Flushed { position: position(0, 11), membership: Vec::new() };
    refused(&state, vec![older], back("the flushed position", 1, 0));
    refused(&state, vec![Edit::PurgeFloor(position(1, 5))], back("the purge floor", 6, 5));
    refused(&state, vec![Edit::ReplayFrom { segment: 4 }], back("the replay segment", 5, 4));
    refused(&state, vec![Edit::Epoch(3)], back("the epoch", 4, 3));
    let floor = InvalidEdit::PurgeAboveFlushed { floor: 11, flushed: 10 };
    refused(&state, vec![Edit::PurgeFloor(position(1, 11))], floor);
    let unknown = InvalidEdit::UnknownSegment { segment: 6 };
    refused(&state, vec![Edit::ReplayFrom { segment: 6 }], unknown);
    let dropped = InvalidEdit::UnknownSegment { segment: 5 };
    refused(&state, vec![Edit::DropSegment { segment: 5 }], dropped);
    let ahead = Edit::OpenSegment { segment: 6, file: 6, generation: 0, epoch: 4 };
    let why = InvalidEdit::EpochAhead { segment: 6, epoch: 4, last: 3 };
    refused(&state, vec![ahead.clone()], why);
    accepted(&state, vec![ahead, Edit::Epoch(4), flushed(10), Edit::PurgeFloor(position(1, 10))]);
}

#[test]
fn a_whole_life_can_be_undone_and_written_afresh() {
    let mut state = State::default();
    let edits = vec![Edit::Identity(identity()), Edit::NextFile(2)];
    state.apply(&ChangeSet { number: 1, edits, ..ChangeSet::default() }).unwrap();
    for (_, edits) in life() {
        let before = state.clone();
        let set = next(&state, edits);
        Fold::run(&mut state, &set).unwrap().run(&mut state);
        assert_eq!(state, before);
        state.apply(&set).unwrap();
        let mut afresh = State::default();
        afresh.apply(&whole_state(&state, 0)).unwrap();
        assert_eq!(afresh, state);
    }
}

#[test]
fn a_value_segment_is_complete_from_its_first_day() {
    let state = state_after(vec![vec![open_segment(1, 1), Edit::ReplayFrom { segment: 1 }]]);
    let pointing = Edit::AddTable(table(5, 1, "a", "b", &[3]));
    refused(&state, vec![pointing.clone()], InvalidEdit::PointsNowhere { table: 5, segment: 3 });
    // Numbers may have gaps, and be recorded out of order.
    let state = accepted(&state, vec![pointing, add_values(3, 6)]);
    let state = accepted(&state, vec![open_segment(2, 4)]);
    let added = &state.segments[&3];
    let held = SealedInfo { end: 8192, values: 2, value_bytes: 20, ..SealedInfo::default() };
    assert_eq!((added.kind, added.sealed.as_ref()), (SegmentKind::Values, Some(&held)));
    assert_eq!((state.tables_pointing_to(3), state.tables_pointing_to(1)), (1, 0));
    refused(&state, vec![add_values(3, 7)], InvalidEdit::KnownSegment { segment: 3 });
    refused(&state, vec![add_values(4, 6)], InvalidEdit::FileInUse { file: 6 });
    refused(&state, vec![seal(3)], InvalidEdit::SealedSegment { segment: 3 });
    let ahead = Edit::AddValueSegment {
        segment: 4,
        file: 7,
        generation: 0,
        epoch: 9,
        end: 1,
        values: 0,
        value_bytes: 0,
    };
    refused(&state, vec![ahead], InvalidEdit::EpochAhead { segment: 4, epoch: 9, last: 0 });
    let replay = vec![Edit::ReplayFrom { segment: 3 }];
    refused(&state, replay, InvalidEdit::ReplayOfValues { segment: 3 });
    let drop_it = Edit::DropSegment { segment: 3 };
    refused(&state, vec![drop_it.clone()], InvalidEdit::PointedTo { segment: 3, tables: 1 });
    accepted(&state, vec![drop_it, Edit::RemoveTable { id: 5 }]);
    let mut again = State::default();
    again.apply(&whole_state(&state, 0)).unwrap();
    assert_eq!(again, state);
}

#[test]
fn time_goes_on_and_what_no_state_needs_of_it_is_forgotten() {
    let step = |index, time| Edit::LogTime(TimeStep { index, time });
    let indexes = |state: &State| state.times.iter().map(|step| step.index).collect::<Vec<_>>();
    let state = accepted(&blank(), vec![step(2, 10), step(5, 20), step(9, 30), flushed(7)]);
    assert_eq!(indexes(&state), [5, 9]);
    let back = |what, from, to| InvalidEdit::Backwards { what, from, to };
    refused(&state, vec![step(10, 30)], back("the log time", 31, 30));
    refused(&state, vec![step(9, 31)], back("the entry of a log time", 10, 9));
    let kept = accepted(&state, vec![Edit::HistoryFloor(Some(6)), step(12, 40), flushed(20)]);
    assert_eq!((indexes(&kept), kept.history_floor), (vec![5, 9, 12], Some(6)));
    refused(&kept, vec![Edit::HistoryFloor(Some(5))], back("the history floor", 6, 5));
    let later = accepted(&kept, vec![Edit::HistoryFloor(Some(11))]);
    assert_eq!(indexes(&later), [9, 12]);
    let given_up = accepted(&later, vec![Edit::HistoryFloor(None)]);
    assert_eq!((indexes(&given_up), given_up.history_floor), (vec![12], None));
    accepted(&given_up, vec![Edit::HistoryFloor(Some(3))]);
}

/// An edit out of a small world, so that edits often meet.
fn any_edit() -> impl Strategy<Value = Edit> {
    let id = 1..12u64;
    let segment = 1..6u64;
    let key = "[a-e]";
    let a_table = (id.clone(), 0..3u8, key, key, proptest::collection::vec(segment.clone(), 0..3));
    prop_oneof![
        a_table
            .prop_map(|(id, level, a, b, segments)| { Edit::AddTable(table(id, level, &a, &b, &segments)) }),
        id.clone().prop_map(|id| Edit::RemoveTable { id }),
        (id.clone(), 0..3u8).prop_map(|(id, level)| Edit::MoveTable { id, level }),
        (segment.clone(), id.clone()).prop_map(|(segment, file)| open_segment(segment, file)),
        (segment.clone(), id.clone()).prop_map(|(segment, file)| add_values(segment, file)),
        segment.clone().prop_map(seal),
        (segment.clone(), id).prop_map(|(segment, file)| remap(segment, file)),
        segment.clone().prop_map(|segment| Edit::DropSegment { segment }),
        (0..9u64).prop_map(flushed),
        segment.prop_map(|segment| Edit::ReplayFrom { segment }),
        (0..9u64).prop_map(|index| Edit::PurgeFloor(position(1, index))),
        (0..20u64).prop_map(Edit::NextFile),
        (0..5u64).prop_map(Edit::Epoch),
        (0..9u64, 0..9u32).prop_map(|(index, time)| Edit::LogTime(TimeStep { index, time })),
        proptest::option::of(0..9u64).prop_map(Edit::HistoryFloor),
    ]
}

/// The invariants of [`State`], checked the slow way.
fn check_invariants(state: &State) {
    assert!(state.times.is_sorted_by(|a, b| a.index < b.index && a.time < b.time));
    if let Some(flushed) = state.flushed {
        let oldest = state.history_floor.map_or(flushed.index, |floor| floor.min(flushed.index));
        assert!(state.times.iter().filter(|step| step.index <= oldest).count() <= 1);
    }
    for level in 1..3 {
        let mut tables: Vec<_> = state.tables.values().filter(|t| t.level == level).collect();
        tables.sort_by(|a, b| a.smallest.cmp(&b.smallest));
        assert!(tables.windows(2).all(|pair| pair[0].largest < pair[1].smallest));
    }
    for table in state.tables.values() {
        assert!(table.refs.iter().all(|r| state.segments.contains_key(&r.segment)));
        assert!(table.id < state.next_file);
    }
    for segment in state.segments.values() {
        assert!(segment.file < state.next_file && !state.tables.contains_key(&segment.file));
        let residents = || state.segments.values().filter(|other| other.file == segment.file);
        assert!(residents().eq(state.segments_in(segment.file)));
        let owners: Vec<_> = residents().filter(|other| !other.remapped).collect();
        assert_eq!(owners.len(), 1);
        assert!(residents().count() == 1 || owners[0].kind == SegmentKind::Values);
        assert!(segment.sealed.is_some() || !segment.remapped);
    }
    let of_the_log = |segment| state.segments.get(&segment).is_some_and(|s| s.kind == SegmentKind::Log);
    assert!(state.replay_from.is_none_or(of_the_log));
    assert!(state.replay_from.is_none_or(|segment| !state.segments[&segment].remapped));
    let mut values = state.segments.values().filter(|segment| segment.kind == SegmentKind::Values);
    assert!(values.all(|segment| segment.sealed.as_ref().is_some_and(|s| s.first_index.is_none())));
}

proptest! {
    /// Whatever is tried: what is accepted keeps the invariants and can be written afresh, what is
    /// refused leaves no trace.
    #[test]
    fn any_edits_keep_the_invariants(steps in proptest::collection::vec(proptest::collection::vec(any_edit(), 0..4), 0..60)) {
        let mut state = blank();
        for edits in steps {
            let before = state.clone();
            let set = next(&state, edits);
            match state.apply(&set) {
                Ok(()) => {
                    check_invariants(&state);
                    let mut afresh = State::default();
                    afresh.apply(&whole_state(&state, 0)).unwrap();
                    prop_assert_eq!(&afresh, &state);
                    let mut back = before.clone();
                    Fold::run(&mut back, &set).unwrap().run(&mut back);
                    prop_assert_eq!(back, before);
                }
                Err(_) => prop_assert_eq!(&state, &before),
            }
        }
    }
}
