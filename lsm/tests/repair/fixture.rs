//! Directories to damage, and what was in them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use kv_lsm::gc::GcOptions;
use kv_lsm::key::Slot;
use kv_lsm::offline::{CheckReport, check};
use kv_lsm::repair::{RepairOptions, RepairReport, repair};
use kv_lsm::{Db, Durability, Environment, Options, ScanRange, StoreError, WriteBatch};
use kv_manifest::{Reading, SegmentKind, SegmentState};
use kv_vfs::{ManualClock, RealVfs, SteppedExecutor, Vfs};
use tempfile::TempDir;

pub fn small() -> Options {
    Options {
        memtable_bytes_max: 32 << 10,
        log_flush_bytes_max: 512 << 10,
        segment_bytes: 64 << 10..=256 << 10,
        table_bytes: 4 << 10,
        gc: GcOptions { automatic: false, ..GcOptions::default() },
        ..Options::default()
    }
}

/// The real disk, with time that passes when it is told to.
pub fn stepped() -> (Environment, SteppedExecutor) {
    let clock = Arc::new(ManualClock::default());
    let executor = SteppedExecutor::new(clock.clone());
    (Environment { vfs: Arc::new(RealVfs), clock, executor: Arc::new(executor.clone()) }, executor)
}

/// A key's newest version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub revision: u64,
    pub value: Bytes,
    /// Where it is, if it is not beside its key.
    pub segment: Option<u64>,
}

/// A directory, everything that was in it when it was left, and every version that ever was.
pub struct Fixture {
    pub dir: TempDir,
    pub contents: BTreeMap<Bytes, Known>,
    pub versions: BTreeMap<(Bytes, u64), Bytes>,
}

