//! What the tests make their manifests of.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_vfs::{Clock, IoMode, ManualClock, MemVfs, Vfs};

use crate::{
    ChangeSet, Edit, Identity, LogPosition, Manifest, ManifestError, SealedInfo, SegmentRef, State,
    TableMeta, TimeStep,
};

pub(crate) fn dir() -> &'static Path {
    Path::new("/data")
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::default())
}

/// A file system with the data directory in it, and nothing in that.
pub(crate) fn empty() -> MemVfs {
    let vfs = MemVfs::new();
    vfs.create_dir_all(dir()).unwrap();
    vfs.sync_dir(Path::new("/")).unwrap();
    vfs
}

pub(crate) fn identity() -> Identity {
    Identity {
        cluster_id: *b"a cluster's id..",
        node_id: 1,
        incarnation: 7,
        group_id: 0,
        created_unix_ms: 1_700_000_000_000,
        options: [("comparator".to_string(), "bytewise".to_string())].into(),
    }
}

pub(crate) fn create(vfs: &MemVfs) -> Manifest {
    Manifest::create(Arc::new(vfs.clone()), clock(), dir(), identity()).unwrap()
}

pub(crate) fn open(vfs: &MemVfs) -> Result<Manifest, ManifestError> {
    Manifest::open(Arc::new(vfs.clone()), clock(), dir())
}

pub(crate) fn position(term: u64, index: u64) -> LogPosition {
    LogPosition { term, index }
}

/// A table of 100 bytes; the numbers in `segments` are what it points to.
pub(crate) fn table(id: u64, level: u8, smallest: &str, largest: &str, segments: &[u64]) -> TableMeta {
    let refs = segments.iter().map(|segment| SegmentRef { segment: *segment, count: 2, bytes: 20 });
    TableMeta {
        id,
        level,
        bytes: 100,
        smallest: smallest.into(),
        largest: largest.into(),
        seq_min: 1,
        seq_max: 9,
        entries: 5,
        tombstones: 1,
        refs: refs.collect(),
    }
}

pub(crate) fn add(id: u64, level: u8, smallest: &str, largest: &str) -> Edit {
    Edit::AddTable(table(id, level, smallest, largest, &[]))
}

pub(crate) fn open_segment(segment: u64, file: u64) -> Edit {
    Edit::OpenSegment { segment, file, generation: 0, epoch: 0 }
}

pub(crate) fn add_values(segment: u64, file: u64) -> Edit {
    Edit::AddValueSegment { segment, file, generation: 0, epoch: 0, end: 8192, values: 2, value_bytes: 20 }
}

pub(crate) fn remap(segment: u64, file: u64) -> Edit {
    Edit::RemapSegment { segment, file }
}

pub(crate) fn sealed(end: u64) -> SealedInfo {
    SealedInfo {
        end,
        first_index: Some(1),
        last_index: Some(3),
        terms: vec![position(1, 1), position(2, 3)],
        values: 2,
        value_bytes: 20,
        cut: false,
    }
}

pub(crate) fn seal(segment: u64) -> Edit {
    Edit::SealSegment { segment, info: sealed(8192) }
}

pub(crate) fn flushed(index: u64) -> Edit {
    Edit::Flushed { position: position(1, index), membership: b"1,2,3".to_vec() }
}

/// A state with nothing in it but the identity, and file numbers below 100 to use.
pub(crate) fn blank() -> State {
    let mut state = State::default();
    let edits = vec![Edit::Identity(identity()), Edit::NextFile(100)];
    state.apply(&ChangeSet { number: 1, edits, ..ChangeSet::default() }).unwrap();
    state
}

/// What a small store does in its life: every kind of edit at least once.
pub(crate) fn life() -> Vec<(&'static str, Vec<Edit>)> {
    vec![
        (
            "open",
            vec![Edit::Epoch(1), Edit::NextFile(10), open_segment(1, 2), Edit::ReplayFrom { segment: 1 }],
        ),
        ("roll", vec![seal(1), open_segment(2, 3)]),
        (
            "flush",
            vec![
                Edit::AddTable(table(4, 0, "a", "m", &[1])),
                Edit::LogTime(TimeStep { index: 2, time: 1_700_000_000 }),
                flushed(3),
                Edit::ReplayFrom { segment: 2 },
            ],
        ),
        ("flush", vec![Edit::AddTable(table(5, 0, "c", "z", &[1, 2])), flushed(7)]),
        ("roll", vec![seal(2), open_segment(3, 6), Edit::ReplayFrom { segment: 3 }]),
        ("purge", vec![Edit::PurgeFloor(position(1, 5))]),
        (
            "compact L0->L1",
            vec![
                Edit::AddTable(table(7, 1, "a", "m", &[1])),
                Edit::AddTable(table(8, 1, "n", "z", &[2])),
                Edit::RemoveTable { id: 4 },
                Edit::RemoveTable { id: 5 },
                Edit::HistoryFloor(Some(6)),
            ],
        ),
        ("gc", vec![add_values(4, 9), remap(1, 9), remap(2, 9)]),
        ("move", vec![Edit::MoveTable { id: 7, level: 2 }]),
        ("drop", vec![Edit::RemoveTable { id: 8 }, Edit::DropSegment { segment: 2 }]),
        (
            "install",
            vec![
                Edit::NextFile(42),
                Edit::RemoveTable { id: 7 },
                Edit::AddTable(table(40, 1, "a", "z", &[5])),
                add_values(5, 41),
                Edit::Flushed { position: position(1, 20), membership: b"1,2".to_vec() },
                Edit::PurgeFloor(position(1, 20)),
            ],
        ),
    ]
}

/// The path of the manifest in use.
pub(crate) fn manifest_path(vfs: &MemVfs) -> PathBuf {
    dir().join(open(vfs).unwrap().file_name())
}

pub(crate) fn bytes_of(vfs: &dyn Vfs, path: &Path) -> Vec<u8> {
    vfs.read_all(path, u64::MAX).unwrap()
}

/// A copy of the file system in which the file has these contents.
pub(crate) fn with_contents(vfs: &MemVfs, path: &Path, contents: &[u8]) -> MemVfs {
    let other = empty();
    for entry in vfs.list(dir()).unwrap() {
        let from = dir().join(&entry.name);
        let bytes = if from == path { contents.to_vec() } else { bytes_of(vfs, &from) };
        write(&other, &from, &bytes);
    }
    other
}

pub(crate) fn write(vfs: &dyn Vfs, path: &Path, contents: &[u8]) {
    let file = vfs.create(path, IoMode::Buffered).unwrap();
    file.write_at(contents, 0).unwrap();
    file.sync_data().unwrap();
    vfs.sync_dir(path.parent().unwrap()).unwrap();
}

/// Numbers aside that a rewrite uses up, the states are equal.
pub(crate) fn same_but_for_next_file(a: &State, b: &State) -> bool {
    let mut a = a.clone();
    a.next_file = b.next_file;
    a == *b
}
