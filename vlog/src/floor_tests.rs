//! Logs that begin above their purge floor, and logs with holes below it: what a snapshot leaves.

use kv_vfs::RealVfs;

use crate::tests::{Home, append, check_values, length, noise, put};
use crate::*;

fn at(term: u64, index: u64) -> Position {
    Position { term, index }
}

fn append_all(log: &Vlog, term: u64, range: std::ops::Range<u64>) {
    range.for_each(|index| append(log, vec![put(term, index, noise(index, length(index)))]));
}

/// Raises the floor as the owner does: durable first.
fn purge(home: &mut Home, log: &Vlog, floor: Position) {
    home.purged = Some(floor);
    log.purge(floor);
    log.set_committed(floor.index + 1);
}

/// Every segment holds what its owner recorded, its footer included.
fn verify(home: &Home) {
    for segment in home.segments() {
        walk_segment(&RealVfs, &segment, &mut |_| {}).unwrap();
    }
}

#[track_caller]
fn is_purged(log: &Vlog, index: u64) {
    let read = log.entries(index..index + 1, 1, true);
    assert!(matches!(read, Err(VlogError::Purged { index: i }) if i == index), "{read:?}");
    assert_eq!(log.cached_entries(index..index + 1, 1, true), None);
}

#[test]
fn a_fresh_log_begins_behind_a_snapshot() {
    for (entries, closed) in [(0, false), (0, true), (1, false), (30, false), (30, true)] {
        let mut home = Home::new(1 << 20);
        let (log, _) = home.open();
        let floor = at(3, 100);
        purge(&mut home, &log, floor);
        assert_eq!(log.state(), LogState { purged: Some(floor), last: Some(floor) });
        assert_eq!(log.term_starts(100, 100), [floor]);
        // Says that entries below 101 are committed, of which the log holds none.
        log.save_vote(Vote { term: 3, node: None, committed: true }, Box::new(|r| r.unwrap())).unwrap();
        append_all(&log, 3, 101..101 + entries);
        log.wait_durable().unwrap();
        assert_eq!(log.durable_next(), 101 + entries);
        if closed {
            log.close().unwrap()
        } else {
            log.stop().unwrap()
        }
        verify(&home);

        let (log, replayed) = home.open();
        assert_eq!((replayed.entries.len() as u64, replayed.committed), (entries, 101));
        assert_eq!(log.state(), LogState { purged: Some(floor), last: Some(at(3, 100 + entries)) });
        assert_eq!((log.term_starts(100, 100), log.committed_next()), (vec![floor], 101));
        check_values(&log, 101..101 + entries);
        is_purged(&log, 100);
        append_all(&log, 4, 101 + entries..110 + entries);
        check_values(&log, 101..110 + entries);
        log.close().unwrap();
        verify(&home);
    }
}

#[test]
fn a_snapshot_beyond_the_end_leaves_a_hole() {
    for closed in [false, true] {
        let mut home = Home::new(1 << 20);
        let (log, _) = home.open();
        append_all(&log, 1, 0..30);
        log.set_committed(20);
        purge(&mut home, &log, at(2, 99));
        is_purged(&log, 29);
        append_all(&log, 2, 100..140);
        check_values(&log, 100..140);
        // And once more, with entries of the open segment below.
        purge(&mut home, &log, at(5, 199));
        append_all(&log, 5, 200..203);
        log.wait_durable().unwrap();
        if closed {
            log.close().unwrap()
        } else {
            log.stop().unwrap()
        }
        verify(&home);

        let (log, _) = home.open();
        assert_eq!(log.state(), LogState { purged: Some(at(5, 199)), last: Some(at(5, 202)) });
        assert_eq!(log.term_starts(199, 202), [at(5, 199)]);
        check_values(&log, 200..203);
        for below in [0, 29, 50, 99, 139, 199] {
            is_purged(&log, below);
        }
        log.close().unwrap();
        verify(&home);
    }
}

