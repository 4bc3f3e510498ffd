//! Repair on disks that fail, and that lose their power.

use std::path::Path;
use std::sync::Arc;

use kv_lsm::offline::{CheckReport, check};
use kv_lsm::repair::{RepairOptions, RepairReport, repair};
use kv_lsm::{Db, Environment, StoreError};
use kv_vfs::fault::{Fault, Rule, Times};
use kv_vfs::mem::Survival;
use kv_vfs::{FaultVfs, ManualClock, MemVfs, OpKind, SteppedExecutor, Vfs};
use parking_lot::Mutex;

use crate::fixture::small;

fn old() -> &'static Path {
    Path::new("/above/old")
}

fn new() -> &'static Path {
    Path::new("/above/new")
}

fn environment(vfs: &Arc<dyn Vfs>) -> Environment {
    let clock = Arc::new(ManualClock::default());
    Environment { vfs: vfs.clone(), clock: clock.clone(), executor: Arc::new(SteppedExecutor::new(clock)) }
}

fn shared(disk: &MemVfs) -> Arc<dyn Vfs> {
    Arc::new(disk.clone())
}

fn look(disk: &MemVfs, dir: &Path) -> CheckReport {
    check(&shared(disk), dir, &|_| {}).unwrap()
}

/// A disk with a directory on it: values in tables, and in the log alone.
fn filled() -> MemVfs {
    let disk = MemVfs::new();
    let db = Db::open_in(&environment(&shared(&disk)), old(), small()).unwrap();
    for n in 0..24u8 {
        if n == 16 {
            db.flush().unwrap();
        }
        let value: Vec<u8> = (0..2_000u32).map(|m| (m * m / 7) as u8 ^ n).collect();
        db.put(&[b'k', n % 20], value).unwrap();
    }
    db.close().unwrap();
    disk
}

fn repaired(vfs: &Arc<dyn Vfs>) -> Result<RepairReport, StoreError> {
    let options = RepairOptions { store: small(), ..RepairOptions::default() };
    repair(&environment(vfs), old(), new(), options, &|_| {})
}

/// The new directory is whole, and as the report says; all is in it, or the report says what is not.
fn is_right(disk: &MemVfs, report: Option<&RepairReport>, expected: &CheckReport) {
    let found = look(disk, new());
    assert!(found.problems.is_empty(), "{found:?}");
    let is_all = found.content_hash == expected.content_hash;
    match report {
        Some(report) => assert!(is_all || !report.is_complete(), "lost unsaid: {report:?}"),
        None => assert!(is_all, "not what was there"),
    }
}

#[test]
fn a_loss_of_power_leaves_no_directory_or_a_whole_one() {
    let disk = filled();
    let expected = look(&disk, old());
    let left = Arc::new(Mutex::new(Vec::new()));
    let kept = left.clone();
    disk.before_each(move |moment| {
        let seed = moment.number();
        let models = [
            Survival::Synced,
            Survival::Torn { sector: 512, seed },
            Survival::Subset { seed },
            Survival::NamesLost { seed },
        ];
        kept.lock().extend(models.map(|survival| moment.crash_clone(&survival)));
    });
    assert!(repaired(&shared(&disk)).unwrap().is_complete());
    disk.unwatch();
    let mut left = std::mem::take(&mut *left.lock());
    assert!(left.len() > 40, "{}", left.len());
    let last = disk.crash_clone(&Survival::Synced);
    assert!(last.exists(new()).unwrap(), "it was durable");
    left.push(last);
    for disk in left {
        if disk.exists(new()).unwrap() {
            is_right(&disk, None, &expected);
        }
        assert_eq!(look(&disk, old()), expected, "the old directory");
    }
}

#[test]
fn a_disk_that_fails_is_an_error_or_said_to_have_lost() {
    let expected = look(&filled(), old());
    let kinds = [
        OpKind::Create,
        OpKind::Open,
        OpKind::Read,
        OpKind::Write,
        OpKind::Sync,
        OpKind::Len,
        OpKind::Rename,
        OpKind::Remove,
        OpKind::CreateDir,
        OpKind::List,
        OpKind::Stat,
        OpKind::SyncDir,
    ];
    let counting = FaultVfs::new(shared(&filled()));
    repaired(&(Arc::new(counting.clone()) as _)).unwrap();
    let (mut failed, mut tried) = (0, 0);
    for op in kinds {
        let count = counting.count(op);
        for nth in (1..=count).step_by((count / 25).max(1) as usize) {
            for (error, times) in [(Fault::Eio, Times::Once), (Fault::Enospc, Times::Forever)] {
                let disk = filled();
                let vfs = FaultVfs::new(shared(&disk));
                vfs.fail(Rule { op, path_contains: String::new(), nth, times, error });
                let result = repaired(&(Arc::new(vfs.clone()) as _));
                tried += 1;
                failed += u64::from(result.is_err());
                // What ends in an error may be there, with a name that is not durable.
                if disk.exists(new()).unwrap() {
                    is_right(&disk, result.as_ref().ok(), &expected);
                } else {
                    assert!(result.is_err(), "{op:?} {nth}: nothing is there");
                }
                assert_eq!(look(&disk, old()), expected, "the old directory, {op:?} {nth}");
            }
        }
    }
    assert!(failed > 100 && failed < tried, "{failed} of {tried}");
}
