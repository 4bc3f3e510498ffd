//! A database in memory, on a stepped executor or on threads.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_lsm::{Db, Durability, Environment, Options, ScanRange, Snapshot, WriteBatch};
use kv_vfs::{ManualClock, MemVfs, SteppedExecutor, SystemClock, ThreadExecutor};

pub type Contents = BTreeMap<Bytes, Bytes>;

/// A disk and what runs on it.
pub struct World {
    pub disk: MemVfs,
    environment: Environment,
    stepped: Option<SteppedExecutor>,
}

impl World {
    pub fn stepped() -> Self {
        Self::on(MemVfs::new())
    }

    /// Stepped, on what is there.
    pub fn on(disk: MemVfs) -> Self {
        let clock = Arc::new(ManualClock::default());
        let executor = SteppedExecutor::new(clock.clone());
        let environment =
            Environment { vfs: Arc::new(disk.clone()), clock, executor: Arc::new(executor.clone()) };
        Self { disk, environment, stepped: Some(executor) }
    }

    pub fn threaded() -> Self {
        let (disk, clock) = (MemVfs::new(), Arc::new(SystemClock::default()));
        let environment =
            Environment { vfs: Arc::new(disk.clone()), clock, executor: Arc::new(ThreadExecutor) };
        Self { disk, environment, stepped: None }
    }

    pub fn open(&self, options: &Options) -> Db {
        Db::open_in(&self.environment, Path::new("/data"), options.clone()).unwrap()
    }

    /// Lets simulated time go by; threads have their own.
    pub fn pass(&self, time: Duration) {
        if let Some(executor) = &self.stepped {
            executor.advance(time);
        }
    }

    /// Does what can be done at this time.
    pub fn settle(&self) {
        self.pass(Duration::ZERO);
    }
}

/// So small that a few writes make many tables in many levels.
pub fn small() -> Options {
    Options {
        memtable_bytes_max: 4 << 10,
        log_flush_bytes_max: 256 << 10,
        segment_bytes: 64 << 10..=64 << 10,
        tail_cache_bytes: 16 << 10,
        l0_tables_max: 2,
        l0_tables_slow: 6,
        l0_tables_stop: 9,
        table_bytes: 1 << 10,
        base_bytes: 4 << 10,
        level_multiplier: 3,
        block_bytes: 256,
        ..Options::default()
    }
}

/// Numbers that look random and are the same each time.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % end
    }

    pub fn value(&mut self, lengths: &[usize]) -> Bytes {
        let length = lengths[self.below(lengths.len() as u64) as usize];
        (0..length).map(|_| self.below(256) as u8).collect::<Vec<_>>().into()
    }
}

pub fn key(number: u64) -> Bytes {
    format!("key{number:05}").into()
}

/// Writes without waiting for the disk.
pub fn write(db: &Db, changes: &[(Bytes, Option<Bytes>)]) {
    let mut batch = WriteBatch::default();
    for (key, value) in changes {
        match value {
            Some(value) => batch.put(key, value.clone()),
            None => batch.delete(key),
        };
    }
    batch.durability(Durability::Batched);
    db.write(batch).unwrap();
}

pub fn contents(db: &Db) -> Contents {
    let item = |item: Result<kv_lsm::ScanItem, _>| {
        let item = item.unwrap();
        let found = db.store().value(&item.key, item.revision, &item.slot, None).unwrap();
        (item.key.clone(), found.value)
    };
    db.scan(ScanRange::default()).unwrap().map(item).collect()
}

pub fn seen(db: &Db, snapshot: &Snapshot) -> Contents {
    let item = |item: Result<kv_lsm::ScanItem, _>| {
        let item = item.unwrap();
        let found = db.store().value(&item.key, item.revision, &item.slot, None).unwrap();
        assert_eq!(snapshot.get(&item.key, None).unwrap().as_ref(), Some(&found));
        (item.key.clone(), found.value)
    };
    snapshot.scan(ScanRange::default()).unwrap().map(item).collect()
}

/// Tables are as they must be: numbers unique, deeper levels disjoint, level 0 in disjoint spans of seqs.
pub fn check_shape(db: &Db) {
    let mut tables = db.store().tables();
    tables.sort_by(|a, b| (a.level, &a.smallest).cmp(&(b.level, &b.smallest)));
    for pair in tables.windows(2).filter(|pair| pair[0].level == pair[1].level && pair[0].level > 0) {
        assert!(pair[0].largest < pair[1].smallest, "{} and {} overlap", pair[0].id, pair[1].id);
    }
    let mut level0: Vec<_> = tables.iter().filter(|table| table.level == 0).collect();
    level0.sort_by_key(|table| table.seq_min);
    for pair in level0.windows(2) {
        assert!(pair[0].seq_max < pair[1].seq_min, "{} and {} share seqs", pair[0].id, pair[1].id);
    }
}