impl Fixture {
    /// Puts, overwrites and deletes, with compactions and collections; then closed, or killed with a part of it in
    /// the log only.
    pub fn make(collected: bool, closed: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (environment, executor) = stepped();
        let mut versions = BTreeMap::new();
        let db = Db::open_in(&environment, dir.path(), small()).unwrap();
        work(&db, 0..5, &mut versions);
        db.store().flush().unwrap();
        if collected {
            db.store().compact_range(&ScanRange::default()).unwrap();
            db.store().purge(db.store().purge_candidate(0).unwrap()).unwrap();
            assert!(!db.store().gc_run().unwrap().is_empty());
        }
        work(&db, 5..8, &mut versions);
        db.store().flush().unwrap();
        work(&db, 8..9, &mut versions);
        let contents = contents(&db);
        if closed {
            db.close().unwrap();
        } else {
            executor.advance(Duration::from_secs(1)); // an idle log names its last entries as committed
            drop(db);
        }
        Self { dir, contents, versions }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn manifest(&self) -> Reading {
        kv_manifest::read(&RealVfs, self.path()).unwrap()
    }

    /// A directory with the same files, to damage.
    pub fn copy(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(self.path()).unwrap().map(Result::unwrap) {
            fs::hard_link(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
        dir
    }

    /// The complete segment to whose file most keys lead, of this kind.
    pub fn segment(&self, kind: SegmentKind) -> SegmentState {
        let state = self.manifest().state;
        let keys = |segment: &SegmentState| self.keys_in(&state, segment.file).len();
        let complete =
            state.segments.values().filter(|s| s.kind == kind && s.sealed.is_some() && !s.remapped);
        complete.max_by_key(|segment| keys(segment)).unwrap().clone()
    }

    /// Keys whose values are in this file.
    pub fn keys_in(&self, state: &kv_manifest::State, file: u64) -> Vec<Bytes> {
        let is_in =
            |known: &Known| known.segment.is_some_and(|segment| state.segments[&segment].file == file);
        self.contents.iter().filter(|(_, known)| is_in(known)).map(|(key, _)| key.clone()).collect()
    }
}

/// Some values inline, some separated, some compressible; some keys deleted.
pub fn work(db: &Db, rounds: std::ops::Range<u32>, versions: &mut BTreeMap<(Bytes, u64), Bytes>) {
    for round in rounds {
        // Later rounds leave some keys as they are.
        for n in (0..120u32).filter(|n| round < 5 || n % 4 < 2) {
            let key = Bytes::from(format!("key{:03}", n * 7 % 120));
            let mut noise = u64::from(round * 1000 + n) | 1;
            let mut byte = || {
                noise = noise.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (noise >> 56) as u8
            };
            let len = [3, 6000, 400, 1500][(n % 4) as usize];
            let mut batch = WriteBatch::default();
            let value: Vec<u8> =
                if (n + round) % 9 == 1 { vec![7; len] } else { (0..len).map(|_| byte()).collect() };
            let deletes = (n + round) % 9 == 0;
            if deletes {
                batch.delete(&key)
            } else {
                batch.put(&key, value.clone())
            };
            batch.durability(if n % 20 == 19 { Durability::Sync } else { Durability::Batched });
            db.write(batch).unwrap();
            if let Some(found) = db.get(&key).unwrap() {
                assert!(!deletes);
                versions.insert((key, found.revision), value.into());
            }
        }
    }
}

pub fn contents(db: &Db) -> BTreeMap<Bytes, Known> {
    let known = |item: kv_lsm::ScanItem| {
        let segment = match &item.slot {
            Slot::Pointer(at, _) => Some(at.segment),
            _ => None,
        };
        let value = db.get(&item.key).unwrap().unwrap().value;
        (item.key.clone(), Known { revision: item.revision, value, segment })
    };
    db.scan(ScanRange::default()).unwrap().map(Result::unwrap).map(known).collect()
}

pub fn look(dir: &Path) -> Result<CheckReport, StoreError> {
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    check(&vfs, dir, &|_| {})
}

pub fn listing(dir: &Path) -> Vec<(PathBuf, u64, SystemTime)> {
    let entry = |entry: fs::DirEntry| {
        let meta = entry.metadata().unwrap();
        (entry.path(), meta.len(), meta.modified().unwrap())
    };
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|e| entry(e.unwrap())).collect();
    files.sort();
    files
}

/// A repaired directory.
pub struct Repaired {
    _home: TempDir,
    pub path: PathBuf,
    pub report: RepairReport,
    pub contents: BTreeMap<Bytes, Known>,
}

/// Repairs, and makes sure that the old directory is as it was, and that the new one is whole and can be used.
pub fn repaired(dir: &Path, options: RepairOptions) -> Repaired {
    let before = listing(dir);
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("new");
    let (environment, _executor) = stepped();
    let report =
        repair(&environment, dir, &path, RepairOptions { store: small(), ..options }, &|_| {}).unwrap();
    assert_eq!(listing(dir), before, "the damaged directory was touched");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "something was left beside the new directory");
    let looked = look(&path).unwrap();
    assert!(looked.problems.is_empty() && looked.notes.is_empty(), "{looked:?}");
    assert_eq!((looked.keys, looked.value_bytes), (report.keys, report.value_bytes));
    if report.applied.is_some() {
        assert_eq!(
            (looked.content_hash, looked.applied),
            (Some(report.content_hash.clone()), report.applied)
        );
    }
    let (environment, _executor) = stepped();
    let db = Db::open_in(&environment, &path, small()).unwrap();
    db.verify().unwrap();
    let found = contents(&db);
    assert_eq!(found.len() as u64, report.keys);
    // A write after that is newer than all there is.
    let newest = found.values().map(|known| known.revision).max().unwrap_or_default();
    db.put(b"after", "repair").unwrap();
    assert!(db.get(b"after").unwrap().unwrap().revision > newest);
    db.close().unwrap();
    assert!(look(&path).unwrap().problems.is_empty());
    Repaired { _home: home, path, report, contents: found }
}

/// Without where the values are.
pub fn values(contents: &BTreeMap<Bytes, Known>) -> BTreeMap<Bytes, (u64, Bytes)> {
    contents.iter().map(|(key, known)| (key.clone(), (known.revision, known.value.clone()))).collect()
}

/// Replaces a file, whose bytes other directories share.
pub fn replace(file: &Path, bytes: &[u8]) {
    fs::remove_file(file).unwrap();
    fs::write(file, bytes).unwrap();
}

pub fn flip(file: &Path, at: u64) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at as usize] ^= 0x10;
    replace(file, &bytes);
}

pub fn cut(file: &Path, to: u64) {
    let bytes = fs::read(file).unwrap();
    replace(file, &bytes[..to as usize]);
}

pub fn swap(dir: &Path, a: &str, b: &str) {
    fs::rename(dir.join(a), dir.join("aside")).unwrap();
    fs::rename(dir.join(b), dir.join(a)).unwrap();
    fs::rename(dir.join("aside"), dir.join(b)).unwrap();
}
