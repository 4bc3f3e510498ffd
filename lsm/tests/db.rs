//! The embedded database on the real disk.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test helpers may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kv_lsm::{Applied, Db, Durability, Options, ScanRange, StoreError, WriteBatch};
use kv_vlog::Expect;

fn small() -> Options {
    Options {
        memtable_bytes_max: 32 << 10,
        log_flush_bytes_max: 512 << 10,
        segment_bytes: 64 << 10..=256 << 10,
        table_bytes: 16 << 10,
        ..Options::default()
    }
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % below
    }

    fn value(&mut self) -> Bytes {
        let len = [0, 5, 900, 1500, 20_000][self.next(5) as usize];
        (0..len).map(|_| self.next(256) as u8).collect::<Vec<_>>().into()
    }
}

fn contents(db: &Db) -> BTreeMap<Bytes, Bytes> {
    let items = db.scan(ScanRange::default()).unwrap().map(Result::unwrap);
    let read = |key: &Bytes| db.get(key).unwrap().unwrap().value;
    items.map(|item| (item.key.clone(), read(&item.key))).collect()
}

#[test]
fn answers_like_a_map_through_flushes_compactions_kills_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (mut model, mut dice) = (BTreeMap::new(), Dice(1));
    for round in 0..6 {
        let db = Db::open(dir.path(), small()).unwrap();
        assert_eq!(contents(&db), model, "round {round}");
        for _ in 0..600 {
            let key = Bytes::from(format!("key{:03}", dice.next(150)));
            if dice.next(4) == 0 {
                db.delete(&key).unwrap();
                model.remove(&key);
            } else {
                let value = dice.value();
                db.put(&key, value.clone()).unwrap();
                model.insert(key, value);
            }
        }
        assert_eq!(contents(&db), model, "round {round}");
        if round % 2 == 0 {
            db.close().unwrap();
        } else {
            drop(db); // as a kill: nothing is flushed or sealed
        }
    }
    let db = Db::open(dir.path(), small()).unwrap();
    let levels = db.store().tables().iter().map(|table| table.level).max();
    assert_eq!(levels, Some(6), "nothing was compacted");
    db.close().unwrap();
}

#[test]
fn a_snapshot_sees_its_moment_through_compactions() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    for n in 0..200 {
        db.put(format!("{n:03}").as_bytes(), vec![1; 2000]).unwrap();
    }
    let snapshot = db.snapshot();
    for round in 2..6 {
        for n in 0..200 {
            db.put(format!("{n:03}").as_bytes(), vec![round; 2000]).unwrap();
        }
        db.store().flush().unwrap();
    }
    db.delete(b"007").unwrap();
    assert_eq!(snapshot.get(b"007", None).unwrap().unwrap().value, vec![1; 2000]);
    assert_eq!(snapshot.scan(ScanRange::prefix(b"00")).unwrap().count(), 10);
    assert_eq!(db.scan(ScanRange::prefix(b"00")).unwrap().count(), 9);
    assert_eq!(db.get_range(b"008", 1990, 100).unwrap().unwrap().value, vec![5; 10]);
    drop(snapshot);
    db.close().unwrap();
}

#[test]
fn checks_guard_a_batch_whole() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    let create = || {
        let mut batch = WriteBatch::default();
        batch.check(b"a", Expect::Absent).put(b"a", "1").put(b"b", "1").durability(Durability::Batched);
        batch
    };
    let Applied::Done { revision } = db.write(create()).unwrap() else { panic!() };
    assert_eq!(db.get(b"a").unwrap().unwrap().revision, revision);
    assert_eq!(db.write(create()).unwrap(), Applied::Refused { check: 0, current: Some(revision) });
    let mut update = WriteBatch::default();
    update.check(b"a", Expect::Seq(revision)).delete(b"a").put(b"b", "2");
    assert!(matches!(db.write(update.clone()).unwrap(), Applied::Done { .. }));
    assert_eq!(db.write(update).unwrap(), Applied::Refused { check: 0, current: None });
    assert_eq!(db.get(b"b").unwrap().unwrap().value, "2");
    db.close().unwrap();
}

#[test]
fn writers_share_syncs_and_all_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let db = Arc::new(Db::open(dir.path(), small()).unwrap());
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let db = db.clone();
            std::thread::spawn(move || {
                for n in 0..100 {
                    db.put(format!("{writer}-{n:03}").as_bytes(), vec![writer; 100 * n]).unwrap();
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    drop(db);
    let db = Db::open(dir.path(), small()).unwrap();
    for writer in 0..8u8 {
        for n in 0..100 {
            let found = db.get(format!("{writer}-{n:03}").as_bytes()).unwrap().unwrap();
            assert_eq!(found.value, vec![writer; 100 * n]);
        }
    }
    db.close().unwrap();
}

#[test]
fn a_second_process_is_told_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let _db = Db::open(dir.path(), Options::default()).unwrap();
    let error = Db::open(dir.path(), Options::default()).unwrap_err();
    assert!(matches!(&error, StoreError::Invalid(why) if why.contains("in use by pid")), "{error}");
}
