//! Flushing: the oldest frozen memtable becomes a table of level 0, in one change-set.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kv_manifest::Edit;
use kv_vfs::{Step, Worker, planted};

use super::core::Core;
use super::view::Frozen;
use super::{Shared, StoreError};
use crate::compaction::Retain;
use crate::cursor::Cursor;
use crate::table::{TableError, TableSummary, TableWriter};

/// How long to wait for the log to be durable where apply runs ahead of it.
const RETRY: Duration = Duration::from_millis(2);

/// How long to leave a disk alone that had no room for a table.
const NO_ROOM_RETRY: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Flusher {
    shared: Arc<Shared>,
    quiet: Quiet,
}

/// Since when nothing is written, as far as was seen.
#[derive(Debug, Default)]
struct Quiet {
    changed: Option<u64>,
    since: Duration,
}

impl Quiet {
    /// Looks at the last entry that changed something; says for how long it has been that.
    fn look(&mut self, changed: Option<u64>, now: Duration) -> Duration {
        if self.changed != changed {
            *self = Self { changed, since: now };
        }
        now.saturating_sub(self.since)
    }
}

impl Flusher {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let quiet = Quiet { changed: None, since: shared.clock.monotonic() };
        Self { shared, quiet }
    }

    /// Flushes the oldest frozen memtable; `None` where there is none.
    fn flush_oldest(&self) -> Option<Step> {
        // From the choice on: what was chosen may else be replaced, with all that is below it.
        let _structure = self.shared.structure.lock();
        let oldest = self.shared.core.view().frozen.first().cloned()?;
        // What the log has not made durable when it fails never will be: callers must not wait for it.
        self.shared.follow_log();
        if self.shared.check().is_err() {
            return Some(if self.shared.is_stopping() { Step::Done } else { Step::Idle });
        }
        // Entries may be applied before this node's own disk has them. A table must not point to bytes
        // that a power loss takes away, so the log goes first.
        let durable = self.shared.log.durable_next();
        if durable <= oldest.last.index && !planted::is("flush ahead of the log") {
            return Some(if self.shared.is_stopping() { Step::Done } else { Step::After(RETRY) });
        }
        let next = if planted::is("replay from behind what is in tables") {
            u64::MAX
        } else {
            oldest.last.index + 1
        };
        let replay = self.shared.log.replay_segment(next);
        let extra = vec![Edit::ReplayFrom { segment: replay }];
        let (changes, counters) = (&self.shared.changes, &self.shared.counters);
        counters.is_flushing.store(true, Ordering::Relaxed);
        let flushed = flush(&self.shared.core, &oldest, changes.allocate(), |mut edits| {
            if planted::is("position of a flush ahead of its table") {
                changes.commit("flush", edits.split_off(edits.len() - 1))?;
            }
            edits.extend(extra);
            changes.commit("flush", edits).map(drop)
        });
        counters.is_flushing.store(false, Ordering::Relaxed);
        counters.flushes.fetch_add(u64::from(flushed.is_ok()), Ordering::Relaxed);
        match flushed {
            Ok(()) => self.shared.tables_changed(),
            // The memtable is still there, and the log that it came from: value GC may make room.
            Err(error) if error.is_out_of_space() => {
                tracing::warn!(%error, "a memtable is written out later");
                self.shared.flushes_refused.add(&error);
                self.shared.open_gates();
                return Some(if self.shared.is_stopping() { Step::Done } else { Step::After(NO_ROOM_RETRY) });
            }
            Err(error) => self.shared.poison(&error),
        }
        Some(Step::More)
    }

    /// With nothing to flush: freezes what has waited long enough, and says when nothing is being written.
    fn watch(&mut self) -> Step {
        let (shared, options) = (&self.shared, &self.shared.core.options);
        if shared.is_stopping() {
            return Step::Done;
        }
        if shared.check().is_err() {
            return Step::Idle;
        }
        let now = shared.clock.monotonic();
        let changed = shared.core.progress().changed;
        let is_quiet = self.quiet.look(changed, now) >= options.idle_after;
        // A quarter of the time is for the memtable, as tombstones wait in it, too.
        let until = options.erase_within.map(|within| within / 4);
        let is_old = |since: Option<Duration>| {
            until.is_some_and(|until| since.is_none_or(|since| now.saturating_sub(since) >= until))
        };
        if let Some(since) = shared.core.unflushed_since() {
            // Who applies holds the lock: then it is not quiet, and looks for itself what is full.
            if (is_quiet || is_old(since)) && self.freeze(now) {
                return Step::More;
            }
        } else if let (true, Some(index)) = (is_quiet, changed) {
            shared.idle_at.store(index + 1, Ordering::Release);
            shared.wake_compactors();
        }
        if until.is_some() {
            shared.wake_compactors(); // tables become due
        }
        Step::After(until.map_or(options.idle_after, |until| (until / 2).min(options.idle_after)))
    }

    fn freeze(&self, now: Duration) -> bool {
        let Some(_one) = self.shared.applier.try_lock() else { return false };
        self.shared.core.freeze(Some(now));
        true
    }
}

