//! The end of the log, and holes in it.

use std::fs;
use std::path::Path;

use kv_lsm::Db;
use kv_lsm::repair::RepairOptions;
use kv_manifest::names;
use kv_vfs::RealVfs;
use kv_vlog::{Record, SegmentScanner};

use crate::fixture::*;

/// The file that was written last, and its length.
fn newest(dir: &Path) -> (String, u64) {
    let state = kv_manifest::read(&RealVfs, dir).unwrap().state;
    let open = state.segments.into_values().find(|segment| segment.sealed.is_none()).unwrap();
    let file = names::segment_name(open.file);
    let bytes = fs::metadata(dir.join(&file)).unwrap().len();
    (file, bytes)
}

#[test]
fn a_half_written_group_is_left_out() {
    let old = Fixture::make(true, false);
    let (file, bytes) = newest(old.path());
    let dir = old.copy();
    let mut torn = fs::read(dir.path().join(&file)).unwrap();
    // As much of a group as came before the power went.
    let group = torn[4096..4096 + 6000].to_vec();
    torn.resize(bytes as usize, 0);
    torn.extend_from_slice(&group);
    replace(&dir.path().join(&file), &torn);
    assert!(look(dir.path()).unwrap().problems.is_empty());
    let new = repaired(dir.path(), RepairOptions::default());
    assert!(new.report.is_complete() && new.report.problems.is_empty(), "{:?}", new.report);
    assert_eq!(values(&new.contents), values(&old.contents));
    assert!(new.report.notes.iter().any(|note| note.contains(&file)), "{:?}", new.report.notes);
}

#[test]
fn what_is_not_known_to_be_committed_counts_only_where_nobody_else_could_void_it() {
    let dir = tempfile::tempdir().unwrap();
    let (environment, _executor) = stepped();
    let db = Db::open_in(&environment, dir.path(), small()).unwrap();
    db.put(b"a", "1").unwrap();
    db.put(b"b", "2").unwrap();
    drop(db); // before the log was idle: no group says that the last entry is committed
    let whole = repaired(dir.path(), RepairOptions::default());
    assert_eq!((whole.contents.len(), whole.report.uncommitted), (2, 0));
    let careful = repaired(dir.path(), RepairOptions { whole_log: Some(false), ..RepairOptions::default() });
    assert!(careful.contents.len() < 2, "{:?}", careful.report);
    assert_eq!(careful.contents.len() as u64 + careful.report.uncommitted, 2);
}

#[test]
fn a_hole_in_the_log_is_told_and_what_is_behind_it_is_there() {
    let old = Fixture::make(false, false);
    let (file, bytes) = newest(old.path());
    // The header of a group with entries, in the middle of what is in no table.
    let mut scanner = SegmentScanner::open(&RealVfs, &old.path().join(&file), Some(bytes)).unwrap();
    let mut groups = Vec::new();
    while let Ok(found) = scanner.next_group().unwrap() {
        if found.records.iter().any(|(_, _, record)| matches!(record, Record::Entry(..))) {
            groups.push(found.offset);
        }
    }
    let at = groups[groups.len() / 2];
    let dir = old.copy();
    flip(&dir.path().join(&file), at + 40);
    assert!(!look(dir.path()).unwrap().problems.is_empty());
    let new = repaired(dir.path(), RepairOptions::default());
    assert!(!new.report.lost_entries.is_empty(), "{:?}", new.report);
    let (from, to) = new.report.lost_entries[0];
    for (key, known) in &old.contents {
        let is_lost = (from..=to).contains(&(known.revision >> 16));
        let found = new.contents.get(key).map(|found| found.revision);
        assert_eq!(found == Some(known.revision), !is_lost, "{key:?}");
    }
}
