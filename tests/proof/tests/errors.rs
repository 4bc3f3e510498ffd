//! Failing operations, at every place in the engine.

use std::sync::Arc;

use kv_lsm::WriteBatch;
use kv_proof::crash::Subject;
use kv_proof::embedded::Embedded;
use kv_proof::errors::{sweep, unseen};
use kv_proof::world::{Life, shared};
use kv_vfs::fault::{Fault, Rule, Times};
use kv_vfs::{FaultVfs, MemVfs, OpKind};
use kv_vlog::Expect;

#[test]
fn every_place_that_fails_leaves_what_was_acknowledged() {
    let tally = sweep(2);
    eprintln!("{tally}");
    let failures = tally.failures.len();
    assert!(tally.failures.is_empty(), "{failures} failures:\n{}", tally.failures.join("\n"));
    let untried = tally.outcomes.iter().filter(|(_, outcome)| outcome.tried == 0).map(|(site, _)| site);
    assert_eq!(untried.count(), 0);
    let unseen = unseen(tally.outcomes.keys()).unwrap();
    assert!(unseen.is_empty(), "no run reaches:\n{}", unseen.join("\n"));
}

/// The log holds the first write, and the next open applies it. Had the handle gone on without it, the
/// second write would be acknowledged against a state that never was, and be refused when replayed.
#[test]
fn a_write_whose_check_cannot_be_read_stops_the_handle() {
    let (disk, life) = (MemVfs::new(), Life::new(Default::default()));
    let vfs = FaultVfs::new(shared(&disk));
    let db = Embedded.open(&(Arc::new(vfs.clone()) as _), &life).unwrap();
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
    let db = Embedded.open(&shared(&disk), &life).unwrap();
    assert!(!acknowledged || db.get(b"z").unwrap().is_some(), "an acknowledged write is gone");
    assert!(!acknowledged, "takes writes without the one before");
}
