//! A disk that loses what it could not write, and a page cache that shows it all the same.

use std::sync::Arc;

use kv_vfs::fault::{Fault, Rule, Times};
use kv_vfs::{FaultVfs, OpKind, Survival};

use crate::VlogError;
use crate::recycle_tests::{Home, check, fill, path};
use crate::tests::{noise, put};

/// A process whose sync has failed and that has ended, with what is left of it in the page cache: `entries` were durable,
/// one more was not.
fn failed(entries: u64) -> Home {
    let mut home = Home::new();
    home.disk.refuse_direct();
    let faults = FaultVfs::new(Arc::new(home.disk.clone()));
    let log = home.try_open(Arc::new(faults.clone())).unwrap();
    fill(&log, 0..entries);
    let (op, path_contains) = (OpKind::Sync, ".seg".into());
    faults.fail(Rule { op, path_contains, nth: 1, times: Times::Once, error: Fault::Eio });
    let told = Box::new(|result: Result<(), VlogError>| drop(result.unwrap_err()));
    log.append(vec![put(1, entries, noise(entries, 5000))], told).unwrap();
    log.wait_durable().unwrap_err();
    home.disk.lose_unsynced(&path(home.opened().file)).unwrap();
    home.killed()
}

/// Broken by: a recovery that believes what it reads from the page cache, because a sync of it has succeeded.
#[test]
fn what_a_restart_has_read_stays() {
    for entries in 0..4 {
        let mut second = failed(entries);
        let log = second.open();
        let read = log.state().last.map_or(0, |last| last.index + 1);
        assert_eq!(read, entries + 1, "the page cache holds the entry");
        fill(&log, read..read + 2);
        // Now the power goes.
        let mut third = second.crashed(Survival::Synced);
        let log = third.open();
        assert_eq!(log.state().last.map(|last| last.index), Some(read + 1));
        check(&log, 0..read + 2);
    }
}

/// The power goes at each operation of the recovery: what was durable before stays.
#[test]
fn nothing_is_lost_on_the_way() {
    for n in 1.. {
        let mut second = failed(3);
        second.disk.stop_after(n);
        let opened = second.try_open(Arc::new(second.disk.clone()));
        assert!(opened.is_ok() || second.disk.is_off(), "{:?}", opened.err());
        for survival in [Survival::Synced, Survival::Everything, Survival::NamesLost { seed: n }] {
            let mut third = second.crashed(survival);
            let log = third.open();
            assert!(log.state().last.is_some_and(|last| last.index >= 2));
            check(&log, 0..3);
        }
        if opened.is_ok() {
            assert!(n > 5, "{n}");
            break;
        }
    }
}
