//! A small directory with every kind of file, closed cleanly.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_lsm::gc::{Standing, files};
use kv_lsm::{NewStore, Options, Store};
use kv_manifest::names::{self, FileName};
use kv_vfs::{MemVfs, Survival, Vfs};
use kv_vlog::{
    Compression, Entry, Expiry, LogState, LogTime, Op, OpValue, Payload, Position, StoredValue, Vote, seq_of,
};

use crate::dice::{Dice, key};
use crate::node::{Contents, contents, records_of};
use crate::world::{Life, dir, options, shared};

/// See the module.
#[derive(Debug)]
pub struct Fixture {
    disk: MemVfs,
    ours: NewStore,
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// What must be read.
    pub(super) contents: Contents,
    pub(super) entries: Vec<Entry>,
    pub(super) vote: Option<Vote>,
    pub(super) state: LogState,
}

/// Entries of each life of the fixture; their sum is small, so that all bits can be tried.
const ENTRIES: [u64; 3] = [7, 9, 5];

impl Fixture {
    /// The fixture of one node; another number makes one of another cluster, with the same file names.
    #[must_use]
    pub fn new(number: u8) -> Self {
        let mut fixture = Self {
            disk: MemVfs::new(),
            ours: NewStore { cluster_id: [number; 16], node_id: 1, incarnation: number.into() },
            files: BTreeMap::new(),
            contents: Contents::new(),
            entries: Vec::new(),
            vote: None,
            state: LogState::default(),
        };
        let mut dice = Dice(number.into());
        for (life, count) in (0..).zip(ENTRIES) {
            let store = fixture.open(&fixture.disk).unwrap();
            if life == 1 {
                install(&store, &mut dice);
            }
            if life == 2 {
                collect(&store);
            }
            write(&store, &mut dice, count);
            store.close().unwrap();
        }
        let store = fixture.open(&fixture.disk).unwrap();
        let is_recycled = store.state().segments.values().any(|segment| segment.generation > 0);
        assert!(is_recycled, "no segment is in a file that held another one");
        fixture.contents = contents(&store).unwrap();
        let first = store.log().state().purged.map_or(0, |at| at.index + 1);
        fixture.entries = store.log().entries(first..u64::MAX, u64::MAX, true).unwrap();
        (fixture.vote, fixture.state) = (store.log().vote(), store.log().state());
        store.close().unwrap();
        let read = |path: PathBuf| (path.clone(), fixture.disk.read_file(&path).unwrap());
        fixture.files = fixture.disk.files().into_iter().map(read).collect();
        fixture
    }

    /// Opens the directory on this disk as its node does.
    pub(super) fn open(&self, disk: &MemVfs) -> Result<Arc<Store>, kv_lsm::StoreError> {
        let vfs: Arc<dyn Vfs> = shared(disk);
        kv_vfs::create_dir(&*vfs, dir())?;
        let life = Life::new(());
        let options = Options { memtable_entries_max: 1_000, memtable_bytes_max: 1 << 20, ..options() };
        Store::open(&life.environment(&vfs), dir(), options, Some(self.ours))
    }

    /// A disk with the directory.
    #[must_use]
    pub fn disk(&self) -> MemVfs {
        self.disk.crash_clone(&Survival::Everything)
    }

    /// All files.
    pub fn files(&self) -> impl Iterator<Item = (&PathBuf, &Vec<u8>)> {
        self.files.iter()
    }

    pub(super) fn bytes(&self, path: &Path) -> &[u8] {
        &self.files[path]
    }
}

fn write(store: &Store, dice: &mut Dice, count: u64) {
    let first = store.log().state().last.map_or(0, |at| at.index + 1);
    for index in first..first + count {
        let entry = crate::node::entry(Position { term: 1 + first / 4, index }, payload(dice, index));
        store.log().append(vec![entry], Box::new(|_| {})).unwrap();
        store.log().wait_durable().unwrap();
        store.log().set_committed(index + 1);
        for entry in store.log().entries(index..index + 1, 0, false).unwrap() {
            store.apply(&entry).unwrap();
        }
        if index % 5 == 4 {
            store.flush().unwrap();
        }
    }
    let vote = Vote { term: 1 + first, node: Some(2), committed: false };
    store.log().save_vote(vote, Box::new(|_| {})).unwrap();
}

/// A snapshot, so that there are segments of values, too: what is there, and more.
fn install(store: &Store, dice: &mut Dice) {
    let index = store.log().state().last.map_or(0, |at| at.index + 3);
    let mut all = contents(store).unwrap();
    for (number, length) in [(0, 3_000), (1, 50), (2, 1_200)] {
        // One that stays, and two that go away when nobody looks any more.
        let expires = if number == 0 { Expiry::NEVER } else { Expiry::at(LogTime::MAX) };
        all.insert(format!("sent{number}").into(), (seq_of(index, number), dice.bytes(length, 1), expires));
    }
    let mut receiver = store.receive().unwrap();
    records_of(&all).into_iter().for_each(|record| receiver.add(record).unwrap());
    let at = Position { term: 1 + index / 4, index };
    assert!(store.install(receiver, at, store.time(), store.membership()).unwrap());
}

/// Moves the values that the snapshot brought, so that there is a file with a remap, too.
fn collect(store: &Store) {
    let complete = files(&store.state()).into_iter().filter(|file| file.standing == Standing::Complete);
    let live: Vec<u64> = complete.filter(|file| file.live_values > 0).map(|file| file.file).collect();
    store.collect(&live).unwrap();
    assert!(store.state().segments.values().any(|segment| segment.remapped), "nothing was moved");
}

/// Each kind of value and of operation; incompressible ones are short.
fn payload(dice: &mut Dice, index: u64) -> Payload {
    let put = |number, value| {
        let (key, compression) = (key(number), Compression::default());
        let value = OpValue::Full(StoredValue::new(&key, value, &compression));
        Op::Put { key, value }
    };
    match index % 7 {
        0 => Payload::Membership(dice.bytes(40, 1)),
        1 => Payload::Ops(vec![put(index, dice.bytes(280_000, 70_000))]),
        2 => Payload::Ops(vec![Op::Delete { key: key(index / 2) }, put(1, dice.bytes(30, 1))]),
        3 => Payload::Ops(vec![put(index, dice.bytes(1_500, 1))]),
        4 => Payload::Ops(vec![put(index, dice.bytes(4_000, 100))]),
        5 => Payload::Blank,
        _ => Payload::Ops((0..4).map(|n| put(n + index, dice.bytes(100, 1))).collect()),
    }
}

/// What kind of file this is.
pub(super) fn kind_of(path: &Path) -> &'static str {
    match path.file_name().and_then(|name| name.to_str()).and_then(names::parse) {
        Some(FileName::Manifest(_)) => "manifest",
        Some(FileName::Segment(_)) => "segment",
        Some(FileName::Free(_)) => "free file",
        Some(FileName::Gone(_)) => "file that goes",
        Some(FileName::Table(_)) => "table",
        Some(FileName::Current) => "CURRENT",
        _ => "other",
    }
}
