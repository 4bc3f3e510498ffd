//! What can be collected, and what is where.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kv_lsm::gc::{Standing, files};
use kv_lsm::{Collected, GcRun, Store, StoreError};
use kv_manifest::names::{self, FileName};
use kv_vfs::{MemVfs, Vfs};

use crate::node::*;

/// Files that can be collected.
pub fn complete(store: &Store) -> Vec<u64> {
    let files = files(&store.state());
    files.iter().filter(|found| found.standing == Standing::Complete).map(|found| found.file).collect()
}

/// Has everything but the end of the log be complete, as far as the store lets it.
pub fn settle(node: &Node) -> Result<(), StoreError> {
    node.store.flush()?;
    node.store.flushed().map_or(Ok(()), |at| node.store.purge(at))
}

/// Collects these files; what value GC goes by is then what a scan of all tables comes to.
pub fn collect(store: &Store, files: &[u64]) -> Result<Collected, StoreError> {
    let done = store.collect(files)?;
    assert_eq!(store.gc_audit()?, []);
    Ok(done)
}

/// Collects all that can be, likewise.
pub fn collect_all(store: &Store) -> Result<Collected, StoreError> {
    collect(store, &complete(store))
}

/// Collects any garbage, likewise.
pub fn run(store: &Store) -> Result<Vec<GcRun>, StoreError> {
    let runs = store.gc_run()?;
    assert_eq!(store.gc_audit()?, []);
    Ok(runs)
}

/// The tables, byte by byte.
pub fn tables(disk: &MemVfs) -> BTreeMap<PathBuf, Vec<u8>> {
    let is_table = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        matches!(names::parse(&name), Some(FileName::Table(_)))
    };
    let read = |path: PathBuf| (path.clone(), disk.read_file(&path).unwrap());
    disk.files().into_iter().filter(is_table).map(read).collect()
}

/// Whether a file of values is there.
pub fn is_there(vfs: &dyn Vfs, file: u64) -> bool {
    vfs.exists(&dir().join(names::segment_name(file))).unwrap()
}

/// Bytes of all files of values.
pub fn disk_bytes(disk: &MemVfs) -> u64 {
    let is_segment = |name: &str| matches!(names::parse(name), Some(FileName::Segment(_)));
    let entries = disk.list(dir()).unwrap();
    entries.iter().filter(|entry| is_segment(&entry.name)).map(|entry| entry.len).sum()
}

/// Bytes of values that are live.
pub fn live_bytes(store: &Store) -> u64 {
    files(&store.state()).iter().map(|found| found.live_bytes).sum()
}
