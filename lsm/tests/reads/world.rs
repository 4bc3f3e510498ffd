//! A small database on a disk in memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kv_lsm::{Db, Environment, Options, ScanRange, StoreError};
use kv_vfs::{ManualClock, SteppedExecutor, Vfs};

pub type Contents = BTreeMap<Bytes, Bytes>;

pub fn small() -> Options {
    Options {
        memtable_entries_max: 40,
        segment_bytes: 64 << 10..=64 << 10,
        table_bytes: 2 << 10,
        block_bytes: 256,
        partition_bytes: 64,
        block_cache_bytes: 0,
        tail_cache_bytes: 0,
        ..Options::default()
    }
}

pub fn open(vfs: &Arc<dyn Vfs>, dir: &str) -> Result<Db, StoreError> {
    open_with(vfs, dir, small())
}

pub fn open_with(vfs: &Arc<dyn Vfs>, dir: &str, options: Options) -> Result<Db, StoreError> {
    let clock = Arc::new(ManualClock::default());
    let executor = Arc::new(SteppedExecutor::new(clock.clone()));
    Db::open_in(&Environment { vfs: vfs.clone(), clock, executor }, Path::new(dir), options)
}

/// Writes keys from `0` to `count`, short and long values.
pub fn fill(db: &Db, count: usize) -> Contents {
    let pair = |n: usize| {
        let length = if n.is_multiple_of(3) { 3_000 } else { 20 };
        (Bytes::from(format!("key{n:04}")), Bytes::from(vec![n as u8; length]))
    };
    let contents: Contents = (0..count).map(pair).collect();
    for (key, value) in &contents {
        db.put(key, value.clone()).unwrap();
    }
    contents
}

pub fn contents(db: &Db) -> Contents {
    let keys = db.scan(ScanRange::default()).unwrap().map(|item| item.unwrap().key);
    keys.map(|key| (key.clone(), db.get(&key).unwrap().unwrap().value)).collect()
}
