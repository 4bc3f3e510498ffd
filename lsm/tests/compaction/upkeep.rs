//! What compaction does when nobody writes: idle stores, deadlines, demands.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kv_lsm::{Db, Options, ScanRange};
use kv_manifest::{Edit, Manifest};
use kv_vfs::Vfs;

use crate::world::*;

/// Large values, a little of which is in tables.
fn large() -> Options {
    Options {
        memtable_bytes_max: 64 << 10,
        memtable_entries_max: 64,
        log_flush_bytes_max: 256 << 10,
        l0_tables_max: 4,
        base_bytes: 256 << 10,
        level_multiplier: 10,
        table_bytes: 64 << 10,
        ..small()
    }
}

fn referenced(db: &Db) -> u64 {
    db.store().tables().iter().flat_map(|table| &table.refs).map(|refs| refs.bytes).sum()
}

fn entries(db: &Db) -> u64 {
    db.store().tables().iter().map(|table| table.entries).sum()
}

#[test]
fn an_idle_store_shows_its_garbage() {
    let (world, mut dice) = (World::stepped(), Dice(1));
    let idle_after = Duration::from_secs(30);
    // So much that what level 0 hides is not worth a merge before.
    let db = world.open(&Options { idle_after, base_bytes: 16 << 20, ..large() });
    const KEYS: u64 = 100;
    const BYTES: usize = 4000;
    for number in 0..20 * KEYS {
        let number = if number < KEYS { number } else { dice.below(KEYS) };
        write(&db, &[(key(number), Some(dice.value(&[BYTES])))]);
    }
    let live = KEYS * BYTES as u64;
    world.settle();
    assert!(referenced(&db) > live * 3 / 2, "{} of {live}: nothing to be seen here", referenced(&db));
    assert!(db.store().flushed() < db.store().applied());
    world.pass(idle_after - Duration::from_secs(1));
    assert!(db.store().flushed() < db.store().applied(), "not idle yet");
    world.pass(2 * idle_after + Duration::from_secs(2));
    assert_eq!(db.store().flushed(), db.store().applied());
    assert!(referenced(&db) <= live * 112 / 100, "{} bytes are referenced, {live} live", referenced(&db));
    let before = db.store().compaction_stats();
    world.pass(Duration::from_secs(3600));
    assert_eq!(db.store().compaction_stats(), before, "once is enough");
    db.close().unwrap();
}

#[test]
fn overwrites_are_compacted_while_writing_though_tables_are_small() {
    let (world, mut dice) = (World::stepped(), Dice(1));
    let db = world.open(&Options { idle_after: Duration::from_secs(1 << 30), ..large() });
    const KEYS: u64 = 50;
    for _ in 0..60 * KEYS {
        write(&db, &[(key(dice.below(KEYS)), Some(dice.value(&[4000])))]);
    }
    world.settle();
    let (live, bytes) = (KEYS * 4000, db.store().tables().iter().map(|table| table.bytes).sum::<u64>());
    assert!(bytes < 64 << 10, "tables of {bytes} bytes");
    // Four tables of level 0, each of 64 values, and a tenth.
    assert!(referenced(&db) < live * 11 / 10 + 4 * 64 * 4100, "{} bytes, {live} live", referenced(&db));
    db.close().unwrap();
}

#[test]
fn what_was_deleted_is_gone_in_time() {
    let within = Duration::from_secs(100);
    for reopened in [false, true] {
        let (world, mut dice) = (World::stepped(), Dice(2));
        let options =
            Options { erase_within: Some(within), idle_after: Duration::from_secs(1 << 30), ..large() };
        let mut db = world.open(&options);
        for number in 0..1000 {
            write(&db, &[(key(number), Some(dice.value(&[500])))]);
        }
        db.store().compact_range(&ScanRange::default()).unwrap();
        for number in 0..20 {
            write(&db, &[(key(number * 50), None)]);
        }
        if reopened {
            drop(db);
            db = world.open(&options);
        }
        world.settle();
        // How long they have been there is not known after a restart.
        assert_eq!(entries(&db) >= 1000, !reopened);
        world.pass(within / 2);
        // Others go on writing.
        for number in 2000..2003 {
            write(&db, &[(key(number), Some(dice.value(&[500])))]);
        }
        world.pass(within / 2);
        let tombstones: u64 = db.store().tables().iter().map(|table| table.tombstones).sum();
        assert_eq!(tombstones, 0);
        assert!(entries(&db) <= 983, "{}", entries(&db));
        db.close().unwrap();
    }
}

#[test]
fn without_a_deadline_a_tombstone_may_stay() {
    let (world, mut dice) = (World::stepped(), Dice(2));
    let db = world.open(&Options { idle_after: Duration::from_secs(1 << 30), ..large() });
    for number in 0..1000 {
        write(&db, &[(key(number), Some(dice.value(&[500])))]);
    }
    db.store().compact_range(&ScanRange::default()).unwrap();
    write(&db, &[(key(7), None)]);
    db.store().flush().unwrap();
    world.pass(Duration::from_secs(100_000));
    assert_eq!(entries(&db), 1001);
    db.close().unwrap();
}

