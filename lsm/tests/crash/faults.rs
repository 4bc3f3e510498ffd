//! Operations that fail, once and for ever: nothing is acknowledged that is not there, and a handle whose
//! write or sync has failed takes no more.

use std::sync::Arc;

use kv_lsm::{Db, StoreError, WriteBatch};
use kv_vfs::fault::{Fault, Rule, Times};
use kv_vfs::{FaultVfs, MemVfs, OpKind, Survival, Vfs};
use kv_vlog::Expect;

use crate::check::{check, contents, shared};
use crate::coverage::Coverage;
use crate::history::History;
use crate::power_loss::SEED;
use crate::run::{Run, run, run_watched};
use crate::script::{Step, script};
use crate::share::{Doing, for_each, share_of};
use crate::world::open;

const KINDS: [OpKind; 14] = [
    OpKind::Create,
    OpKind::Write,
    OpKind::Sync,
    OpKind::SyncDir,
    OpKind::SetLen,
    OpKind::Preallocate,
    OpKind::Rename,
    OpKind::Remove,
    OpKind::Open,
    OpKind::Read,
    OpKind::Len,
    OpKind::List,
    OpKind::Stat,
    OpKind::Lock,
];

/// Places of one kind that are tried, about, unless all are.
const PLACES: u64 = 16;

/// The ways in which an operation of this kind can fail.
fn faults(op: OpKind) -> Vec<(Fault, Times)> {
    let mut faults = vec![(Fault::Eio, Times::Once), (Fault::Eio, Times::Forever)];
    if matches!(op, OpKind::Create | OpKind::Write | OpKind::SetLen | OpKind::Preallocate) {
        faults.push((Fault::Enospc, Times::Once));
    }
    if op == OpKind::Write {
        faults.push((Fault::ShortWrite { bytes: 512 }, Times::Once));
        faults.push((Fault::ShortWrite { bytes: 1 << 20 }, Times::Once));
    }
    faults
}

/// A run in which the `nth` operation of a kind fails.
fn run_with(rule: Rule, script: &[Step], coverage: &Coverage) -> (MemVfs, Run) {
    let disk = MemVfs::new();
    let vfs = FaultVfs::new(shared(&disk));
    let op = rule.op;
    vfs.fail(rule);
    let vfs: Arc<dyn Vfs> = Arc::new(vfs);
    let mut failed = |db: &Db, error: &StoreError, history: &mut History| {
        coverage.note(if op.mutates() { "a write failed" } else { "a read failed" });
        let refuses = refuses_writes(db, history);
        assert!(refuses || !op.mutates(), "takes writes after {error}");
        still_reads(db, history);
    };
    let run = run_watched(&vfs, script, &mut |_| {}, &mut failed);
    (disk, run)
}

/// Says whether another write is refused; one that is not must stay. A refused one must leave nothing: the
/// history does not know it.
fn refuses_writes(db: &Db, history: &mut History) -> bool {
    let key: bytes::Bytes = "late".into();
    match db.put(&key, "late") {
        Ok(_) => {
            history.begin(&[(key, Some("late".into()))]);
            history.acknowledge();
            false
        }
        Err(StoreError::Poisoned { .. }) => true,
        Err(error) => panic!("not said to be stopped: {error}"),
    }
}

/// Reads after a failure give what was written, or an error.
fn still_reads(db: &Db, history: &History) {
    if let Ok(found) = contents(db) {
        assert!(history.find(&found).is_some(), "after a failure: {}", history.explain(&found));
    }
}

#[test]
fn every_failed_operation_leaves_what_was_acknowledged() {
    let (script, coverage) = (script(SEED), Coverage::default());
    let clean = FaultVfs::new(Arc::new(MemVfs::new()));
    let whole = run(&(Arc::new(clean.clone()) as Arc<dyn Vfs>), &script);
    assert!(whole.error.is_none(), "{:?}", whole.error);
    for op in KINDS {
        let last = clean.count(op);
        for_each(&share_of(last, last.div_ceil(PLACES).max(1)), |nth| {
            for (error, times) in faults(op) {
                let _doing = Doing(format!("{op:?} {nth} of {last} fails: {error:?}, {times:?}"));
                let rule = Rule { op, path_contains: String::new(), nth, times, error };
                let (disk, run) = run_with(rule, &script, &coverage);
                let crashed = disk.crash_clone(&Survival::Torn { sector: 512, seed: nth });
                {
                    let _doing = Doing("then opened as it is".into());
                    check(&disk, &run, &coverage);
                }
                let _doing = Doing("then power lost".into());
                check(&crashed, &run, &coverage);
            }
        });
    }
    coverage.require(&["a write failed", "a read failed"]);
}

/// The log holds the first write, and the next open applies it. Had the handle gone on without it, the
/// second write would be acknowledged against a state that never was, and be refused when replayed.
#[test]
fn a_write_whose_check_cannot_be_read_stops_the_handle() {
    let disk = MemVfs::new();
    let vfs = FaultVfs::new(shared(&disk));
    let db = open(&(Arc::new(vfs.clone()) as Arc<dyn Vfs>)).unwrap();
    let revision = db.put(b"x", "1").unwrap();
    db.store().flush().unwrap();
    let (op, path_contains) = (OpKind::Read, ".sst".to_string());
    vfs.fail(Rule { op, path_contains, nth: 1, times: Times::Once, error: Fault::Eio });
    let mut first = WriteBatch::default();
    first.check(b"x", Expect::Seq(revision)).put(b"y", "1");
    db.write(first).unwrap_err();
    let mut second = WriteBatch::default();
    second.check(b"y", Expect::Absent).put(b"z", "1");
    let acknowledged = db.write(second).is_ok();
    drop(db);
    let db = open(&shared(&disk)).unwrap();
    assert!(!acknowledged || db.get(b"z").unwrap().is_some(), "an acknowledged write is gone");
    assert!(!acknowledged, "takes writes without the one before");
}
