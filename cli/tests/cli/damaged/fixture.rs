//! A directory to damage, and all that was ever in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kv_lsm::gc::GcOptions;
use kv_lsm::key::Slot;
use kv_lsm::{Db, Environment, Options, ScanRange};
use kv_manifest::{SegmentKind, SegmentState, State, names};
use kv_vfs::{ManualClock, RealVfs, SteppedExecutor};
use tempfile::TempDir;

const KEYS: u32 = 160;

/// Key and version to value.
pub type Versions = BTreeMap<(Bytes, u64), Bytes>;

/// A directory, and what was in it.
pub struct Old {
    pub dir: TempDir,
    /// Every version that ever was.
    pub versions: Versions,
    /// The newest version of each key, and the segment that its pointer names, if it is not beside its key.
    pub newest: BTreeMap<Bytes, (u64, Option<u64>)>,
}

fn options() -> Options {
    Options {
        memtable_bytes_max: 32 << 10,
        log_flush_bytes_max: 512 << 10,
        segment_bytes: 64 << 10..=256 << 10,
        table_bytes: 4 << 10,
        gc: GcOptions { automatic: false, ..GcOptions::default() },
        ..Options::default()
    }
}

/// Opens on the real disk; background work has its turns when somebody waits for it.
pub fn open(dir: &Path) -> Db {
    let clock = Arc::new(ManualClock::default());
    let executor = Arc::new(SteppedExecutor::new(clock.clone()));
    Db::open_in(&Environment { vfs: Arc::new(RealVfs), clock, executor }, dir, options()).unwrap()
}

/// Small and large values, overwrites and deletions, several tables, files that value GC has written, and log behind
/// them; closed.
pub fn make() -> Old {
    let dir = tempfile::tempdir().unwrap();
    let mut versions = Versions::new();
    let db = open(dir.path());
    write(&db, 0..5, &mut versions);
    let store = db.store();
    store.flush().unwrap();
    store.compact_range(&ScanRange::default()).unwrap();
    store.purge(store.purge_candidate(0).unwrap()).unwrap();
    assert!(!store.gc_run().unwrap().is_empty());
    write(&db, 5..8, &mut versions);
    store.flush().unwrap();
    let newest = contents(&db).into_iter().map(|(key, (revision, _, segment))| (key, (revision, segment)));
    let newest = newest.collect();
    db.close().unwrap();
    Old { dir, versions, newest }
}

fn write(db: &Db, rounds: std::ops::Range<u32>, versions: &mut Versions) {
    for round in rounds {
        // Later rounds leave some keys as they are.
        for n in (0..KEYS).filter(|n| round < 5 || n % 4 < 2) {
            let key = Bytes::from(format!("key{:03}", n * 7 % KEYS));
            if (n + round) % 9 == 0 {
                db.delete(&key).unwrap();
                continue;
            }
            let length = [3, 6000, 400, 1500][(n % 4) as usize];
            db.put(&key, noise(round * 1000 + n, length)).unwrap();
            let found = db.get(&key).unwrap().unwrap();
            versions.insert((key, found.revision), found.value);
        }
    }
}

/// Bytes that cannot be compressed.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut x = u64::from(seed) | 1 << 40;
    let mut byte = || {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 56) as u8
    };
    (0..length).map(|_| byte()).collect()
}

/// What is there: revision, value and, if it is not beside its key, the segment that is named.
pub fn contents(db: &Db) -> BTreeMap<Bytes, (u64, Bytes, Option<u64>)> {
    let known = |item: kv_lsm::ScanItem| {
        let segment = match &item.slot {
            Slot::Pointer(at, _) => Some(at.segment),
            _ => None,
        };
        let value = db.get(&item.key).unwrap().unwrap().value;
        (item.key, (item.revision, value, segment))
    };
    db.scan(ScanRange::default()).unwrap().map(Result::unwrap).map(known).collect()
}

impl Old {
    pub fn state(&self) -> State {
        kv_manifest::read(&RealVfs, self.dir.path()).unwrap().state
    }

    /// Name of the manifest.
    pub fn manifest(&self) -> String {
        kv_manifest::read(&RealVfs, self.dir.path()).unwrap().file
    }

    /// A directory with the same files, to damage.
    pub fn copy(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(self.dir.path()).unwrap().map(Result::unwrap) {
            if entry.file_name() != names::LOCK {
                fs::hard_link(entry.path(), dir.path().join(entry.file_name())).unwrap();
            }
        }
        dir
    }

    /// Complete segments of this kind that own their files; most keys first.
    pub fn segments(&self, kind: SegmentKind) -> Vec<SegmentState> {
        let state = self.state();
        let is_complete =
            |segment: &&SegmentState| segment.kind == kind && segment.sealed.is_some() && !segment.remapped;
        let mut found: Vec<_> = state.segments.values().filter(is_complete).cloned().collect();
        found.sort_by_key(|segment| std::cmp::Reverse(self.keys_in(segment.file).len()));
        found
    }

    /// The one with most keys.
    pub fn segment(&self, kind: SegmentKind) -> SegmentState {
        self.segments(kind).remove(0)
    }

    /// Keys whose values are in this file.
    pub fn keys_in(&self, file: u64) -> BTreeSet<Bytes> {
        let state = self.state();
        let is_in =
            |segment: &Option<u64>| segment.is_some_and(|segment| state.segments[&segment].file == file);
        let keys = self.newest.iter().filter(|(_, (_, segment))| is_in(segment));
        keys.map(|(key, _)| key.clone()).collect()
    }

    /// A key whose value is in the file, and where a part of the value stands there.
    pub fn value_in(&self, file: u64) -> (Bytes, u64) {
        let bytes = fs::read(self.dir.path().join(names::segment_name(file))).unwrap();
        let place = |key: Bytes| {
            let value = &self.versions[&(key.clone(), self.newest[&key].0)];
            let part = &value[1000..1064];
            let at = bytes.windows(part.len()).position(|window| window == part)?;
            Some((key, at as u64))
        };
        self.keys_in(file).into_iter().find_map(place).unwrap()
    }
}

/// Replaces a file, whose bytes other directories share.
pub fn replace(file: &Path, bytes: &[u8]) {
    fs::remove_file(file).unwrap();
    fs::write(file, bytes).unwrap();
}

pub fn flip(file: &Path, at: u64) {
    let mut bytes = fs::read(file).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= 0x10;
    replace(file, &bytes);
}

pub fn cut(file: &Path, to: u64) {
    let bytes = fs::read(file).unwrap();
    replace(file, &bytes[..usize::try_from(to).unwrap()]);
}

pub fn swap(dir: &Path, a: &str, b: &str) {
    fs::rename(dir.join(a), dir.join("aside")).unwrap();
    fs::rename(dir.join(b), dir.join(a)).unwrap();
    fs::rename(dir.join("aside"), dir.join(b)).unwrap();
}
