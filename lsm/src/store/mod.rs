//! The engine: one log, its memtables and tables, and the workers that keep them small.
//!
//! ```text
//! log().append  -> durable -> committed -> apply(entry) -> memtable -> flush -> table, one change-set
//! ```
//! The caller decides what is committed, and applies entries in order; [`Db`](crate::Db) does both for an
//! embedded store, a consensus library does for a replicated one.

mod changes;
mod checkpoint;
mod compact;
mod core;
mod counters;
mod export;
mod flush;
mod gc;
mod history;
mod identity;
mod install;
mod iter;
mod lookup;
mod moments;
mod open;
mod pins;
mod purge;
mod readers;
mod receive;
mod recycle;
mod refusals;
mod scan;
mod snapshot;
mod stall;
mod stats;
mod status;
mod sweep;
mod values;
mod view;
mod walk;
mod written;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use kv_vfs::{Clock, Executor, Gate, Vfs, Wake, planted};
use kv_vlog::{Entry, Expiry, LogTime, Op, Pointer, Position, Vlog};
use parking_lot::Mutex;

use changes::Changes;
pub use compact::CompactionStats;
use compact::Compactions;
pub use core::Applied;
pub(crate) use core::{Core, slot_of, visible_after};
use counters::Counters;
pub use export::{Export, ExportRecord, ExportValue};
pub use gc::{Collected, Collection, GcReport, GcRun, Resolver};
pub(crate) use identity::carried_on;
pub use iter::{Bookmark, Iter, IterOptions};
pub use lookup::RangeSize;
pub use open::{Environment, NewStore};
pub(crate) use open::{later_change_set, recover, segment_input};
pub use pins::{HeldFile, Holder};
use readers::Readers;
pub use receive::Receiver;
use refusals::Refusals;
pub(crate) use scan::scan;
pub use scan::{Scan, ScanItem, ScanRange};
pub use snapshot::Snapshot;
pub use stall::StallStats;
use stall::Stalls;
pub use stats::{LevelStats, ReadStats, Room, Stats, Verification, WriteStats};
pub use status::{SegmentLine, segment_lines, verify_segment};
use sweep::Sweep;
pub use values::ValueCacheStats;
use values::{ReadFor, Values};
use written::Written;

use crate::error::StoreError;
use crate::key::{Moment, Seq, Slot};
use crate::options::Options;
use crate::table::CacheUse;

/// A value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The value, or the part asked for.
    pub value: Bytes,
    /// Version of the key.
    pub revision: Seq,
    /// Length of the whole value in bytes.
    pub value_bytes: u64,
    /// When it goes away.
    pub expires: Expiry,
}

/// See the module.
pub struct Store {
    shared: Arc<Shared>,
    executor: Arc<dyn Executor>,
    flusher: Arc<dyn Wake>,
    pacer: Arc<dyn Wake>,
    collector: Arc<dyn Wake>,
    values: Arc<Values>,
    readers: Arc<Readers>,
    torn: Option<String>,
    /// Entries of the log that recovery found behind the committed mark, large values as pointers.
    uncommitted: Mutex<Vec<Entry>>,
}

/// What the store shares with its workers.
pub(crate) struct Shared {
    pub core: Core,
    pub changes: Arc<Changes>,
    pub log: Arc<Vlog>,
    pub clock: Arc<dyn Clock>,
    /// One applier at a time.
    pub applier: Mutex<()>,
    /// Held by who changes what the tables are, from looking at them until reads see the change: flushes
    /// as a whole, compactions while they record what they did, installs, and drops of segments. Taken
    /// after the applier's lock, before those of the core; nobody waits for a worker while holding it.
    pub structure: Mutex<()>,
    pub collecting: Arc<gc::Collecting>,
    /// Gates of callers who wait for a change of memtables or tables.
    pub waiting: Mutex<Vec<Arc<Gate>>>,
    /// What is being compacted. Who holds it takes none of the locks above.
    pub compactions: Mutex<Compactions>,
    pub compactors: OnceLock<Vec<Arc<dyn Wake>>>,
    pub stalls: Stalls,
    pub counters: Counters,
    pub written: Arc<Written>,
    pub sweep: Arc<Sweep>,
    pub flushes_refused: Refusals,
    pub compactions_refused: Refusals,
    /// One more than the index of the last entry that changed something, when that was a while ago.
    pub idle_at: AtomicU64,
    pub stopping: AtomicBool,
    pub poisoned: Mutex<Option<String>>,
}

impl Shared {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Stops the store for good after a failed write of a table or of the manifest, or a failed apply; and the
    /// log with it, which must not acknowledge what the store will not take.
    pub(crate) fn poison(&self, error: &StoreError) {
        let why = self.poisoned.lock().get_or_insert_with(|| error.to_string()).clone();
        if planted::is("log goes on after a failed flush") {
            self.compactions.lock().refuse();
            return self.open_gates();
        }
        // Before anybody who waits hears of it.
        (self.core.options.on_fatal)(&why);
        self.log.fail(&why);
        self.compactions.lock().refuse();
        self.open_gates();
    }

