//! Stores driven as a consensus library does it, on memory and a stepped executor.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_lsm::offline::{CheckReport, check};
use kv_lsm::{Environment, Export, ExportRecord, NewStore, Options, Receiver, ScanRange, Store, StoreError};
use kv_manifest::cross_check;
use kv_vfs::{Executor, ManualClock, MemVfs, SteppedExecutor, SystemClock, ThreadExecutor, Vfs};
use kv_vlog::{Compression, Entry, Op, OpValue, Payload, Position, StoredValue};

pub type Contents = BTreeMap<Bytes, Bytes>;
/// A change: a new value, or none.
pub type Change = (Bytes, Option<Bytes>);

pub fn dir() -> &'static Path {
    Path::new("/data")
}

pub fn at(term: u64, index: u64) -> Position {
    Position { term, index }
}

/// So small that a few writes flush, roll and compact.
pub fn options() -> Options {
    Options {
        memtable_bytes_max: 8 << 10,
        memtable_entries_max: 12,
        log_flush_bytes_max: 256 << 10,
        segment_bytes: 64 << 10..=64 << 10,
        group_bytes_max: 8 << 10,
        tail_cache_bytes: 16 << 10,
        l0_tables_max: 2,
        table_bytes: 512,
        block_bytes: 256,
        ..Options::default()
    }
}

/// A value of this length that no other seed has; every second one can be compressed.
pub fn value(seed: u64, length: usize) -> Bytes {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = if seed.is_multiple_of(2) { 1 } else { 64 };
    let mut bytes = Vec::with_capacity(length + step);
    while bytes.len() < length {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend(std::iter::repeat_n((x >> 56) as u8, step));
    }
    bytes.truncate(length);
    bytes.into()
}

pub fn key(number: u64) -> Bytes {
    format!("key{number}").into()
}

/// The change that a script makes at an index: inline, separated, in chunks, overwrites and deletions.
pub fn change(index: u64) -> Change {
    const LENGTHS: [usize; 8] = [100, 1 << 10, 0, 3_000, 1_500, 300_000, 40, 9_000];
    let pick = index.wrapping_mul(2_654_435_761) >> 7;
    let length = LENGTHS[(index % 8) as usize];
    (key(pick % 90), (!pick.is_multiple_of(5)).then(|| value(index, length)))
}

/// A disk, and what runs on it: one life of a process. The disk outlives it.
pub struct World {
    pub vfs: Arc<dyn Vfs>,
    environment: Environment,
    pub executor: Option<SteppedExecutor>,
}

impl World {
    pub fn stepped(vfs: Arc<dyn Vfs>) -> Self {
        let clock = Arc::new(ManualClock::default());
        let executor = SteppedExecutor::new(clock.clone());
        let environment = Environment { vfs: vfs.clone(), clock, executor: Arc::new(executor.clone()) };
        Self { vfs, environment, executor: Some(executor) }
    }

    pub fn threaded(vfs: Arc<dyn Vfs>) -> Self {
        let executor: Arc<dyn Executor> = Arc::new(ThreadExecutor);
        let clock = Arc::new(SystemClock::default());
        let environment = Environment { vfs: vfs.clone(), clock, executor };
        Self { vfs, environment, executor: None }
    }

    pub fn open(&self) -> Result<Node, StoreError> {
        self.open_with(options())
    }

    pub fn open_with(&self, options: Options) -> Result<Node, StoreError> {
        self.vfs.create_dir_all(dir())?;
        self.vfs.sync_dir(Path::new("/"))?;
        let new = NewStore { cluster_id: [7; 16], node_id: 1, incarnation: 3 };
        let store = Store::open(&self.environment, dir(), options, Some(new))?;
        for entry in store.take_uncommitted() {
            store.apply(&entry)?;
        }
        Ok(Node { store })
    }

    /// Lets background work go on, and the log name its end.
    pub fn pass(&self) {
        self.executor.as_ref().unwrap().advance(Duration::from_millis(100));
    }
}

pub fn memory() -> (MemVfs, World) {
    let disk = MemVfs::new();
    let world = World::stepped(Arc::new(disk.clone()));
    (disk, world)
}

/// A store, and how it is written.
pub struct Node {
    pub store: Arc<Store>,
}

impl Node {
    pub fn last(&self) -> u64 {
        self.store.log().state().last.map_or(0, |last| last.index)
    }

