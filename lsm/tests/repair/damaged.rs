//! Damaged directories, each with one kind of damage: the check names it, repair restores what is there and lists
//! what is lost.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use kv_lsm::repair::{RepairOptions, RepairedKeys};
use kv_manifest::{SegmentKind, names};

use crate::fixture::*;

/// Damages a copy; the check and the repair name `file`.
#[track_caller]
fn damaged(old: &Fixture, file: &str, damage: impl FnOnce(&Path)) -> Repaired {
    let dir = old.copy();
    damage(dir.path());
    let looked = look(dir.path()).unwrap();
    assert!(looked.problems.iter().any(|problem| problem.file == file), "{file}: {looked:?}");
    let new = repaired(dir.path(), RepairOptions::default());
    let problems = &new.report.problems;
    assert!(problems.iter().any(|problem| problem.file == file), "{file}: {problems:?}");
    nothing_is_invented(old, &new);
    new
}

/// What is there is a version that was; the newest one, or else it is said to be doubtful. What is not there is said
/// to be lost.
#[track_caller]
fn nothing_is_invented(old: &Fixture, new: &Repaired) {
    let report = &new.report;
    let doubtful = keys(&report.doubtful_keys);
    for (key, known) in &new.contents {
        assert_eq!(old.versions.get(&(key.clone(), known.revision)), Some(&known.value), "{key:?}");
        let newest = old.contents.get(key).map(|newest| newest.revision);
        assert!(
            newest == Some(known.revision) || doubtful.contains(key),
            "{key:?} is not the newest version"
        );
    }
    let lost = keys(&report.lost_keys);
    let in_range = |key: &Bytes| {
        let bounds = |range: &kv_lsm::repair::LostRange| {
            range.from.as_ref().is_none_or(|from| from <= key) && range.to.as_ref().is_none_or(|to| key <= to)
        };
        report.lost_ranges.iter().any(bounds)
    };
    for key in old.contents.keys().filter(|key| !new.contents.contains_key(*key)) {
        assert!(
            lost.contains(key) || in_range(key) || !report.lost_entries.is_empty(),
            "{key:?} is lost unsaid"
        );
    }
}

fn keys(of: &RepairedKeys) -> BTreeSet<Bytes> {
    assert_eq!(of.count, of.listed.len() as u64);
    of.listed.iter().map(|key| key.key.clone()).collect()
}

#[track_caller]
fn complete(old: &Fixture, new: &Repaired) {
    assert!(new.report.is_complete(), "{:?}", new.report);
    assert_eq!(values(&new.contents), values(&old.contents));
    assert_eq!(Some(&new.report.content_hash), look(old.path()).unwrap().content_hash.as_ref());
}

#[test]
fn a_lost_or_damaged_current_costs_nothing() {
    for closed in [true, false] {
        let old = Fixture::make(true, closed);
        let new = damaged(&old, "CURRENT", |dir| fs::remove_file(dir.join("CURRENT")).unwrap());
        assert!(new.report.by_manifest);
        complete(&old, &new);
        complete(&old, &damaged(&old, "CURRENT", |dir| flip(&dir.join("CURRENT"), 12)));
    }
}

#[test]
fn a_manifest_that_lost_its_end_costs_nothing() {
    for collected in [false, true] {
        let old = Fixture::make(collected, true);
        let manifest = old.manifest();
        let sets = &manifest.change_sets;
        let last = sets.last().unwrap().offset;
        let cuts: Vec<u64> =
            sets.iter().map(|set| set.offset).filter(|at| (8192..last).contains(at)).collect();
        assert!(cuts.len() > 10);
        for at in cuts.iter().step_by(cuts.len() / 6) {
            let new = damaged(&old, &manifest.file, |dir| cut(&dir.join(&manifest.file), *at));
            assert!(!new.report.by_manifest);
            complete(&old, &new);
        }
    }
}

#[test]
fn a_manifest_with_a_flipped_bit_costs_nothing() {
    let old = Fixture::make(true, true);
    let file = old.manifest().file;
    for at in [20, 4096 + 30] {
        let new = damaged(&old, &file, |dir| flip(&dir.join(&file), at));
        assert!(!new.report.by_manifest);
        complete(&old, &new);
    }
}

#[test]
fn files_that_exchanged_their_names_cost_nothing() {
    let old = Fixture::make(true, true);
    let state = old.manifest().state;
    let [a, b, ..] = &state.tables.keys().map(|id| names::table_name(*id)).collect::<Vec<_>>()[..] else {
        panic!("one table")
    };
    complete(&old, &damaged(&old, a, |dir| swap(dir, a, b)));
    let segments =
        [SegmentKind::Log, SegmentKind::Values].map(|kind| names::segment_name(old.segment(kind).file));
    for named in &segments {
        complete(&old, &damaged(&old, named, |dir| swap(dir, &segments[0], &segments[1])));
    }
}

#[test]
fn headers_footers_and_remaps_cost_nothing() {
    let old = Fixture::make(true, true);
    for kind in [SegmentKind::Log, SegmentKind::Values] {
        let segment = old.segment(kind);
        assert!(!old.keys_in(&old.manifest().state, segment.file).is_empty());
        let (file, end) = (names::segment_name(segment.file), segment.sealed.as_ref().unwrap().end);
        // The header; the header of the footer's group, its record's, its body.
        for at in [20, end + 20, end + 100, end + 140] {
            let new = damaged_maybe_unmet(&old, &file, |dir| flip(&dir.join(&file), at));
            complete(&old, &new);
        }
    }
}