    /// Stops the store for good if the log has stopped, which has told of it already.
    pub(crate) fn follow_log(&self) {
        if let Err(error) = self.log.check() {
            self.poisoned.lock().get_or_insert_with(|| error.to_string());
            self.compactions.lock().refuse();
            self.open_gates();
        }
    }

    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match &*self.poisoned.lock() {
            Some(why) => Err(StoreError::Poisoned { why: why.clone() }),
            None => Ok(()),
        }
    }

    pub(crate) fn open_gates(&self) {
        self.waiting.lock().drain(..).for_each(|gate| gate.open());
    }

    /// To be called after reads see other tables: there may be more to compact, and less to wait for.
    pub(crate) fn tables_changed(&self) {
        self.measure_load();
        self.open_gates();
        self.wake_compactors();
        self.hurry_collector();
    }

    pub(crate) fn wake_compactors(&self) {
        self.compactors.get().into_iter().flatten().for_each(|compactor| compactor.wake());
    }

    /// Whether nothing was written for a while.
    pub(crate) fn is_idle(&self) -> bool {
        let next = self.core.progress().changed.map_or(0, |index| index + 1);
        next > 0 && next == self.idle_at.load(Ordering::Acquire)
    }
}

impl Store {
    /// Opens the store in `dir`, making a new one of `new` where there is none; recovers what the log
    /// holds up to its committed mark. The directory is there and locked by the caller.
    pub fn open(
        environment: &Environment,
        dir: &Path,
        options: Options,
        new: Option<NewStore>,
    ) -> Result<Arc<Self>, StoreError> {
        open::open(environment, dir, options, new)
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Arc<Vlog> {
        &self.shared.log
    }

    /// The options it was opened with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.shared.core.options
    }

    /// The last entry applied.
    #[must_use]
    pub fn applied(&self) -> Option<Position> {
        self.shared.core.progress().applied
    }

    /// The last entry that is in tables.
    #[must_use]
    pub fn flushed(&self) -> Option<Position> {
        *self.shared.core.flushed.lock()
    }

    /// The file system, and the data directory on it.
    #[must_use]
    pub fn place(&self) -> (&Arc<dyn Vfs>, &Path) {
        (&self.shared.core.vfs, &self.shared.core.dir)
    }

    /// What time it is: what the entries that were applied say.
    #[must_use]
    pub fn time(&self) -> LogTime {
        self.shared.core.visible().time
    }

    /// Whether there is anything that goes away by itself: then what reads find depends on the time.
    #[must_use]
    pub fn may_expire(&self) -> bool {
        self.shared.core.view().may_expire()
    }

    /// When some part of a table has expired next, about; nobody needs to say so before. `None`: nothing in tables
    /// expires.
    #[must_use]
    pub fn next_expiry(&self) -> Option<LogTime> {
        let (view, time) = (self.shared.core.view(), self.time());
        view.tables.iter().filter_map(|table| table.reader.properties().expiries.next_after(time)).min()
    }

    /// The oldest revision as of which [`Store::snapshot_at`] gives the state; `None`: only the newest.
    #[must_use]
    pub fn oldest_state(&self) -> Option<Seq> {
        self.shared.core.oldest_state()
    }

    /// The newest membership applied, with its place in the log.
    #[must_use]
    pub fn membership(&self) -> Option<(Position, Bytes)> {
        self.shared.core.progress().membership
    }

    /// What was cut from the end of the log when the store was opened: a write that was never
    /// acknowledged.
    #[must_use]
    pub fn torn_tail(&self) -> Option<&str> {
        self.torn.as_deref()
    }