    /// Appends, durably.
    pub fn append(&self, term: u64, payload: Payload) -> Result<Position, StoreError> {
        let at = at(term, self.last() + 1);
        self.store.log().append(vec![Entry { at, time: 0, payload }], Box::new(|_| {}))?;
        self.store.log().wait_durable()?;
        Ok(at)
    }

    /// Commits and applies everything up to here.
    pub fn apply(&self, to: u64) -> Result<(), StoreError> {
        self.store.log().set_committed(to + 1);
        let from = self.store.applied().map_or(1, |at| at.index + 1);
        for index in from..=to {
            for entry in self.store.log().entries(index..index + 1, 0, false)? {
                self.store.apply(&entry)?;
            }
        }
        Ok(())
    }

    pub fn write(&self, term: u64, changes: &[Change]) -> Result<Position, StoreError> {
        let at = self.append(term, ops(changes))?;
        self.apply(at.index)?;
        Ok(at)
    }

    /// Writes the script's changes from here to there.
    pub fn script(&self, term: u64, to: u64) {
        while self.last() < to {
            self.write(term, &[change(self.last() + 1)]).unwrap();
        }
    }

    pub fn contents(&self) -> Contents {
        contents(&self.store, self.store.scan(ScanRange::default()).unwrap())
    }
}

pub fn ops(changes: &[Change]) -> Payload {
    let op = |(key, value): &Change| match value {
        Some(value) => {
            let stored = StoredValue::new(key, value.clone(), &Compression::default());
            Op::Put { key: key.clone(), value: OpValue::Full(stored) }
        }
        None => Op::Delete { key: key.clone() },
    };
    Payload::Ops(changes.iter().map(op).collect())
}

/// What the script has made at an index.
pub fn model(to: u64) -> Contents {
    let mut model = Contents::new();
    for index in 1..=to {
        match change(index) {
            (key, Some(value)) => drop(model.insert(key, value)),
            (key, None) => drop(model.remove(&key)),
        }
    }
    model
}

pub fn contents(store: &Store, scan: kv_lsm::Scan) -> Contents {
    let read = |item: Result<kv_lsm::ScanItem, StoreError>| {
        let item = item.unwrap();
        let value = store.value(&item.key, item.revision, &item.slot, None).unwrap().value;
        (item.key, value)
    };
    scan.map(read).collect()
}

/// All records of an export, in pages.
pub fn records(export: &Export, bytes_max: usize) -> Vec<ExportRecord> {
    let mut records: Vec<ExportRecord> = Vec::new();
    loop {
        let page = export.page(records.last().map(|last| &last.key), bytes_max).unwrap();
        let bytes: usize = page.iter().map(ExportRecord::bytes).sum();
        assert!(bytes <= bytes_max || page.len() == 1, "{} records of {bytes} bytes", page.len());
        if page.is_empty() {
            return records;
        }
        records.extend(page);
    }
}

pub fn receive(store: &Store, records: &[ExportRecord]) -> Result<Receiver, StoreError> {
    let mut receiver = store.receive()?;
    records.iter().try_for_each(|record| receiver.add(record.clone()))?;
    Ok(receiver)
}

/// Takes the whole state of another node; says whether it was news.
pub fn install(from: &Export, to: &Node) -> Result<bool, StoreError> {
    let receiver = receive(&to.store, &records(from, 64 << 10))?;
    to.store.install(receiver, from.at().unwrap(), from.time(), from.membership())
}

/// Checks a directory that is not open: everything in it is whole.
#[track_caller]
pub fn whole(vfs: &Arc<dyn Vfs>) -> CheckReport {
    let report = check(vfs, dir(), &|_| {}).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    report
}

/// Files in the directory that the running store does not know.
pub fn orphans(vfs: &dyn Vfs, store: &Store) -> Vec<String> {
    let check = cross_check(vfs, dir(), &store.state()).unwrap();
    assert!(check.problems.is_empty(), "{:?}", check.problems);
    check.orphans
}

/// The script's change, with a shorter value.
pub fn small(index: u64) -> Change {
    let (key, value) = change(index);
    (key, value.map(|value| value.slice(..value.len().min(2_600))))
}

/// What is there after so many of these changes.
pub fn small_model(to: u64) -> Contents {
    let mut model = Contents::new();
    for (key, value) in (1..=to).map(small) {
        match value {
            Some(value) => drop(model.insert(key, value)),
            None => drop(model.remove(&key)),
        }
    }
    model
}