#[test]
fn a_snapshot_may_end_within_the_log() {
    let mut home = Home::new(1 << 20);
    let (log, _) = home.open();
    append_all(&log, 1, 0..60);
    purge(&mut home, &log, at(1, 33));
    assert_eq!(log.state().last, Some(at(1, 59)));
    check_values(&log, 34..60);
    is_purged(&log, 33);
    log.truncate(50, Box::new(|r| r.unwrap())).unwrap();
    append_all(&log, 2, 50..52);
    log.wait_durable().unwrap();
    log.stop().unwrap();
    let (log, replayed) = home.open();
    assert_eq!((log.state().last, replayed.committed), (Some(at(2, 51)), 34));
    check_values(&log, 34..52);
    assert_eq!(log.term_starts(33, 51), [at(1, 33), at(2, 50)]);
}

#[test]
fn all_entries_may_lie_below_the_floor() {
    let mut home = Home::new(1 << 20);
    let (log, _) = home.open();
    append_all(&log, 1, 0..30);
    log.stop().unwrap();
    // The power went between the owner's record and the first word of it in the log.
    home.purged = Some(at(4, 77));
    for _ in 0..2 {
        let (log, replayed) = home.open();
        assert_eq!(log.state(), LogState { purged: home.purged, last: home.purged });
        assert_eq!((replayed.committed, log.term_starts(77, 77)), (78, vec![at(4, 77)]));
        log.stop().unwrap();
    }
    let (log, _) = home.open();
    append_all(&log, 4, 78..80);
    check_values(&log, 78..80);
    log.close().unwrap();
    verify(&home);
}

#[test]
fn what_is_missing_above_the_floor_is_refused() {
    let mut home = Home::new(1 << 20);
    let (log, _) = home.open();
    append_all(&log, 1, 0..30);
    log.wait_durable().unwrap(); // as the owner does before it purges what the log holds
    purge(&mut home, &log, at(2, 99));
    append_all(&log, 2, 100..103);
    log.close().unwrap();
    home.recover().unwrap();
    for floor in [None, Some(at(1, 5)), Some(at(2, 98))] {
        home.purged = floor;
        let error = home.recover().unwrap_err();
        assert!(error.to_string().contains("entries are missing"), "{floor:?}: {error}");
    }
    // A committed mark alone may not stand above the floor either.
    let mut home = Home::new(1 << 20);
    let (log, _) = home.open();
    purge(&mut home, &log, at(2, 99));
    log.save_vote(Vote { term: 3, node: None, committed: true }, Box::new(|r| r.unwrap())).unwrap();
    log.wait_durable().unwrap();
    log.stop().unwrap();
    home.purged = Some(at(2, 98));
    assert!(home.recover().unwrap_err().to_string().contains("said to be committed"));
}

#[test]
fn segments_below_the_floor_may_be_gone() {
    let mut home = Home::new(1 << 20);
    let (log, _) = home.open();
    append_all(&log, 1, 0..100);
    log.wait_durable().unwrap();
    let boundary = log.purge_boundary(99, 0).unwrap();
    let kept = log.purge_boundary(99, 2 << 20).unwrap();
    assert!(kept.index < boundary.index && boundary.index < 99, "{kept:?} {boundary:?}");
    assert_eq!(log.purge_boundary(boundary.index - 1, 0).unwrap(), log.purge_boundary(99, 1 << 20).unwrap());
    assert_eq!(log.purge_boundary(99, 1 << 40), None);
    purge(&mut home, &log, boundary);
    assert_eq!(log.purge_boundary(99, 0), None);
    let below = |summary: &SegmentSummary| summary.last_index.is_some_and(|last| last <= boundary.index);
    home.book.kept.lock().retain(|(_, sealed)| !sealed.as_ref().is_some_and(below));
    log.stop().unwrap();
    let (log, replayed) = home.open();
    assert_eq!(replayed.entries.first().map(|entry| entry.at.index), Some(boundary.index + 1));
    check_values(&log, boundary.index + 1..100);
    log.close().unwrap();
    // One more of them is not there: noticed.
    home.book.kept.lock().remove(0);
    assert!(home.recover().unwrap_err().to_string().contains("entries are missing"));
}
