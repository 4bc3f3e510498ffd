//! Versions that were found outside of whole tables, in tables of our own that are thrown away afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_manifest::names;
use kv_vfs::Vfs;

use crate::cursor::Cursor;
use crate::error::StoreError;
use crate::key::{Seq, Slot};
use crate::memtable::Memtable;
use crate::table::{TableIdentity, TableOptions, TableReader, TableWriter};

/// Memory for versions before they are written out.
const MEMTABLE_BYTES_MAX: usize = 64 << 20;
/// Above all numbers that the new store takes while it is built; a start removes what a crash leaves of them.
const FIRST_ID: u64 = 1 << 40;

/// See the module.
pub(super) struct Scratch {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    memtable: Arc<Memtable>,
    pub tables: Vec<Arc<TableReader>>,
    files: Vec<PathBuf>,
}

impl Scratch {
    pub(super) fn new(vfs: &Arc<dyn Vfs>, dir: &Path) -> Self {
        let (memtable, tables, files) = (Arc::default(), Vec::new(), Vec::new());
        Self { vfs: vfs.clone(), dir: dir.into(), memtable, tables, files }
    }

    /// Adds a version; in any order.
    pub(super) fn insert(&mut self, key: &[u8], seq: Seq, slot: Slot) -> Result<(), StoreError> {
        self.memtable.insert(key, seq, slot);
        if self.memtable.approximate_bytes() < MEMTABLE_BYTES_MAX {
            return Ok(());
        }
        self.spill()
    }

    /// Writes out what is in memory.
    pub(super) fn spill(&mut self) -> Result<(), StoreError> {
        let memtable = std::mem::take(&mut self.memtable);
        if memtable.is_empty() {
            return Ok(());
        }
        let mut writer = self.writer()?;
        let mut cursor = memtable.cursor();
        cursor.seek_first()?;
        while cursor.valid() {
            writer.add(cursor.key(), cursor.seq(), &cursor.slot())?;
            cursor.next()?;
        }
        self.finish(writer)
    }

    /// Begins a table.
    pub(super) fn writer(&mut self) -> Result<TableWriter, StoreError> {
        let table_id = FIRST_ID + self.files.len() as u64;
        let identity = TableIdentity { cluster_id: [0; 16], incarnation: 0, group_id: 0, table_id };
        self.files.push(self.dir.join(names::table_name(table_id)));
        Ok(TableWriter::create(&self.vfs, &self.dir, &identity, &TableOptions::default())?)
    }

    /// Completes a table, in which there is something.
    pub(super) fn finish(&mut self, writer: TableWriter) -> Result<(), StoreError> {
        let path = writer.path().to_path_buf();
        writer.finish()?;
        self.tables.push(TableReader::open_any(&self.vfs, &path)?);
        Ok(())
    }

    /// The newest version of a key that is not newer than `seq`.
    pub(super) fn get(&self, key: &[u8], seq: Seq) -> Result<Option<(Seq, Slot)>, StoreError> {
        let in_memory = self.memtable.get(key, seq);
        Ok(newer(in_memory, newest(&self.tables, key, seq)?))
    }
}

/// The newest version of a key, not newer than `seq`, in any of the tables.
pub(super) fn newest(
    tables: &[Arc<TableReader>],
    key: &[u8],
    seq: Seq,
) -> Result<Option<(Seq, Slot)>, StoreError> {
    let mut best = None;
    for table in tables {
        best = newer(best, table.get(key, seq)?);
    }
    Ok(best)
}

pub(super) fn newer(a: Option<(Seq, Slot)>, b: Option<(Seq, Slot)>) -> Option<(Seq, Slot)> {
    if a.as_ref().map(|(seq, _)| seq) < b.as_ref().map(|(seq, _)| seq) { b } else { a }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.tables.clear();
        // The next open removes what is left.
        self.files.iter().for_each(|path| drop(self.vfs.remove(path)));
    }
}