/// As [`damaged`]; repair does not read what it does not need.
#[track_caller]
fn damaged_maybe_unmet(old: &Fixture, file: &str, damage: impl FnOnce(&Path)) -> Repaired {
    let dir = old.copy();
    damage(dir.path());
    let looked = look(dir.path()).unwrap();
    assert!(looked.problems.iter().any(|problem| problem.file == file), "{file}: {looked:?}");
    let new = repaired(dir.path(), RepairOptions::default());
    nothing_is_invented(old, &new);
    new
}

#[test]
fn a_missing_or_foreign_segment_costs_the_values_in_it_and_no_other() {
    let (old, stranger) = (Fixture::make(true, true), Fixture::make(false, true));
    let state = old.manifest().state;
    let theirs = stranger.path().join(names::segment_name(stranger.segment(SegmentKind::Log).file));
    for kind in [SegmentKind::Log, SegmentKind::Values] {
        let segment = old.segment(kind);
        let file = names::segment_name(segment.file);
        let expected: BTreeSet<Bytes> = old.keys_in(&state, segment.file).into_iter().collect();
        assert!(expected.len() > 5);
        let gone = damaged(&old, &file, |dir| fs::remove_file(dir.join(&file)).unwrap());
        let foreign = damaged(&old, &file, |dir| replace(&dir.join(&file), &fs::read(&theirs).unwrap()));
        for new in [gone, foreign] {
            assert_eq!(keys(&new.report.lost_keys), expected);
            assert_eq!(new.contents.len() + expected.len(), old.contents.len());
            assert!(new.report.doubtful_keys.count == 0 && new.report.lost_ranges.is_empty());
        }
    }
}

#[test]
fn a_damaged_value_costs_itself() {
    let old = Fixture::make(true, true);
    let state = old.manifest().state;
    for kind in [SegmentKind::Log, SegmentKind::Values] {
        let file = names::segment_name(old.segment(kind).file);
        let keys_in = old.keys_in(&state, old.segment(kind).file);
        let known = |key: Bytes| (key.clone(), &old.contents[&key]);
        let mut incompressible =
            keys_in.into_iter().map(known).filter(|(_, known)| known.value[0] != known.value[1]);
        let (key, known) = incompressible.next().unwrap();
        let bytes = fs::read(old.path().join(&file)).unwrap();
        let Some(at) = bytes.windows(64).position(|window| *window == known.value[1000..1064]) else {
            panic!("the value of {key:?} is compressed")
        };
        let new = damaged(&old, &file, |dir| flip(&dir.join(&file), at as u64));
        assert_eq!(keys(&new.report.lost_keys), BTreeSet::from([key]));
        assert_eq!(new.contents.len() + 1, old.contents.len());
    }
}

#[test]
fn a_missing_table_is_restored_from_segments_as_far_as_they_tell() {
    let (old, stranger) = (Fixture::make(true, true), Fixture::make(false, true));
    let state = old.manifest().state;
    let theirs = stranger.manifest().state.tables.into_keys().next().unwrap();
    let theirs = stranger.path().join(names::table_name(theirs));
    for table in state.tables.values() {
        let file = names::table_name(table.id);
        let gone = damaged(&old, &file, |dir| fs::remove_file(dir.join(&file)).unwrap());
        let foreign = damaged(&old, &file, |dir| replace(&dir.join(&file), &fs::read(&theirs).unwrap()));
        for new in [gone, foreign] {
            let inside = |key: &&Bytes| *table.smallest <= ***key && ***key <= *table.largest;
            // Values that stand in segments are found without it.
            for (key, known) in old.contents.iter().filter(|(_, known)| known.segment.is_some()) {
                assert_eq!(new.contents.get(key).map(|found| &found.value), Some(&known.value), "{key:?}");
            }
            let outside = old.contents.keys().filter(|key| !inside(key));
            outside.for_each(|key| assert!(new.contents.contains_key(key), "{key:?}"));
        }
    }
}

#[test]
fn a_damaged_block_of_a_table_costs_what_nothing_else_tells() {
    let old = Fixture::make(true, true);
    let state = old.manifest().state;
    let table = state.tables.values().max_by_key(|table| table.bytes).unwrap();
    let file = names::table_name(table.id);
    for at in (0..table.bytes).step_by(table.bytes as usize / 12) {
        let new = damaged(&old, &file, |dir| flip(&dir.join(&file), at));
        for (key, known) in old.contents.iter().filter(|(_, known)| known.segment.is_some()) {
            assert_eq!(
                new.contents.get(key).map(|found| &found.value),
                Some(&known.value),
                "{key:?} at {at}"
            );
        }
    }
    // All that is behind the data: nothing is lost.
    for at in [table.bytes - 1, table.bytes - 50, table.bytes - 112] {
        complete(&old, &damaged(&old, &file, |dir| flip(&dir.join(&file), at)));
    }
}

#[test]
fn a_table_that_is_half_there_gives_that_half() {
    let old = Fixture::make(false, true);
    let state = old.manifest().state;
    let table = state.tables.values().max_by_key(|table| table.bytes).unwrap();
    let file = names::table_name(table.id);
    for part in 1..8 {
        let new = damaged(&old, &file, |dir| cut(&dir.join(&file), table.bytes * part / 8));
        assert!(new.report.lost_ranges.len() == 1 || new.report.is_complete(), "{:?}", new.report);
    }
}
