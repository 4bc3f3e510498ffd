//! Writers, readers, snapshots and collections without pause, on threads; now and then the power goes and the store comes
//! back. `KV_FIRE_ROUNDS` says how often; 3 where it does not.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use bytes::Bytes;
use kv_lsm::gc::GcOptions;
use kv_lsm::{Db, Environment, Options, ScanRange, StoreError};
use kv_vfs::{MemVfs, Survival, SystemClock, ThreadExecutor, Vfs};

use crate::node::{self, dir, value, whole};

pub const WRITERS: u64 = 4;
/// Keys of each writer.
pub const KEYS: u64 = 40;
/// Writes of each writer in a round.
const WRITES: u64 = 500;

pub fn options() -> Options {
    let gc = GcOptions { age_min: std::time::Duration::ZERO, ..GcOptions::default() };
    Options {
        gc,
        segment_bytes: 256 << 10..=256 << 10,
        log_flush_bytes_max: 512 << 10,
        l0_tables_max: 2,
        group_bytes_max: 64 << 10,
        ..node::options()
    }
}

pub fn key(writer: u64, number: u64) -> Bytes {
    format!("{number:03}/{writer}").into()
}

/// What a writer writes last but `turn`: its key holds the turn in its first 8 bytes, so that any value that is read tells
/// which one it is.
pub fn contents(writer: u64, number: u64, turn: u64) -> Option<Bytes> {
    if turn % 11 == 10 {
        return None;
    }
    let rest = value(writer + WRITERS * (number + KEYS * turn), 700 + (turn * 977 % 9_000) as usize);
    Some([&turn.to_le_bytes()[..], &rest].concat().into())
}

pub fn turn_of(found: &Bytes) -> u64 {
    u64::from_le_bytes(*found.first_chunk().unwrap())
}

/// The newest turn that was begun and the newest one acknowledged, of each key.
#[derive(Default)]
pub struct Turns {
    pub begun: Vec<AtomicU64>,
    pub acknowledged: Vec<AtomicU64>,
}

impl Turns {
    pub fn new() -> Self {
        let zeros = || (0..WRITERS * KEYS).map(|_| AtomicU64::new(0)).collect();
        Self { begun: zeros(), acknowledged: zeros() }
    }
}

pub fn slot(writer: u64, number: u64) -> usize {
    (writer * KEYS + number) as usize
}

fn write(db: &Db, turns: &Turns, writer: u64, round: u64) {
    for n in 0..WRITES {
        write_one(db, turns, writer, (n * 7 + n / KEYS * writer + round) % KEYS);
    }
}

/// Writes the next turn of a key; says which.
pub fn write_one(db: &Db, turns: &Turns, writer: u64, number: u64) -> u64 {
    let slot = slot(writer, number);
    let turn = turns.begun[slot].fetch_add(1, Ordering::SeqCst) + 1;
    match contents(writer, number, turn) {
        Some(value) => drop(db.put(&key(writer, number), value).unwrap()),
        None => drop(db.delete(&key(writer, number)).unwrap()),
    }
    turns.acknowledged[slot].store(turn, Ordering::SeqCst);
    turn
}

/// Whether what was read of a key is one of the turns that may be there.
pub fn allow(found: Option<&Bytes>, writer: u64, number: u64, turns: Range<u64>) {
    match found {
        Some(found) => {
            let turn = turn_of(found);
            assert!((turns.start..=turns.end).contains(&turn), "turn {turn} of {turns:?}");
            assert!(
                Some(found) == contents(writer, number, turn).as_ref(),
                "another value than that of turn {turn}"
            );
        }
        None => {
            let is_gone = |turn: u64| turn == 0 || contents(writer, number, turn).is_none();
            assert!((turns.start..=turns.end).any(is_gone), "missing at {turns:?}");
        }
    }
}

pub fn read(db: &Db, turns: &Turns, seed: u64, stop: &AtomicBool) -> u64 {
    let mut reads = seed;
    while !stop.load(Ordering::SeqCst) {
        reads += 1;
        let (writer, number) = (reads % WRITERS, reads * 31 % KEYS);
        let slot = slot(writer, number);
        let from = turns.acknowledged[slot].load(Ordering::SeqCst);
        let found = db.get(&key(writer, number)).unwrap().map(|found| found.value);
        allow(found.as_ref(), writer, number, from..turns.begun[slot].load(Ordering::SeqCst));
    }
    reads - seed
}

/// A snapshot reads the same twice, with as much time between as the whole first scan takes.
pub fn look_twice(db: &Db, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        let snapshot = db.store().snapshot();
        let all = || -> BTreeMap<Bytes, (u64, Bytes)> {
            let read = |item: Result<kv_lsm::ScanItem, StoreError>| {
                let item = item.unwrap();
                let found = db.store().value(&item.key, item.revision, &item.slot, None).unwrap();
                (item.key, (found.revision, found.value))
            };
            snapshot.scan(ScanRange::default()).unwrap().map(read).collect()
        };
        let first = all();
        assert!(first == all());
    }
}

fn collect(db: &Db, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        match db.store().gc_run() {
            Ok(_) | Err(StoreError::Cancelled(_) | StoreError::Invalid(_)) => {}
            Err(error) => panic!("{error}"),
        }
        assert_eq!(db.store().gc_audit().unwrap(), []);
        if let Some(at) = db.store().purge_candidate(0) {
            db.store().purge(at).unwrap();
        }
    }
}

#[test]
fn nothing_is_wrong_missing_or_back_under_fire() {
    let rounds = std::env::var("KV_FIRE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3);
    let mut disk = MemVfs::new();
    let turns = Turns::new();
    let mut collected = 0;
    for round in 0..rounds {
        let db = open(&disk);
        for (writer, number) in (0..WRITERS).flat_map(|writer| (0..KEYS).map(move |number| (writer, number)))
        {
            let turn = turns.acknowledged[slot(writer, number)].load(Ordering::SeqCst);
            let found = db.get(&key(writer, number)).unwrap().map(|found| found.value);
            allow(found.as_ref(), writer, number, turn..turn);
        }
        let stop = AtomicBool::new(false);
        let left = thread::scope(|scope| {
            let (db, turns, stop) = (&db, &turns, &stop);
            let others = [
                scope.spawn(move || assert!(read(db, turns, 0, stop) > 0)),
                scope.spawn(move || assert!(read(db, turns, 1, stop) > 0)),
                scope.spawn(move || look_twice(db, stop)),
                scope.spawn(move || collect(db, stop)),
            ];
            let writers: Vec<_> =
                (0..WRITERS).map(|writer| scope.spawn(move || write(db, turns, writer, round))).collect();
            let written: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            // In the middle of whatever the others do.
            let left = disk.crash_clone(&Survival::Torn { sector: 512, seed: round });
            stop.store(true, Ordering::SeqCst);
            others.into_iter().for_each(|other| other.join().unwrap());
            written.into_iter().for_each(|writer| writer.unwrap());
            left
        });
        collected += db.store().collected().files;
        drop(db);
        disk = left;
        whole(&(Arc::new(disk.clone()) as Arc<dyn Vfs>));
    }
    assert!(collected > 0);
}

fn open(disk: &MemVfs) -> Db {
    let environment = Environment {
        vfs: Arc::new(disk.clone()),
        clock: Arc::new(SystemClock::default()),
        executor: Arc::new(ThreadExecutor),
    };
    Db::open_in(&environment, dir(), options()).unwrap()
}
