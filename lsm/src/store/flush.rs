//! Flushing: the oldest frozen memtable becomes a table of level 0, in one change-set.

use std::sync::Arc;
use std::time::Duration;

use kv_manifest::Edit;
use kv_vfs::{Step, Wake, Worker, planted};

use super::core::Core;
use super::view::Frozen;
use super::{Shared, StoreError};
use crate::compaction::Retain;
use crate::cursor::Cursor;
use crate::table::{TableSummary, TableWriter};

/// How long to wait for the log to be durable where apply runs ahead of it.
const RETRY: Duration = Duration::from_millis(2);

/// See the module.
pub(crate) struct Flusher {
    pub shared: Arc<Shared>,
    pub compactor: Arc<dyn Wake>,
}

impl Worker for Flusher {
    fn step(&mut self) -> Step {
        // From the choice on: what was chosen may else be replaced, with all that is below it.
        let _structure = self.shared.structure.lock();
        let Some(oldest) = self.shared.core.view().frozen.first().cloned() else {
            return if self.shared.is_stopping() { Step::Done } else { Step::Idle };
        };
        // What the log has not made durable when it fails never will be: callers must not wait for it.
        self.shared.follow_log();
        if self.shared.check().is_err() {
            return if self.shared.is_stopping() { Step::Done } else { Step::Idle };
        }
        // Entries may be applied before this node's own disk has them. A table must not point to bytes
        // that a power loss takes away, so the log goes first.
        let durable = self.shared.log.durable_next();
        if durable <= oldest.last.index && !planted::is("flush ahead of the log") {
            return if self.shared.is_stopping() { Step::Done } else { Step::After(RETRY) };
        }
        let next = if planted::is("replay from behind what is in tables") {
            u64::MAX
        } else {
            oldest.last.index + 1
        };
        let replay = self.shared.log.replay_segment(next);
        let extra = vec![Edit::ReplayFrom { segment: replay }];
        let changes = &self.shared.changes;
        let flushed = flush(&self.shared.core, &oldest, changes.allocate(), |mut edits| {
            if planted::is("position of a flush ahead of its table") {
                changes.commit("flush", edits.split_off(edits.len() - 1))?;
            }
            edits.extend(extra);
            changes.commit("flush", edits).map(drop)
        });
        match flushed {
            Ok(()) => {
                self.shared.open_gates();
                self.compactor.wake();
            }
            Err(error) => self.shared.poison(&error),
        }
        Step::More
    }
}

/// Writes a frozen memtable out as the table with this number, has `commit` record it and lets reads see
/// it.
pub(crate) fn flush(
    core: &Core,
    frozen: &Arc<Frozen>,
    number: u64,
    commit: impl FnOnce(Vec<Edit>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let summary = write_table(core, frozen, number)?;
    // Table durable, then its name, then the manifest: a crash in between leaves an orphan, and the log
    // is replayed from where it was.
    planted::unless("name of a flushed table not synced", || core.vfs.sync_dir(&core.dir))?;
    let table = summary.as_ref().map(|s| core.open_table(s.to_meta(0))).transpose()?;
    commit(core.flush_edits(frozen, summary.as_ref()))?;
    *core.flushed.lock() = Some(frozen.last);
    core.install(|view| {
        view.frozen.retain(|other| !Arc::ptr_eq(other, frozen));
        if let Some(table) = table {
            let mut tables = (*view.tables).clone();
            tables.add(table);
            view.tables = Arc::new(tables);
        }
    });
    Ok(())
}

/// `None` where the memtable is empty: its entries held no operations.
fn write_table(core: &Core, frozen: &Frozen, number: u64) -> Result<Option<TableSummary>, StoreError> {
    if frozen.memtable.entries() == 0 {
        return Ok(None);
    }
    let identity = core.table_identity(number);
    let mut writer = TableWriter::create(&core.vfs, &core.dir, &identity, &core.table_options())?;
    let mut cursor = frozen.memtable.cursor();
    cursor.seek_first()?;
    // Older tables may hold what a tombstone hides, so none is dropped here.
    let mut retain =
        Retain::new(core.open_snapshots(), |_: &[u8]| planted::is("tombstones dropped by a flush"));
    while cursor.valid() {
        if retain.keep(cursor.key(), cursor.seq(), cursor.slot()) {
            writer.add(cursor.key(), cursor.seq(), cursor.slot())?;
        }
        cursor.next()?;
    }
    Ok(Some(writer.finish()?))
}
