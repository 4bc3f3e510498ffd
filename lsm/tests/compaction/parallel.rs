//! Several compactions at once, and one in several parts.

use kv_lsm::{CompactionStats, Options, ScanRange, WriteBatch};

use crate::world::*;

/// Overwrites random keys until compaction has had enough to do.
fn churn(options: Options) -> CompactionStats {
    let (world, mut dice, mut model) = (World::stepped(), Dice(3), Contents::new());
    let db = world.open(&options);
    for _ in 0..3000 {
        let (key, value) = (key(dice.below(2000)), dice.value(&[100, 300]));
        write(&db, &[(key.clone(), Some(value.clone()))]);
        model.insert(key, value);
        if dice.below(20) == 0 {
            check_shape(&db);
        }
    }
    let stats = db.store().compaction_stats();
    assert_eq!(contents(&db), model);
    db.close().unwrap();
    stats
}

#[test]
fn two_compactions_run_at_once() {
    let one = churn(Options { compactions_max: 1, ..small() });
    assert_eq!((one.running_max, one.parts_max), (1, 1));
    let two = churn(Options { compactions_max: 2, ..small() });
    assert_eq!(two.running_max, 2);
    let four = churn(Options { compactions_max: 4, ..small() });
    assert!(four.running_max >= 3 && four.parts_max >= 3, "{four:?}");
}

#[test]
fn a_large_compaction_is_cut_into_parts_that_are_recorded_together() {
    let (world, mut dice) = (World::stepped(), Dice(5));
    let options = Options { compactions_max: 4, l0_tables_max: 8, base_bytes: 1 << 30, ..small() };
    let db = world.open(&options);
    let mut model = Contents::new();
    for round in 0..2 {
        for number in 0..1000 {
            let value = dice.value(&[100]);
            write(&db, &[(key(number), Some(value.clone()))]);
            model.insert(key(number), value);
        }
        db.store().compact_range(&ScanRange::default()).unwrap();
        world.settle();
        let levels: Vec<_> = db.store().tables().iter().map(|table| table.level).collect();
        assert!(levels.iter().all(|level| *level == 6) && levels.len() > 20, "round {round}: {levels:?}");
    }
    let stats = db.store().compaction_stats();
    assert!(stats.parts > stats.merges && stats.parts_max == 4, "{stats:?}");
    assert_eq!(contents(&db), model);
    check_shape(&db);
    db.close().unwrap();
}

#[test]
fn versions_that_snapshots_see_pass_through_parts() {
    let (world, mut dice) = (World::stepped(), Dice(6));
    let db = world.open(&Options { compactions_max: 4, base_bytes: 1 << 30, ..small() });
    let (mut model, mut pinned) = (Contents::new(), Vec::new());
    for _ in 0..6 {
        for number in 0..400 {
            let value = (dice.below(5) > 0).then(|| dice.value(&[100]));
            write(&db, &[(key(number), value.clone())]);
            match value {
                Some(value) => drop(model.insert(key(number), value)),
                None => drop(model.remove(&key(number))),
            }
        }
        pinned.push((db.snapshot(), model.clone()));
        db.store().compact_range(&ScanRange::default()).unwrap();
        for (snapshot, model) in &pinned {
            assert_eq!(seen(&db, snapshot), *model);
        }
    }
    let stats = db.store().compaction_stats();
    assert!(stats.parts > stats.merges, "{stats:?}");
    let entries = |db: &kv_lsm::Db| db.store().tables().iter().map(|table| table.entries).sum::<u64>();
    assert!(entries(&db) > 1500, "{}", entries(&db));
    pinned.clear();
    db.store().compact_range(&ScanRange::default()).unwrap();
    assert_eq!(entries(&db), model.len() as u64, "what nobody sees goes");
    db.close().unwrap();
}

#[test]
fn level_0_is_merged_in_itself_while_the_way_down_is_taken() {
    const KEYS: u64 = 60_000;
    let (world, mut dice, mut model) = (World::stepped(), Dice(8), Contents::new());
    let base = Options { base_bytes: 1 << 40, table_bytes: 1 << 20, compactions_max: 2, ..small() };
    let db = world.open(&Options { memtable_bytes_max: 16 << 20, ..base.clone() });
    for first in (0..KEYS).step_by(1000) {
        let changes: Vec<_> = (first..first + 1000).map(|n| (key(n), Some(dice.value(&[5])))).collect();
        write(&db, &changes);
        model.extend(changes.into_iter().filter_map(|(key, value)| Some((key, value?))));
    }
    db.store().compact_range(&ScanRange::default()).unwrap();
    db.close().unwrap();

    // Each write fills a memtable; a merge of all the keys takes many of them.
    let options = Options { memtable_entries_max: 8, l0_tables_slow: 30, l0_tables_stop: 40, ..base };
    let db = world.open(&options);
    let mut most = 0;
    for _ in 0..80 {
        let mut batch = WriteBatch::default();
        for _ in 0..9 {
            let (key, value) = (key(dice.below(KEYS)), dice.value(&[7]));
            model.insert(key.clone(), value.clone());
            batch.put(&key, value);
        }
        db.write(batch).unwrap();
        check_shape(&db);
        most = most.max(db.store().tables().iter().filter(|table| table.level == 0).count());
    }
    let stats = db.store().compaction_stats();
    assert!(stats.within_level_0 > 0 && stats.running_max == 2, "{stats:?}");
    assert!(most < 20, "{most} tables of level 0");
    assert_eq!(contents(&db), model);
    world.settle();
    assert_eq!(contents(&db), model);
    db.close().unwrap();
}
