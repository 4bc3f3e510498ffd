//! A read that fails is an error, never an end; tried again, the step goes where it was to go.

use std::sync::Arc;

use bytes::Bytes;
use kv_lsm::{Iter, IterOptions, StoreError};
use kv_vfs::fault::{Fault, Rule, Times};
use kv_vfs::{FaultVfs, MemVfs, OpKind, Vfs};

use crate::world::{Contents, fill, open};

type Step = fn(&mut Iter) -> Result<bool, StoreError>;

/// All keys and values in the direction of a step, each step tried again where it fails; and how often it did.
fn walk(iter: &mut Iter, seek: Step, step: Step) -> (Vec<(Bytes, Bytes)>, u64) {
    let (mut found, mut failed) = (Vec::new(), 0);
    let mut again = |result: Result<bool, StoreError>| match result {
        Ok(valid) => Some(valid),
        Err(StoreError::Table(_) | StoreError::Io(_) | StoreError::Vlog(_)) => {
            failed += 1;
            None
        }
        Err(other) => panic!("{other}"),
    };
    let mut valid = loop {
        if let Some(valid) = again(seek(iter)) {
            break valid;
        }
    };
    while valid {
        let value = loop {
            match iter.value() {
                Ok(value) => break value.unwrap().value,
                Err(error) => drop(again(Err(error))),
            }
        };
        found.push((Bytes::copy_from_slice(iter.key().unwrap()), value));
        valid = loop {
            if let Some(valid) = again(step(iter)) {
                break valid;
            }
        };
    }
    (found, failed)
}

fn check(read_ahead: usize, seek: Step, step: Step, expected: &dyn Fn(&Contents) -> Vec<(Bytes, Bytes)>) {
    let faults = FaultVfs::new(Arc::new(MemVfs::new()));
    let vfs: Arc<dyn Vfs> = Arc::new(faults.clone());
    let db = open(&vfs, "/above/data").unwrap();
    let contents = fill(&db, 60);
    db.flush().unwrap();
    let expected = expected(&contents);
    let mut unnoticed = 0;
    for nth in 1.. {
        let mut iter = db.iter(IterOptions { read_ahead, ..IterOptions::default() });
        let (op, path_contains) = (OpKind::Read, String::new());
        let before = faults.failed();
        faults.fail(Rule { op, path_contains, nth, times: Times::Once, error: Fault::Eio });
        let (found, failed) = walk(&mut iter, seek, step);
        faults.clear();
        assert!(found == expected, "read {nth}");
        if faults.failed() == before {
            assert!(nth > 20, "only {nth} reads");
            break;
        }
        assert!(failed <= 1);
        unnoticed += u64::from(failed == 0);
    }
    assert!(
        unnoticed <= 2,
        "{unnoticed} failed reads were no error: more than were of blocks not needed yet"
    );
}

#[test]
fn forward() {
    let all = |contents: &Contents| contents.clone().into_iter().collect();
    check(0, Iter::seek_first, Iter::next, &all);
    check(5, Iter::seek_first, Iter::next, &all);
}

#[test]
fn backward() {
    let all = |contents: &Contents| contents.clone().into_iter().rev().collect();
    check(0, Iter::seek_last, Iter::prev, &all);
    check(5, Iter::seek_last, Iter::prev, &all);
}

#[test]
fn several_keys_at_once_fail_as_one_and_come_when_asked_again() {
    let faults = FaultVfs::new(Arc::new(MemVfs::new()));
    let vfs: Arc<dyn Vfs> = Arc::new(faults.clone());
    let db = open(&vfs, "/above/data").unwrap();
    let contents = fill(&db, 60);
    db.flush().unwrap();
    let keys: Vec<&Bytes> = contents.keys().collect();
    let (op, path_contains) = (OpKind::Read, ".seg".to_string());
    faults.fail(Rule { op, path_contains, nth: 7, times: Times::Once, error: Fault::Eio });
    db.multi_get(&keys).unwrap_err();
    let found = db.multi_get(&keys).unwrap();
    assert!(found.into_iter().map(|found| found.unwrap().value).eq(contents.values().cloned()));
}
