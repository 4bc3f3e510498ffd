//! Doing a compaction.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kv_manifest::names;
use kv_vfs::Vfs;

use super::retain::Retain;
use crate::cursor::Cursor;
use crate::key::Seq;
use crate::merge::MergeCursor;
use crate::table::{
    LevelCursor, TableError, TableIdentity, TableOptions, TableReader, TableSummary, TableWriter,
};

/// Versions between two looks at whether to stop.
const CANCEL_INTERVAL: u64 = 256;

/// Tables to merge.
#[derive(Debug)]
pub struct Job {
    /// The tables. Invariant: with a table, all that hold older versions of its keys and are not deeper
    /// than the output.
    pub inputs: Vec<Arc<TableReader>>,
    /// Seqs of open snapshots, in any order.
    pub snapshots: Vec<Seq>,
    /// Whether no level deeper than the output holds any of the keys, so that tombstones can go.
    pub bottommost: bool,
    /// Length at which a new table ends, in bytes; never within the versions of one key.
    pub table_bytes: u64,
}

/// Merges the tables of `job` into new ones in `dir`, numbered by `next`, and makes their contents durable.
/// The caller syncs the directory, then tells the manifest. No table comes out where nothing survives.
///
/// # Errors
/// [`TableError::Cancelled`] soon after `cancel` is set; damage in an input; what a write can fail with.
/// The new files are removed then, as far as that succeeds.
pub fn run(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    job: &Job,
    options: &TableOptions,
    next: &mut dyn FnMut() -> TableIdentity,
    cancel: &AtomicBool,
) -> Result<Vec<TableSummary>, TableError> {
    let mut outputs = Outputs { vfs, dir, options, next, open: None, done: Vec::new() };
    match merge(job, &mut outputs, cancel) {
        Ok(()) => Ok(outputs.done),
        Err(error) => {
            outputs.remove();
            Err(error)
        }
    }
}

fn merge(job: &Job, outputs: &mut Outputs<'_>, cancel: &AtomicBool) -> Result<(), TableError> {
    let mut cursor = MergeCursor::new(sources(&job.inputs));
    let mut retain = Retain::new(job.snapshots.clone(), |_: &[u8]| job.bottommost);
    let mut last_key = Vec::new();
    let mut seen = 0u64;
    cursor.seek_first()?;
    while cursor.valid() {
        if seen.is_multiple_of(CANCEL_INTERVAL) && cancel.load(Ordering::Relaxed) {
            return Err(TableError::Cancelled);
        }
        seen += 1;
        let (key, seq, slot) = (cursor.key(), cursor.seq(), cursor.slot());
        if retain.keep(key, seq, slot) {
            if outputs.bytes() >= job.table_bytes && last_key != key {
                outputs.finish()?;
            }
            outputs.writer()?.add(key, seq, slot)?;
            last_key.clear();
            last_key.extend_from_slice(key);
        }
        cursor.next()?;
    }
    outputs.finish()
}

/// As few cursors as there can be: tables that do not overlap are walked one after the other.
fn sources(inputs: &[Arc<TableReader>]) -> Vec<Box<dyn Cursor + Send>> {
    let mut sorted = inputs.to_vec();
    sorted.sort_by(|a, b| a.properties().smallest.cmp(&b.properties().smallest));
    let mut chains: Vec<Vec<Arc<TableReader>>> = Vec::new();
    for table in sorted {
        let follows = |chain: &&mut Vec<Arc<TableReader>>| {
            chain.last().is_some_and(|last| last.properties().largest < table.properties().smallest)
        };
        match chains.iter_mut().find(follows) {
            Some(chain) => chain.push(table),
            None => chains.push(vec![table]),
        }
    }
    chains.into_iter().map(|chain| Box::new(LevelCursor::new(chain)) as Box<dyn Cursor + Send>).collect()
}

/// The tables that come out.
struct Outputs<'a> {
    vfs: &'a Arc<dyn Vfs>,
    dir: &'a Path,
    options: &'a TableOptions,
    next: &'a mut dyn FnMut() -> TableIdentity,
    open: Option<TableWriter>,
    done: Vec<TableSummary>,
}

impl Outputs<'_> {
    fn writer(&mut self) -> Result<&mut TableWriter, TableError> {
        match &mut self.open {
            Some(writer) => Ok(writer),
            none => {
                let mut writer = TableWriter::create(self.vfs, self.dir, &(self.next)(), self.options)?;
                writer.set_cause("compact");
                Ok(none.insert(writer))
            }
        }
    }

    /// Bytes in the open table.
    fn bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, TableWriter::bytes_written)
    }

    fn finish(&mut self) -> Result<(), TableError> {
        if let Some(writer) = self.open.take() {
            let path = writer.path().to_path_buf();
            let summary = writer.finish().inspect_err(|_| remove(self.vfs, &path))?;
            self.done.push(summary);
        }
        Ok(())
    }

    /// Removes all files.
    fn remove(self) {
        let open = self.open.map(|writer| writer.path().to_path_buf());
        let done = self.done.iter().map(|table| self.dir.join(names::table_name(table.id)));
        open.into_iter().chain(done).for_each(|path| remove(self.vfs, &path));
    }
}

/// Removes a table of a failed compaction. Where that fails, the next open of the directory does it.
fn remove(vfs: &Arc<dyn Vfs>, path: &Path) {
    if let Err(error) = vfs.remove(path) {
        tracing::warn!(%error, "could not remove a table of a failed compaction");
    }
}