#[test]
fn a_snapshot_that_is_closed_lets_its_versions_go() {
    let (world, mut dice) = (World::stepped(), Dice(4));
    let db = world.open(&large());
    for number in 0..400 {
        write(&db, &[(key(number), Some(dice.value(&[2000])))]);
    }
    let snapshot = db.snapshot();
    for number in 0..400 {
        write(&db, &[(key(number), None)]);
    }
    db.store().compact_range(&ScanRange::default()).unwrap();
    assert_eq!(entries(&db), 800);
    drop(snapshot);
    world.pass(Duration::from_secs(100));
    assert_eq!(entries(&db), 0);
    db.close().unwrap();
}

#[test]
fn compacting_a_range_leaves_the_others() {
    let (world, mut dice) = (World::stepped(), Dice(4));
    // Nothing by itself.
    let options = Options { l0_tables_max: 100, l0_tables_slow: 200, l0_tables_stop: 300, ..large() };
    let db = world.open(&options);
    for half in [0, 500] {
        for number in half..half + 200 {
            write(&db, &[(key(number), Some(dice.value(&[10])))]);
        }
        db.store().flush().unwrap();
    }
    db.store().compact_range(&ScanRange { from: key(600), to: None }).unwrap();
    let level = |number| {
        let key = key(number);
        let tables = db.store().tables();
        let mut levels = tables.iter().filter(|table| table.smallest <= key && key <= table.largest);
        levels.next().unwrap().level
    };
    assert_eq!(level(650), 6);
    db.store().compact_range(&ScanRange { from: key(800), to: None }).unwrap();
    db.store().compact_range(&ScanRange::default()).unwrap();
    assert_eq!((level(0), level(650)), (6, 6));
    db.close().unwrap();
}

#[test]
fn nobody_waits_for_a_compaction_that_fails() {
    let (world, mut dice) = (World::threaded(), Dice(4));
    let db = world.open(&large());
    for number in 0..100 {
        write(&db, &[(key(number % 10), Some(dice.value(&[10])))]);
    }
    db.store().flush().unwrap();
    let table = db.store().tables()[0].id;
    let path = Path::new("/data").join(kv_manifest::names::table_name(table));
    let mut bytes = world.disk.read_file(&path).unwrap();
    bytes[20] ^= 1;
    world.disk.write_file(&path, &bytes).unwrap();
    write(&db, &[(key(5), None)]);
    let refused = db.store().compact_range(&ScanRange::default());
    assert!(matches!(refused, Err(kv_lsm::StoreError::Poisoned { .. })), "{refused:?}");
    assert!(world.disk.exists(&path).unwrap());
    drop(db);
}

#[test]
fn writes_are_slowed_down_and_then_stopped() {
    let (world, mut dice) = (World::stepped(), Dice(4));
    let options = Options { l0_tables_slow: 3, l0_tables_stop: 5, compactions_max: 1, ..small() };
    let db = world.open(&options);
    assert_eq!(db.store().stall_stats(), kv_lsm::StallStats::default());
    for number in 0..4000 {
        write(&db, &[(key(dice.below(number + 1)), Some(dice.value(&[1000])))]);
        let level0 = db.store().tables().iter().filter(|table| table.level == 0).count();
        assert!(level0 <= 5 + options.memtables_waiting_max + 1, "{level0} tables of level 0");
    }
    let stats = db.store().stall_stats();
    assert!(stats.slowed > 0 && stats.stopped > 0, "{stats:?}");
    assert_eq!(stats.micros.iter().sum::<u64>(), stats.slowed + stats.stopped);
    assert!(stats.micros_max <= 100_000 && stats.micros_sum >= stats.slowed * 1000, "{stats:?}");
    db.close().unwrap();
}

/// As an earlier version of this program left it: all of what is not in level 0 is in level 1.
#[test]
fn a_directory_with_two_levels_goes_on() {
    let (world, mut dice, mut model) = (World::stepped(), Dice(9), Contents::new());
    let fill = |db: &Db, model: &mut Contents, dice: &mut Dice| {
        for _ in 0..400 {
            let (key, value) = (key(dice.below(300)), dice.value(&[50, 1500]));
            write(db, &[(key.clone(), Some(value.clone()))]);
            model.insert(key, value);
        }
    };
    let flat = Options { base_bytes: 1 << 40, ..small() };
    let db = world.open(&flat);
    fill(&db, &mut model, &mut dice);
    db.store().compact_range(&ScanRange::default()).unwrap();
    db.close().unwrap();
    let vfs: Arc<dyn Vfs> = Arc::new(world.disk.clone());
    let clock = Arc::new(kv_vfs::ManualClock::default());
    let mut manifest = Manifest::open(vfs, clock, Path::new("/data")).unwrap();
    let ids: Vec<u64> = manifest.state().tables.keys().copied().collect();
    manifest.append("test", ids.iter().map(|id| Edit::MoveTable { id: *id, level: 1 }).collect()).unwrap();
    drop(manifest);

    let db = world.open(&flat);
    assert!(ids.len() > 5 && db.store().tables().iter().all(|table| table.level == 1));
    assert_eq!(contents(&db), model);
    fill(&db, &mut model, &mut dice);
    assert_eq!(contents(&db), model);
    world.settle();
    assert!(db.store().tables().iter().all(|table| table.level == 0 || table.level == 6));
    assert_eq!(contents(&db), model);
    check_shape(&db);
    db.close().unwrap();
}