impl Worker for Flusher {
    fn step(&mut self) -> Step {
        self.shared.core.disposal.free();
        self.flush_oldest().unwrap_or_else(|| self.watch())
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
    planted::unless("name of a flushed table not synced", || core.vfs.sync_dir(&core.dir))
        .map_err(TableError::SyncFailed)?;
    let table = summary.as_ref().map(|s| core.open_table_since(s.to_meta(0), frozen.since)).transpose()?;
    commit(core.flush_edits(frozen, summary.as_ref()))?;
    core.set_flushed(frozen.last);
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
    let writer = TableWriter::create(&core.vfs, &core.dir, &identity, &core.table_options())?;
    let path = writer.path().to_path_buf();
    let written = write_versions(core, frozen, writer);
    if written.is_err()
        && let Err(error) = core.vfs.remove(&path)
    {
        tracing::warn!(%error, "could not remove a table that was not written to its end");
    }
    written.map(Some)
}

fn write_versions(core: &Core, frozen: &Frozen, mut writer: TableWriter) -> Result<TableSummary, StoreError> {
    let mut cursor = frozen.memtable.cursor();
    cursor.seek_first()?;
    // Older tables may hold what a tombstone hides, so none is dropped here.
    let horizon = core.horizon_at(frozen.last.index);
    let mut retain = Retain::new(horizon, |_: &[u8]| planted::is("tombstones dropped by a flush"));
    while cursor.valid() {
        if let Some(slot) = retain.keep(cursor.key(), cursor.seq(), &cursor.slot()) {
            writer.add(cursor.key(), cursor.seq(), slot)?;
        }
        cursor.next()?;
    }
    Ok(writer.finish()?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kv_vfs::{ManualClock, MemVfs, SteppedExecutor, Vfs};

    use super::super::{Environment, NewStore, Store};
    use super::*;
    use crate::options::Options;

    /// Broken by: a memtable whose entries are freed by a reader, or stay for ever.
    #[test]
    fn a_memtable_that_was_still_read_is_freed_by_the_flusher() {
        let (disk, clock) = (MemVfs::new(), Arc::new(ManualClock::default()));
        disk.create_dir_all(Path::new("/data")).unwrap();
        let executor = SteppedExecutor::new(clock.clone());
        let environment = Environment { vfs: Arc::new(disk), clock, executor: Arc::new(executor.clone()) };
        let new = NewStore { cluster_id: [7; 16], node_id: 1, incarnation: 3 };
        let store = Store::open(&environment, Path::new("/data"), Options::default(), Some(new)).unwrap();
        let delete = kv_vlog::Op::Delete { key: "key".into() };
        let entry = store.log().append_next(1, 0, vec![delete], None).unwrap();
        store.apply(&entry).unwrap();
        let disposal = store.shared.core.disposal.clone();
        let view = store.shared.core.view();
        store.flush().unwrap();
        executor.run_until_idle();
        assert!(store.shared.core.view().frozen.is_empty() && disposal.waiting() == 0);
        drop(view);
        assert_eq!(disposal.waiting(), 1);
        executor.run_until_idle();
        assert_eq!(disposal.waiting(), 0);
        store.close().unwrap();
    }
}
