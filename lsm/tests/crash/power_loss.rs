//! Loss of power at every operation, in every model of what survives it, and again while recovering.

use std::time::Duration;

use kv_vfs::{MemVfs, Survival};

use crate::check::{check, glance, open_found, open_found_if, shared};
use crate::coverage::Coverage;
use crate::run::{Run, run};
use crate::script::{Step, script};
use crate::share::{Doing, for_each, share_of};
use crate::world::{World, dir, open};

/// The script's; another one does other things at other places.
pub const SEED: u64 = 1;

/// Of the operations of a recovery every so many-th is tried, others at other places.
const RECOVERY_STRIDE: u64 = 7;

/// Every model; those that choose, by a seed of their own for each place of a crash.
fn survivals(seed: u64) -> [Survival; 7] {
    [
        Survival::Synced,
        Survival::Everything,
        Survival::Torn { sector: 512, seed },
        Survival::Torn { sector: 4096, seed },
        Survival::Subset { seed },
        Survival::Subset { seed: seed + 1 },
        Survival::NamesLost { seed },
    ]
}

/// A run on a disk of which the power is cut before the `n`-th operation.
fn run_until(n: u64, script: &[Step]) -> (MemVfs, Run) {
    let disk = MemVfs::new();
    disk.stop_after(n);
    let run = run(&shared(&disk), script);
    assert!(run.error.is_none() || disk.is_off(), "failed by itself: {:?}", run.error);
    (disk, run)
}

/// Mutating operations of the whole script.
fn operations(script: &[Step]) -> u64 {
    let disk = MemVfs::new();
    let run = run(&shared(&disk), script);
    assert!(run.error.is_none(), "{:?}", run.error);
    disk.operations()
}

#[test]
fn two_runs_do_the_same_operations() {
    let log = || {
        let disk = MemVfs::new();
        assert!(run(&shared(&disk), &script(SEED)).error.is_none());
        disk.log().into_iter().map(|op| (op.kind, op.path, op.offset, op.len)).collect::<Vec<_>>()
    };
    assert!(log() == log());
}

#[test]
fn every_crash_leaves_what_was_acknowledged() {
    let (script, coverage) = (script(SEED), Coverage::default());
    let last = operations(&script) + 1;
    for_each(&share_of(last, 2), |n| {
        let _doing = Doing(format!("power lost at {n} of {last}, script {SEED}"));
        let (disk, run) = run_until(n, &script);
        for survival in survivals(n) {
            let _doing = Doing(format!("{survival:?}"));
            check(&disk.crash_clone(&survival), &run, &coverage);
        }
    });
    coverage.require(&["torn tail", "flush in recovery", "orphan segment", "orphan table"]);
}

/// A process is killed, not the machine: the next one sees what only the page cache holds. What it has let
/// anybody read must still be there when the power goes then.
#[test]
fn what_was_read_after_a_kill_survives_a_power_loss() {
    let (script, coverage) = (script(SEED), Coverage::default());
    let last = operations(&script) + 1;
    for_each(&share_of(last, 3), |n| {
        let _doing = Doing(format!("killed at {n} of {last}, script {SEED}"));
        let (disk, mut run) = run_until(n, &script);
        disk.stop_after(u64::MAX);
        let Some(_db) = open_found(&disk, &mut run) else { return };
        for survival in [Survival::Synced, Survival::Subset { seed: n }, Survival::NamesLost { seed: n }] {
            let _doing = Doing(format!("then power lost: {survival:?}"));
            check(&disk.crash_clone(&survival), &run, &coverage);
        }
    });
    coverage.require(&["crash"]);
}

#[test]
fn every_crash_while_recovering_leaves_what_was_acknowledged() {
    let (script, coverage) = (script(SEED), Coverage::default());
    let last = operations(&script) + 1;
    for_each(&share_of(last, 31), |n| {
        let _doing = Doing(format!("power lost at {n} of {last}, script {SEED}"));
        let (disk, run) = run_until(n, &script);
        for survival in survivals(n) {
            let _doing = Doing(format!("{survival:?}"));
            let left = disk.crash_clone(&survival);
            let mut stops = (1 + n % RECOVERY_STRIDE..).step_by(RECOVERY_STRIDE as usize);
            stops.find(|m| !crash_while_recovering(&left, &run, *m, &coverage));
        }
    });
    coverage.require(&["torn tail", "flush in recovery", "orphan segment", "orphan table"]);
}

/// Has the power go at the `m`-th operation of an open; says whether the open has as many.
fn crash_while_recovering(left: &MemVfs, run: &Run, m: u64, coverage: &Coverage) -> bool {
    let _doing = Doing(format!("recovering, power lost again at {m}"));
    let (disk, mut run) = (left.crash_clone(&Survival::Everything), run.clone());
    disk.stop_after(m);
    let was_opened = run.opened;
    // Once open it may have been read, and so must not change any more.
    let opened = open_found_if(&disk, &mut run, |_| !was_opened || disk.is_off());
    let was_off = disk.is_off();
    drop(opened);
    for again in [Survival::Synced, Survival::Torn { sector: 512, seed: m }, Survival::NamesLost { seed: m }]
    {
        let _doing = Doing(format!("{again:?}"));
        glance(&disk.crash_clone(&again), &run, coverage);
    }
    let _doing = Doing("only killed".into());
    disk.stop_after(u64::MAX);
    check(&disk, &run, coverage);
    was_off
}

/// No crash leaves this, a disk that lies does: the log names a change-set that the manifest does not hold.
#[test]
fn a_manifest_that_lost_its_end_is_refused() {
    let disk = MemVfs::new();
    let world = World::new(&shared(&disk));
    let db = world.open().unwrap();
    db.put(b"key", "value").unwrap();
    db.store().flush().unwrap();
    world.pass(Duration::from_secs(1)); // the log names the newest change-set when it is idle
    drop(db);
    let reading = kv_manifest::read(&disk, dir()).unwrap();
    let last = reading.change_sets.last().unwrap();
    assert_eq!(last.change_set.cause, "flush");
    let path = dir().join(&reading.file);
    let bytes = disk.read_file(&path).unwrap();
    disk.write_file(&path, &bytes[..last.offset as usize]).unwrap();
    let error = open(&shared(&disk)).unwrap_err().to_string();
    assert!(error.contains("change-sets are missing"), "{error}");
}
