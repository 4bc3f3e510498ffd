//! What can go wrong in the log.

use std::sync::Arc;
use std::time::Duration;

use kv_vfs::fault::{Fault, Rule, Times};
use kv_vfs::{FaultVfs, MemVfs, OpKind, Survival};
use kv_vlog::{Callback, VlogError, Vote};
use parking_lot::Mutex;

use super::run::{A_SEGMENT, Run, Steps, at_every_loss, put};
use crate::world::{dir, shared};

/// Scenario 6: The log rolls to the next segment without a sync of the directory: after a loss of power the
/// whole segment is gone.
pub fn a_roll_without_a_sync_of_the_directory() {
    let act = |run: &Run, steps: &Steps| {
        for _ in 0..3 {
            run.append(1, put("a", A_SEGMENT), steps.callback()).unwrap();
            run.store.log().wait_durable().unwrap();
        }
    };
    at_every_loss(Run::new(), act, |left, acknowledged| {
        let entries = Run::reopen(left).terms().len() as u64;
        assert!(entries >= acknowledged, "{entries} entries of {acknowledged}");
    });
}

/// Scenario 8: Recovery cuts the log at any checksum that does not match, not only at a torn end: what was
/// acknowledged behind it is dropped (Badger #434).
pub fn a_log_cut_at_a_bad_checksum_in_its_middle() {
    let run = Run::new();
    for name in ["a", "b", "c"] {
        run.write(1, [put(name, 2_000)]);
    }
    run.life.pass(Duration::from_secs(1));
    let left = run.disk.kill_clone();
    let segment = left.files().into_iter().find(|path| path.extension().is_some_and(|ext| ext == "seg"));
    // Behind the header of the segment and that of the group: in the first entry.
    left.corrupt(&segment.unwrap(), 4096 + 600, 1).unwrap();
    let error = Run::open(&left).err().expect("it opens without what was acknowledged").to_string();
    assert!(error.contains(".seg"), "{error}");
}

/// Scenario 10: A sync fails, is retried and "succeeds": the kernel has given up the pages that the first did
/// not write.
pub fn a_failed_sync_is_retried() {
    let (disk, told) = (MemVfs::new(), Arc::new(Mutex::new(None)));
    let vfs = FaultVfs::new(shared(&disk));
    let run = Run::through(&disk, &(Arc::new(vfs.clone()) as _)).unwrap();
    let (op, path_contains) = (OpKind::Sync, ".seg".into());
    vfs.fail(Rule { op, path_contains, nth: 1, times: Times::Once, error: Fault::Eio });
    let note = told.clone();
    run.append(1, put("a", 100), Box::new(move |result| *note.lock() = Some(result.is_ok()))).unwrap();
    let waited = run.store.log().wait_durable();
    assert_eq!(vfs.failed(), 1);
    assert_eq!(*told.lock(), Some(false), "acknowledged after a failed sync");
    waited.expect_err("durable after a failed sync");
    let next = run.append(1, put("b", 100), Box::new(|_| {}));
    assert!(matches!(next, Err(VlogError::Poisoned { .. })), "{next:?}");
    assert_eq!((run.life.fatal(), vfs.failed()), (1, 1));
}

/// Scenario 12: The answer to a request for a vote leaves before the vote is durable: after a restart the
/// node votes for another in the same term.
pub fn a_vote_is_answered_before_it_is_durable() {
    let run = Run::new();
    let vote = Vote { term: 3, node: Some(2), committed: false };
    let left = lost_when_told(&run, |done| run.store.log().save_vote(vote, done));
    assert_eq!(Run::reopen(&left).store.log().vote(), Some(vote));
}

/// Scenario 13: An append is acknowledged before the sync that makes it durable.
pub fn an_append_is_acknowledged_before_its_sync() {
    let run = Run::new();
    let left = lost_when_told(&run, |done| run.append(1, put("a", 5_000), done));
    assert_eq!(Run::reopen(&left).terms(), [1]);
}

/// What is left where the power goes just when this is acknowledged.
fn lost_when_told(run: &Run, ask: impl FnOnce(Callback) -> Result<(), VlogError>) -> MemVfs {
    let (disk, kept) = (run.disk.clone(), Arc::new(Mutex::new(None)));
    let keep = kept.clone();
    ask(Box::new(move |result| {
        result.unwrap();
        *keep.lock() = Some(disk.crash_clone(&Survival::Synced));
    }))
    .unwrap();
    run.store.log().wait_durable().unwrap();
    kept.lock().take().expect("it was not acknowledged")
}

/// Scenario 14: A vote is durable and the truncation that the new leader asked for is not: a new vote over an
/// old tail, which entries of the new term then follow.
pub fn a_vote_is_durable_and_the_truncation_behind_it_is_not() {
    let run = Run::new();
    run.write(1, ["a", "b", "c", "d"].map(|name| put(name, 100)));
    let vote = Vote { term: 2, node: Some(2), committed: true };
    let act = |run: &Run, steps: &Steps| {
        let log = run.store.log();
        log.save_vote(vote, steps.callback()).unwrap();
        log.wait_durable().unwrap();
        log.truncate(2, steps.callback()).unwrap();
        log.wait_durable().unwrap();
        run.append(2, put("e", 100), steps.callback()).unwrap();
        run.append(2, put("f", 100), steps.callback()).unwrap();
        log.wait_durable().unwrap();
    };
    // What the first so many steps make of the log.
    let logs: [(_, &[u64]); 5] = [
        (None, &[1, 1, 1, 1]),
        (Some(vote), &[1, 1, 1, 1]),
        (Some(vote), &[1, 1]),
        (Some(vote), &[1, 1, 2]),
        (Some(vote), &[1, 1, 2, 2]),
    ];
    at_every_loss(run, act, |left, acknowledged| {
        let run = Run::reopen(left);
        let found = (run.store.log().vote(), run.terms());
        let may_be = &logs[acknowledged as usize..];
        assert!(may_be.iter().any(|log| *log == (found.0, &found.1[..])), "{found:?}, not of {may_be:?}");
    });
    a_truncation_that_only_a_header_says();
}

/// The voided entries are in a sealed segment, the truncation in the next one, where nothing follows it, and
/// recovery begins behind both.
fn a_truncation_that_only_a_header_says() {
    let run = Run::new();
    run.write(1, [put("a", 100), put("b", 100), put("c", A_SEGMENT)]);
    run.commit(1);
    run.store.log().truncate(1, Box::new(|_| {})).unwrap();
    run.store.log().wait_durable().unwrap();
    // The process ends without a close, so that nothing is said about the end; the next one flushes.
    let disk = run.disk.clone();
    drop(run);
    let run = Run::reopen(&disk);
    assert_eq!(run.terms(), [1]);
    run.store.flush().unwrap();
    let reading = kv_manifest::read(&disk, dir()).unwrap();
    assert_eq!(reading.state.replay_from, reading.state.segments.keys().next_back().copied());
    drop(run);
    assert_eq!(Run::reopen(&disk).terms(), [1], "what was voided is back");
}
