//! Values in memory: they are what the segments hold, whatever becomes of these.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kv_lsm::gc::GcOptions;
use kv_lsm::{Db, IterOptions, Options, ScanRange, ValueCacheStats};
use kv_manifest::names;
use kv_vfs::{MemVfs, Vfs};
use kv_vlog::Compression;

use crate::world::{contents, fill, open_with, small};

const KEY: &[u8] = b"key0003";

fn cached() -> Options {
    let gc = GcOptions { automatic: false, ..GcOptions::default() };
    let compression = Compression { level: None, bytes_min: 0 };
    Options { gc, compression, value_cache_bytes: 1 << 20, ..small() }
}

/// A database whose values are all on the disk.
fn filled(options: Options) -> (MemVfs, Db) {
    let disk = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    let db = open_with(&vfs, "/data", options).unwrap();
    fill(&db, 90);
    db.compact_range(&ScanRange::default()).unwrap();
    (disk, db)
}

fn stats(db: &Db) -> ValueCacheStats {
    db.stats().unwrap().value_cache
}

/// Damages every long value.
fn damage(disk: &MemVfs, db: &Db) {
    for line in db.store().segments().unwrap() {
        let path = Path::new("/data").join(names::segment_name(line.file));
        for at in (4096..line.bytes).step_by(1000) {
            disk.corrupt(&path, at, 1).unwrap();
        }
    }
}

fn walk(db: &Db, fill_cache: bool, read_ahead: usize) -> usize {
    let options = IterOptions { fill_cache, read_ahead, ..IterOptions::default() };
    db.iter(options).entries().map(Result::unwrap).count()
}

#[test]
fn what_was_read_is_not_read_again() {
    let (_disk, db) = filled(cached());
    assert_eq!(stats(&db), ValueCacheStats { bytes_max: 1 << 20, ..ValueCacheStats::default() });
    let first = db.get(KEY).unwrap();
    let read = db.stats().unwrap().reads.values;
    assert_eq!(db.get(KEY).unwrap(), first);
    assert_eq!(db.snapshot().get(KEY, None).unwrap(), first);
    assert_eq!(db.multi_get(&[KEY]).unwrap(), std::slice::from_ref(&first));
    assert_eq!(db.get_range(KEY, 2990, 100).unwrap().unwrap().value, vec![3; 10]);
    assert_eq!(db.stats().unwrap().reads.values, read, "none of these went to the segment");
    let found = stats(&db);
    assert_eq!((found.hits, found.misses, found.values), (4, 1, 1));
    assert!(found.bytes >= 3000 && found.bytes < 4000, "{found:?}");
    // Short values lie beside their keys, and have no place here.
    db.get(b"key0001").unwrap().unwrap();
    assert_eq!(stats(&db), found);
    db.close().unwrap();
}

#[test]
fn without_a_size_nothing_is_kept() {
    let (_disk, db) = filled(Options { value_cache_bytes: 0, ..cached() });
    for _ in 0..3 {
        db.get(KEY).unwrap().unwrap();
    }
    assert_eq!(stats(&db), ValueCacheStats::default());
    assert_eq!(db.stats().unwrap().reads.values, 3);
    db.close().unwrap();
}

#[test]
fn a_part_does_not_bring_the_whole_in() {
    let (_disk, db) = filled(cached());
    db.get_range(KEY, 0, 10).unwrap().unwrap();
    assert_eq!((stats(&db).values, stats(&db).misses), (0, 1));
    assert_eq!(db.get_range(KEY, 0, u64::MAX).unwrap().unwrap().value.len(), 3000);
    assert_eq!((stats(&db).values, stats(&db).misses), (1, 2), "that was all of it");
    db.close().unwrap();
}

/// An iterator that is not to fill caches, a scan, an export and a verification leave this one as it is; others fill it.
#[test]
fn who_goes_over_everything_once_leaves_it_alone() {
    let (_disk, db) = filled(cached());
    for read_ahead in [0, 4] {
        assert_eq!(walk(&db, false, read_ahead), 90);
    }
    for item in db.scan(ScanRange::default()).unwrap().map(Result::unwrap) {
        db.store().value(&item.key, item.revision, &item.slot, None).unwrap();
    }
    db.verify().unwrap();
    db.compact_range(&ScanRange::default()).unwrap();
    assert_eq!(stats(&db).values, 0);
    assert_eq!(walk(&db, true, 4), 90);
    assert_eq!(stats(&db).values, 30);
    db.close().unwrap();
}

/// Broken by: a verification that looks into memory. The disk is damaged, the cache is right, and each says so.
#[test]
fn a_verification_goes_past_it_and_nothing_damaged_comes_in() {
    let (disk, db) = filled(cached());
    let whole = db.get(KEY).unwrap();
    damage(&disk, &db);
    assert_eq!(db.get(KEY).unwrap(), whole);
    assert_eq!(db.get_range(KEY, 0, 3).unwrap().unwrap().value, vec![3; 3]);
    assert!(db.verify().unwrap_err().is_damage());
    assert!(db.get(b"key0006").unwrap_err().is_damage());
    assert!(db.get(b"key0006").unwrap_err().is_damage(), "it was not kept");
    assert_eq!(stats(&db).values, 1);
}

/// Values move, segments go, keys are written anew; every moment keeps what it was.
#[test]
fn it_stays_right_through_collections_and_overwrites() {
    let (_disk, db) = filled(cached());
    assert_eq!(walk(&db, true, 0), 90);
    let (snapshot, before) = (db.snapshot(), contents(&db));
    for n in (0..90).step_by(2) {
        db.put(format!("key{n:04}").as_bytes(), vec![0xee; 2000]).unwrap();
    }
    db.delete(KEY).unwrap();
    db.compact_range(&ScanRange::default()).unwrap();
    assert!(!db.store().gc_run().unwrap().is_empty());
    let now = contents(&db);
    assert_eq!(now.values().filter(|value| **value == vec![0xee; 2000]).count(), 45);
    for (key, value) in &before {
        assert_eq!(snapshot.get(key, None).unwrap().unwrap().value, value);
        assert_eq!(db.get(key).unwrap().map(|found| found.value).as_ref(), now.get(key));
    }
    drop(snapshot);
    db.compact_range(&ScanRange::default()).unwrap();
    db.store().gc_run().unwrap();
    assert_eq!(contents(&db), now);
    db.close().unwrap();
}

/// Threads that read and overwrite the same few keys; what is read of a version is its value.
#[test]
fn readers_and_writers_share_it() {
    let (_disk, db) = filled(Options { value_cache_bytes: 512 << 10, ..cached() });
    let value = |n: u8| Bytes::from(vec![n; 2000]);
    std::thread::scope(|scope| {
        for key in [b"a", b"b"] {
            let db = &db;
            scope.spawn(move || (0..100).for_each(|n| _ = db.put(key, value(n)).unwrap()));
            scope.spawn(move || {
                let mut last = 0;
                while last < 99 {
                    if let Some(found) = db.get(key).unwrap() {
                        let first = *found.value.first().unwrap();
                        assert!(first >= last && found.value == value(first));
                        last = first;
                    }
                }
            });
        }
    });
    assert!(stats(&db).values > 0);
    db.close().unwrap();
}