    /// Whether it still takes writes.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.shared.check()
    }

    /// Entries that recovery found behind the committed mark; whoever decides what is committed applies
    /// them or has them truncated. Given once.
    #[must_use]
    pub fn take_uncommitted(&self) -> Vec<Entry> {
        std::mem::take(&mut self.uncommitted.lock())
    }

    /// Applies the committed entry that comes next, large values as pointers. May wait for a flush and
    /// read from disk.
    pub fn apply(&self, entry: &Entry) -> Result<Applied, StoreError> {
        let _one = self.shared.applier.lock();
        self.shared.check()?;
        self.make_room(core::log_bytes(entry))?;
        self.apply_next(entry)
    }

    /// As [`Store::apply`], but `None`, with nothing done, where it would have to wait or read from disk.
    pub fn try_apply(&self, entry: &Entry) -> Result<Option<Applied>, StoreError> {
        let Some(_one) = self.shared.applier.try_lock() else { return Ok(None) };
        self.shared.check()?;
        if !self.has_room() {
            return Ok(None);
        }
        let view = self.shared.core.view();
        let on_disk = |op: &Op| matches!(op, Op::Check { key, .. } if !view.in_memory(key, Seq::MAX));
        if entry.payload.ops().iter().any(on_disk) {
            return Ok(None);
        }
        self.apply_next(entry).map(Some)
    }

    /// An entry that cannot be applied ends it: the log holds the entry, so the next open applies it, and
    /// nothing may be decided on a state without it.
    fn apply_next(&self, entry: &Entry) -> Result<Applied, StoreError> {
        self.shared.collecting.space.wrote(core::log_bytes(entry));
        self.shared.counters.wrote(entry);
        self.shared.core.apply(entry).inspect_err(|error| self.shared.poison(error))
    }

    fn freeze_if_room(&self) -> bool {
        let room = self.shared.core.view().frozen.len() < self.options().memtables_waiting_max;
        if room {
            self.shared.core.freeze(Some(self.shared.clock.monotonic()));
            self.flusher.wake();
        }
        room
    }

    /// Blocks while `wait` holds of what reads see, looking again after each flush and compaction.
    fn wait_while(&self, wait: impl Fn(&view::View) -> bool) -> Result<(), StoreError> {
        loop {
            let gate = Arc::new(Gate::default());
            self.shared.waiting.lock().push(gate.clone());
            self.shared.check()?;
            if !wait(&self.shared.core.view()) {
                return Ok(());
            }
            if self.shared.is_stopping() {
                // The workers that could change it are told to end.
                return Err(StoreError::Invalid("the store is being closed".into()));
            }
            self.flusher.wake();
            self.executor.wait(&gate);
        }
    }

    /// Writes everything applied so far into tables; durable on return.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`]: the tables are written later, and the log keeps what belongs into them.
    pub fn flush(&self) -> Result<(), StoreError> {
        let refused = self.shared.flushes_refused.count();
        {
            let _one = self.shared.applier.lock();
            self.shared.core.freeze(Some(self.shared.clock.monotonic()));
        }
        let newest = self.shared.core.view().frozen.last().map(|frozen| frozen.last);
        let is_frozen = |view: &view::View| view.frozen.iter().any(|frozen| Some(frozen.last) <= newest);
        self.wait_while(|view| is_frozen(view) && self.shared.flushes_refused.count() == refused)?;
        if is_frozen(&self.shared.core.view()) { self.shared.flushes_refused.since(refused) } else { Ok(()) }
    }

    /// The newest value of a key, or the part of it that `range` names (cut at its end).
    pub fn get(&self, key: &[u8], range: Option<std::ops::Range<u64>>) -> Result<Option<Found>, StoreError> {
        // The view first: what it lacks is newer than this read. The other way round, a version that is
        // visible could be gone from a newer view, overwritten and flushed.
        let view = self.shared.core.view();
        self.get_in(&view, key, self.shared.core.visible(), range)
    }

    fn get_in(
        &self,
        view: &view::View,
        key: &[u8],
        moment: Moment,
        range: Option<std::ops::Range<u64>>,
    ) -> Result<Option<Found>, StoreError> {
        let _get = self.shared.counters.gets(1);
        match view.get(key, moment.seq)? {
            Some((seq, slot)) if moment.sees(&slot) => {
                self.values.read(key, seq, &slot, range, ReadFor::Get).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The value that a version stands for, as a scan gives it. It does not stay in the cache of values: scans go over
    /// very much, once.
    pub fn value(
        &self,
        key: &[u8],
        seq: Seq,
        slot: &Slot,
        range: Option<std::ops::Range<u64>>,
    ) -> Result<Found, StoreError> {
        self.values.read(key, seq, slot, range, ReadFor::Walk(CacheUse::Peek))
    }

    /// Flushes, seals the log and stops the workers. Later writes fail.
    pub fn close(&self) -> Result<(), StoreError> {
        let flushed = self.flush();
        self.stop_workers();
        // After the workers: closing the log seals its last segment, and nothing is recorded after that.
        let closed = self.shared.log.close();
        flushed?;
        Ok(closed?)
    }

    /// Writes out what the log holds in memory and stops the workers; the next open recovers the rest.
    /// Later writes fail. Does nothing after [`Store::close`].
    pub fn stop(&self) {
        self.stop_workers();
        if let Err(error) = self.shared.log.stop() {
            tracing::warn!(%error, "the log did not stop cleanly");
        }
    }

    fn stop_workers(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        let compactors = self.shared.compactors.get().into_iter().flatten();
        for worker in [&self.flusher, &self.pacer, &self.collector].into_iter().chain(compactors) {
            worker.wake();
            worker.join();
        }
        // Nobody is left to do what they wait for.
        self.shared.compactions.lock().clear();
        self.shared.open_gates();
        self.readers.stop();
        self.shared.core.disposal.detach();
        self.shared.sweep.stop();
    }
}

pub(crate) fn pointer(p: &crate::key::ValuePointer) -> Pointer {
    Pointer { segment: p.segment, offset: p.offset, length: p.length }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.shared.core.dir).finish_non_exhaustive()
    }
}
