//! The tables that come out of a merge.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_manifest::names;
use kv_vfs::Vfs;

use super::run::Numbers;
use crate::table::{TableError, TableOptions, TableSummary, TableWriter};

/// Tables that a merge made, contents durable. They are removed with this, unless [kept](Made::keep): what is
/// not recorded must not stay.
#[derive(Debug)]
pub struct Made {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    tables: Vec<TableSummary>,
}

impl Made {
    /// The tables, by key.
    #[must_use]
    pub fn tables(&self) -> &[TableSummary] {
        &self.tables
    }

    /// From here on the files stay.
    #[must_use]
    pub fn keep(mut self) -> Vec<TableSummary> {
        std::mem::take(&mut self.tables)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for table in &self.tables {
            remove(&self.vfs, &self.dir.join(names::table_name(table.id)));
        }
    }
}

/// A table of the level below the outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grandparent {
    /// Its last key.
    pub largest: Vec<u8>,
    /// Its length.
    pub bytes: u64,
}

/// Where to end a table, so that compacting it further will not rewrite too much.
#[derive(Debug)]
pub(super) struct Grandparents {
    /// By key.
    pub tables: Vec<Grandparent>,
    /// Bytes of them that a table may overlap.
    pub bytes_max: u64,
    /// The first one that does not end before the last key.
    pub next: usize,
    /// Bytes of those that the open table reaches.
    pub reached: u64,
}

impl Grandparents {
    /// Goes on to a key; says whether the table should end before it.
    fn pass(&mut self, key: &[u8]) -> bool {
        while let Some(table) = self.tables.get(self.next).filter(|table| *table.largest < *key) {
            self.reached = self.reached.saturating_add(table.bytes);
            self.next += 1;
        }
        self.reached > self.bytes_max
    }
}

/// Writes versions into as many tables as it takes.
pub(super) struct Outputs {
    pub vfs: Arc<dyn Vfs>,
    pub dir: PathBuf,
    pub options: TableOptions,
    pub next: Numbers,
    pub cause: String,
    /// Length at which a table ends, never within the versions of one key.
    pub table_bytes: u64,
    pub grandparents: Grandparents,
    pub last_key: Vec<u8>,
    pub open: Option<TableWriter>,
    pub made: Made,
}

impl Outputs {
    /// Adds the version that comes next.
    pub(super) fn add(
        &mut self,
        key: &[u8],
        seq: crate::key::Seq,
        slot: &crate::key::Slot,
    ) -> Result<(), TableError> {
        if self.open.is_none() || self.last_key != key {
            let far = self.grandparents.pass(key);
            if far || self.bytes() >= self.table_bytes {
                self.end_table()?;
            }
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
        }
        self.writer()?.add(key, seq, slot)
    }

    pub(super) fn end_table(&mut self) -> Result<(), TableError> {
        if let Some(writer) = self.open.take() {
            let path = writer.path().to_path_buf();
            let summary = writer.finish().inspect_err(|_| remove(&self.vfs, &path))?;
            self.made.tables.push(summary);
        }
        Ok(())
    }

    fn writer(&mut self) -> Result<&mut TableWriter, TableError> {
        match &mut self.open {
            Some(writer) => Ok(writer),
            none => {
                // What came before the first key of a table is not overlapped by it.
                self.grandparents.reached = 0;
                let mut writer = TableWriter::create(&self.vfs, &self.dir, &(self.next)(), &self.options)?;
                writer.set_cause(&self.cause);
                Ok(none.insert(writer))
            }
        }
    }

    /// Bytes in the open table.
    fn bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, TableWriter::bytes_written)
    }

    /// Gives up what is there.
    pub(super) fn into_made(mut self) -> Made {
        let (vfs, dir) = (self.vfs.clone(), self.dir.clone());
        std::mem::replace(&mut self.made, Made { vfs, dir, tables: Vec::new() })
    }

    pub(super) fn none(vfs: &Arc<dyn Vfs>, dir: &Path) -> Made {
        Made { vfs: vfs.clone(), dir: dir.to_path_buf(), tables: Vec::new() }
    }
}

impl Drop for Outputs {
    /// An open table is none.
    fn drop(&mut self) {
        if let Some(writer) = self.open.take() {
            let path = writer.path().to_path_buf();
            drop(writer);
            remove(&self.vfs, &path);
        }
    }
}

/// Removes a table of a compaction that came to nothing. Where that fails, the next open of the directory does
/// it.
fn remove(vfs: &Arc<dyn Vfs>, path: &Path) {
    if let Err(error) = vfs.remove(path) {
        tracing::warn!(%error, "could not remove a table of a failed compaction");
    }
}
