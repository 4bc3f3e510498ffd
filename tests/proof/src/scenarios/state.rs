//! What can go wrong between the log and what is applied: snapshots, purges, flushes.

use std::path::PathBuf;

use bytes::Bytes;
use kv_vfs::MemVfs;
use kv_vlog::{Expect, Expiry, Op, Payload, Position, Vote, seq_of};

use super::run::{A_SEGMENT, Run, Steps, at_every_loss, put};
use crate::node::Contents;

/// Where the snapshots of peers end, above all that the logs hold here.
const AT: Position = Position { term: 2, index: 9 };

/// What a peer sends.
fn of_a_peer() -> Contents {
    let value = |name: &'static str, index| {
        (Bytes::from(name), (seq_of(index, 0), Bytes::from(vec![9; 3_000]), Expiry::NEVER))
    };
    Contents::from([value("a", 7), value("z", 9)])
}

/// A node on its way: four entries, two of them applied and in tables, two not committed.
fn behind() -> Run {
    let run = Run::new();
    run.write(1, [put("a", 100), put("b", 2_000)]);
    run.commit(2);
    run.store.flush().unwrap();
    run.write(1, [put("c", 100), put("d", 2_000)]);
    run
}

/// Checks that what is there is the peer's state, if all of it was acknowledged, and otherwise either state as a
/// whole; the log must be that of the same state.
fn is_either(left: &MemVfs, old: &Contents, is_installed: bool) {
    let run = Run::reopen(left);
    let (state, found) = (run.store.log().state(), run.contents());
    if run.store.applied() == Some(AT) {
        assert!(found == of_a_peer(), "the position of the snapshot, but other keys");
        assert_eq!((state.purged, state.last), (Some(AT), Some(AT)), "entries that the snapshot covers");
    } else {
        assert!(!is_installed, "the snapshot is gone");
        assert!(found == *old, "neither state");
        assert_eq!(state.purged, None);
    }
    // And it goes on from there.
    let next = run.next();
    run.write(3, [put("e", 100)]);
    assert_eq!(run.next(), next + 1);
}

/// Scenario 15: Replay brings back entries at or below the snapshot's: those that were truncated, or never
/// committed here (etcd #22442).
pub fn replay_brings_back_entries_that_a_snapshot_covers() {
    for is_truncated in [false, true] {
        let run = behind();
        let old = run.contents();
        let act = |run: &Run, steps: &Steps| {
            if is_truncated {
                run.store.log().truncate(2, Box::new(|_| {})).unwrap();
                run.store.log().wait_durable().unwrap();
            }
            run.install(&of_a_peer(), AT, None);
            steps.done();
        };
        at_every_loss(run, act, |left, installed| is_either(left, &old, installed == 1));
    }
}

/// Scenario 16: A purge removes files in an order that leaves a hole: one that is still named is gone.
pub fn a_purge_removes_files_that_are_still_named() {
    let run = Run::new();
    // Short values, in tables themselves: nothing points into the segments when they are flushed.
    run.write(1, (0..200).map(|number| put(&format!("key{number}"), 900)));
    run.commit(200);
    let expected = run.contents();
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "seg");
    let segments = |run: &Run| run.disk.files().iter().filter(|path| is_segment(path)).count();
    let act = |run: &Run, steps: &Steps| {
        run.store.flush().unwrap();
        let before = segments(run);
        run.store.purge(Position { term: 1, index: 150 }).unwrap();
        steps.done();
        assert!(segments(run) < before, "no file was removed");
    };
    at_every_loss(run, act, |left, purged| {
        let run = Run::reopen(left);
        assert!(run.contents() == expected, "keys are missing");
        let entries = run.terms().len();
        assert!(if purged == 1 { entries == 49 } else { entries == 49 || entries == 200 }, "{entries}");
    });
}

/// Scenario 17: The power goes between the sync of a vote and that of a snapshot: one of them is gone, or
/// they contradict each other (etcd #10219).
pub fn a_crash_between_a_vote_and_a_snapshot() {
    let run = behind();
    let old = run.contents();
    let vote = Vote { term: 5, node: Some(2), committed: true };
    let act = |run: &Run, steps: &Steps| {
        run.store.log().save_vote(vote, steps.callback()).unwrap();
        // So that the snapshot lets go of the segment that holds the vote.
        run.append(1, put("e", A_SEGMENT), Box::new(|_| {})).unwrap();
        run.append(1, put("f", A_SEGMENT), steps.callback()).unwrap();
        run.store.log().wait_durable().unwrap();
        run.install(&of_a_peer(), AT, None);
        steps.done();
    };
    at_every_loss(run, act, |left, steps| {
        let found = Run::reopen(left).store.log().vote();
        assert!(found == Some(vote) || (steps == 0 && found.is_none()), "{found:?} after {steps} steps");
        is_either(left, &old, steps == 3);
    });
}

/// Scenario 18: A snapshot is installed by half, and the node starts with nothing instead of refusing.
pub fn a_snapshot_is_installed_by_half() {
    let run = behind();
    let old = run.contents();
    let act = |run: &Run, steps: &Steps| {
        run.install(&of_a_peer(), AT, None);
        steps.done();
    };
    at_every_loss(run, act, |left, installed| is_either(left, &old, installed == 1));
}

/// Scenario 19: A snapshot is installed, and the old membership stays (openraft #1808).
pub fn a_snapshot_leaves_the_old_membership() {
    let run = Run::new();
    run.write(1, [Payload::Membership("one and two".into()), put("a", 100)]);
    run.commit(2);
    run.store.flush().unwrap();
    let old = Some((Position { term: 1, index: 0 }, Bytes::from("one and two")));
    let new = Some((Position { term: 2, index: 8 }, Bytes::from("two and three")));
    assert_eq!(run.store.membership(), old);
    let act = |run: &Run, steps: &Steps| {
        run.install(&of_a_peer(), AT, new.clone());
        assert_eq!(run.store.membership(), new, "just after the snapshot");
        steps.done();
    };
    at_every_loss(run, act, |left, installed| {
        let run = Run::reopen(left);
        let is_new = run.store.applied() == Some(AT);
        assert!(is_new || installed == 0, "the snapshot is gone");
        assert_eq!(run.store.membership(), if is_new { new.clone() } else { old.clone() });
    });
}

/// Scenario 20: What is said to be applied and what is applied do not become durable together (etcd 3.5):
/// entries are skipped, or take effect twice.
pub fn the_applied_position_is_ahead_of_what_is_applied() {
    let run = Run::new();
    let only_if = |expect, length| {
        let Payload::Ops(puts) = put("a", length) else { unreachable!("a put") };
        let check = Op::Check { key: "a".into(), expect };
        Payload::Ops([vec![check], puts].concat())
    };
    // Each depends on the one before: applied twice, or without it, the result is another one.
    let conditions =
        [(Expect::Absent, 100), (Expect::Seq(seq_of(0, 1)), 2_000), (Expect::Seq(seq_of(1, 1)), 50)];
    run.write(1, conditions.map(|(expect, length)| only_if(expect, length)));
    run.write(1, [put("b", 3_000), put("c", 10)]);
    run.commit(5);
    let expected = run.contents();
    assert_eq!(expected.get(&b"a"[..]).map(|(_, value, _)| value.len()), Some(50));
    let act = |run: &Run, steps: &Steps| {
        run.store.flush().unwrap();
        steps.done();
    };
    at_every_loss(run, act, |left, _| {
        let run = Run::reopen(left);
        assert_eq!(run.store.applied(), Some(Position { term: 1, index: 4 }));
        assert!(run.contents() == expected, "{:?}", run.contents().keys());
    });
}
