//! The power goes while several compactions run: what was acknowledged is there, and nothing besides.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_lsm::offline::check;
use kv_lsm::{Db, Options, ScanRange, WriteBatch};
use kv_manifest::cross_check;
use kv_vfs::{MemVfs, Moment, OpKind, Survival, Vfs};
use parking_lot::Mutex;

use crate::world::*;

/// What may be found: what was acknowledged, or that and the write under way.
#[derive(Clone, Default)]
struct Known {
    acknowledged: Contents,
    begun: Option<Contents>,
}

/// What the enumeration met.
#[derive(Default)]
struct Met {
    moments: u64,
    while_compacting: u64,
    failed: Option<String>,
}

fn options(compactions_max: usize) -> Options {
    Options { compactions_max, memtable_entries_max: 10, separate_bytes_min: 200, ..small() }
}

fn survivals(seed: u64) -> [Survival; 6] {
    [
        Survival::Synced,
        Survival::Everything,
        Survival::Torn { sector: 512, seed },
        Survival::Subset { seed },
        Survival::NamesLost { seed },
        Survival::NamesSubset { seed },
    ]
}

fn write_durably(db: &Db, known: &Mutex<Known>, changes: &[(Bytes, Option<Bytes>)]) {
    let (mut batch, mut next) = (WriteBatch::default(), known.lock().acknowledged.clone());
    for (key, value) in changes {
        match value {
            Some(value) => {
                batch.put(key, value.clone());
                next.insert(key.clone(), value.clone());
            }
            None => {
                batch.delete(key);
                next.remove(key);
            }
        }
    }
    known.lock().begun = Some(next.clone());
    db.write(batch).unwrap();
    *known.lock() = Known { acknowledged: next, begun: None };
}

fn workload(world: &World, options: &Options, known: &Mutex<Known>, seed: u64) -> kv_lsm::CompactionStats {
    let (db, mut dice) = (world.open(options), Dice(seed));
    let mut snapshot = None;
    for step in 0..260 {
        let changes: Vec<_> = (0..1 + dice.below(4))
            .map(|_| (key(dice.below(120)), (dice.below(4) > 0).then(|| dice.value(&[3, 60, 250]))))
            .collect();
        write_durably(&db, known, &changes);
        match step % 70 {
            20 => snapshot = Some(db.snapshot()),
            50 => snapshot = None,
            60 => db.store().compact_range(&ScanRange { from: key(30), to: Some(key(90)) }).unwrap(),
            65 => world.pass(Duration::from_secs(70)),
            _ => {}
        }
    }
    drop(snapshot);
    let stats = db.store().compaction_stats();
    db.close().unwrap();
    stats
}

/// Opens what a crash left; it holds what it must, now and after it has been compacted.
fn look(disk: MemVfs, options: &Options, known: &Known) {
    let report = check(&(Arc::new(disk.clone()) as Arc<dyn Vfs>), Path::new("/data"), &|_| {}).unwrap();
    assert!(report.problems.is_empty() || report.applied.is_none(), "{:?}", report.problems);
    let world = World::on(disk.clone());
    let db = world.open(options);
    let found = contents(&db);
    assert!(
        found == known.acknowledged || Some(&found) == known.begun.as_ref(),
        "{} keys found, {} acknowledged",
        found.len(),
        known.acknowledged.len()
    );
    let crossed = cross_check(&disk, Path::new("/data"), &db.store().state()).unwrap();
    assert!(crossed.orphans.is_empty() && crossed.problems.is_empty(), "{crossed:?}");
    world.pass(Duration::from_secs(100));
    assert_eq!(contents(&db), found);
    check_shape(&db);
    db.close().unwrap();
}

/// Whether a compaction is writing: a table is there that is no part of the data.
fn is_of_a_table(moment: &Moment<'_>) -> bool {
    matches!(moment.op().kind, OpKind::Create | OpKind::Write | OpKind::Sync | OpKind::Remove)
        && moment.op().path.to_string_lossy().ends_with(".sst")
}

fn enumerate(compactions_max: usize, seed: u64, every: u64) {
    let (world, options, known) =
        (World::stepped(), options(compactions_max), Arc::<Mutex<Known>>::default());
    let met = Arc::<Mutex<Met>>::default();
    let (seen, watched, small) = (met.clone(), known.clone(), options.clone());
    world.disk.before_each(move |moment| {
        let n = moment.number();
        let mut met = seen.lock();
        // The directory is made first.
        if n < 20 || n % every != seed % every || met.failed.is_some() {
            return;
        }
        met.moments += 1;
        met.while_compacting += u64::from(is_of_a_table(moment));
        let survival = &survivals(n)[(n / every % 6) as usize];
        let (left, known) = (moment.crash_clone(survival), watched.lock().clone());
        // A panic here would unwind through the engine.
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(left, &small, &known)));
        if looked.is_err() {
            met.failed = Some(format!("power lost before operation {n}, {:?}: {survival:?}", moment.op()));
        }
    });
    let stats = workload(&world, &options, &known, seed);
    world.disk.unwatch();
    let met = met.lock();
    assert_eq!(met.failed, None, "{compactions_max} workers, seed {seed}");
    assert!(met.moments > 100 && met.while_compacting > 50, "{} moments", met.moments);
    if compactions_max > 1 {
        assert!(stats.running_max > 1, "{stats:?}");
    }
    look(world.disk.crash_clone(&Survival::Synced), &options, &known.lock());
}

#[test]
fn whatever_is_under_way_acknowledged_writes_stay() {
    for (compactions_max, seed) in [(1, 1), (2, 2), (3, 3), (4, 4)] {
        enumerate(compactions_max, seed, 7);
    }
}

/// Every operation; for a release.
#[test]
#[ignore = "takes minutes"]
fn at_every_operation_acknowledged_writes_stay() {
    for (compactions_max, seed) in [(2, 12), (4, 14)] {
        enumerate(compactions_max, seed, 1);
    }
}
