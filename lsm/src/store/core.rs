//! Memtables and tables without the log: apply entries, read versions, flush. What the running store,
//! its recovery and the offline tools share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_manifest::{Edit, State, TableMeta};
use kv_vfs::Vfs;
use kv_vlog::{Codec, Entry, Expect, LogTime, Op, OpValue, Payload, Position, seq_of};
use parking_lot::{Mutex, RwLock};

use super::changes::{from_manifest, to_manifest};
use super::history::{History, Kept};
use super::identity;
use super::moments::Moments;
use super::pins::Pin;
use super::snapshot::Era;
use super::view::{Frozen, LEVELS, Table, Tables, View};
use crate::compaction::Horizon;
use crate::error::StoreError;
use crate::key::{Moment, Seq, Slot, ValuePointer};
use crate::memtable::{Disposal, Memtable};
use crate::options::Options;
use crate::table::{TableCaches, TableIdentity, TableOptions, TableReader, TableSummary};

/// What applying an entry did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It held no operations.
    Nothing,
    /// All its operations took effect. Version of the first one that is no check; the next ones follow.
    Done {
        /// See above.
        revision: Seq,
    },
    /// A check did not hold; nothing took effect.
    Refused {
        /// Which check, from 0.
        check: u32,
        /// The key's version; `None`: there is no such key.
        current: Option<Seq>,
    },
}

/// What the applier alone changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// The last entry applied.
    pub applied: Option<Position>,
    /// The newest membership applied.
    pub membership: Option<(Position, Bytes)>,
    /// What time it is, as entries say.
    pub time: LogTime,
    /// The last entry applied that did not only say what time it is.
    pub changed: Option<u64>,
    /// Bytes of log applied to the active memtable.
    log_bytes: u64,
    /// When the active memtable began, by the monotonic clock; `None`: before that clock.
    since: Option<Duration>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Core {
    pub vfs: Arc<dyn Vfs>,
    pub dir: PathBuf,
    pub options: Options,
    identity: TableIdentity,
    /// Of all tables.
    pub caches: Arc<TableCaches>,
    view: RwLock<Arc<View>>,
    /// Of memtables.
    pub disposal: Arc<Disposal>,
    progress: Mutex<Progress>,
    /// The last entry that is in tables.
    pub flushed: Mutex<Option<Position>>,
    /// Taken after `progress` and `flushed`.
    moments: Mutex<Moments>,
}

impl Core {
    /// Opens the tables that the manifest names.
    pub(crate) fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        options: Options,
        state: &State,
    ) -> Result<Self, StoreError> {
        identity::known(&state.identity.options)?;
        let identity = TableIdentity {
            cluster_id: state.identity.cluster_id,
            incarnation: state.identity.incarnation,
            group_id: state.identity.group_id,
            table_id: 0,
        };
        let applied = state.flushed.as_ref().map(from_manifest);
        let history = History::new(Kept::of(&options), state);
        let (membership, time) = (decode_membership(&state.membership)?, history.time());
        let changed = applied.map(|at| at.index);
        let progress = Progress { applied, membership, time, changed, ..Progress::default() };
        let disposal = Arc::default();
        let core = Self {
            vfs,
            dir: dir.into(),
            caches: TableCaches::new(options.block_cache_bytes, options.open_tables_max),
            options,
            identity,
            view: RwLock::new(Arc::new(View {
                active: Arc::new(Memtable::with(&disposal)),
                frozen: Vec::new(),
                tables: Arc::default(),
                pin: Pin::default(),
                expires: false,
            })),
            disposal,
            progress: Mutex::new(progress),
            flushed: Mutex::new(applied),
            moments: Mutex::new(Moments::new(applied.map(|at| at.index), history)),
        };
        let mut tables = Tables::default();
        for meta in state.tables.values() {
            if usize::from(meta.level) >= LEVELS {
                let (id, level) = (meta.id, meta.level);
                let why = format!("table {id} is of level {level}, this program has levels below {LEVELS}");
                return Err(StoreError::Invalid(why));
            }
            tables.add(core.open_table(meta.clone())?);
        }
        core.install(|view| view.tables = Arc::new(tables));
        Ok(core)
    }

    pub(crate) fn table_identity(&self, table_id: u64) -> TableIdentity {
        TableIdentity { table_id, ..self.identity }
    }

    pub(crate) fn table_options(&self) -> TableOptions {
        TableOptions {
            block_bytes: self.options.block_bytes,
            compression_level: self.options.table_compression_level,
            filter_false_positive: self.options.filter_false_positive,
            partition_bytes: self.options.partition_bytes,
        }
    }

    /// A table to look into. One that reads see now, at whatever level, keeps its reader: a file is removed
    /// with its last reader, so it has only one.
    pub(crate) fn open_table(&self, meta: TableMeta) -> Result<Arc<Table>, StoreError> {
        self.open_table_since(meta, None)
    }

    /// As [`Core::open_table`], of a table whose tombstones are not older than this.
    pub(crate) fn open_table_since(
        &self,
        meta: TableMeta,
        since: Option<Duration>,
    ) -> Result<Arc<Table>, StoreError> {
        let seen = self.view().tables.iter().find(|table| table.meta.id == meta.id).cloned();
        let reader = match seen {
            Some(table) => table.reader.clone(),
            None => {
                let identity = self.table_identity(meta.id);
                TableReader::open_cached(&self.caches, &self.vfs, &self.dir, &identity, meta.bytes)?
            }
        };
        Ok(Arc::new(Table::new(meta, reader, since)))
    }

    /// What reads see now.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.read().clone()
    }

    /// Replaces what reads see.
    pub(crate) fn install(&self, change: impl FnOnce(&mut View)) {
        let old = {
            let mut view = self.view.write();
            let mut next = (**view).clone();
            change(&mut next);
            next.note_expiring();
            std::mem::replace(&mut *view, Arc::new(next))
        };
        // Files may go with it: not while reads wait for the lock.
        drop(old);
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.lock().clone()
    }

    /// Puts a membership in force. The caller is the applier.
    pub(crate) fn set_membership(&self, membership: (Position, Bytes)) {
        self.progress.lock().membership = Some(membership);
    }

    /// What reads are as of now.
    pub(crate) fn visible(&self) -> Moment {
        self.moments.lock().visible()
    }

    /// Pins the versions visible now. Under one lock with `visible`: a flush that asks for the open
    /// snapshots after freezing a memtable misses none that could see into it.
    pub(crate) fn pin_snapshot(&self) -> (Moment, Arc<Era>) {
        self.moments.lock().pin()
    }

    /// Pins an earlier state. Under one lock with what is kept: a merge that asked before knows of no later floor.
    pub(crate) fn pin_snapshot_at(&self, version: Seq) -> Result<(Moment, Arc<Era>), StoreError> {
        self.moments.lock().pin_at(version)
    }

    /// Puts another state in place of all that reads see, without memtables. The caller is the applier, and
    /// nobody else changes what the tables are.
    pub(crate) fn replace(
        &self,
        tables: Tables,
        at: Position,
        time: LogTime,
        membership: Option<(Position, Bytes)>,
    ) {
        let mut progress = self.progress.lock();
        let mut flushed = self.flushed.lock();
        let mut moments = self.moments.lock();
        // What is visible before the tables: seen with the old sequence number, the new tables would lack
        // every key that was written since. A snapshot taken now waits for both.
        moments.replaced(self.view(), at.index, time);
        let (time, changed) = (time.max(progress.time), Some(at.index));
        *progress = Progress { applied: Some(at), membership, time, changed, ..Progress::default() };
        *flushed = Some(at);
        self.install(|view| {
            view.active = Arc::new(Memtable::with(&self.disposal));
            view.frozen.clear();
            view.tables = Arc::new(tables);
        });
    }

    pub(crate) fn unpin_snapshot(&self, moment: Moment) {
        self.moments.lock().unpin(moment);
    }

    /// Moments that open snapshots hold.
    pub(crate) fn open_snapshots(&self) -> usize {
        self.moments.lock().open()
    }

    /// Who may read what a compaction merges. What has expired is judged by a time that is durable: with a later one, a
    /// power loss could take the entries that say so, and leave tables without what was there before them.
    pub(crate) fn horizon(&self) -> Horizon {
        let moments = self.moments.lock();
        moments.horizon(moments.history.durable_time())
    }

    /// Who may read what a flush of everything up to this entry writes, which makes the time of then durable.
    pub(crate) fn horizon_at(&self, index: u64) -> Horizon {
        let moments = self.moments.lock();
        moments.horizon(moments.history.time_at(index))
    }

    /// The oldest version as of which the state can be read; `None`: only the newest state can.
    pub(crate) fn oldest_state(&self) -> Option<Seq> {
        self.moments.lock().history.floor().map(visible_after)
    }

    /// The edits that go with the tables of a compaction.
    pub(crate) fn compaction_edit(&self) -> Option<Edit> {
        self.moments.lock().history.compaction_edit()
    }

    /// Everything up to the entry is in tables.
    pub(crate) fn set_flushed(&self, at: Position) {
        *self.flushed.lock() = Some(at);
        self.moments.lock().history.flushed(at.index);
    }

    /// Whether the active memtable should be frozen before the next entry.
    pub(crate) fn is_full(&self) -> bool {
        self.fill(&self.view()) >= 1.0
    }

    /// How full the active memtable is; from 1 on it should be frozen.
    pub(crate) fn fill(&self, view: &View) -> f64 {
        let active = &view.active;
        let share = |is: u64, max: u64| is as f64 / max as f64;
        share(active.approximate_bytes() as u64, self.options.memtable_bytes_max)
            .max(share(active.entries() as u64, self.options.memtable_entries_max))
            .max(share(self.progress.lock().log_bytes, self.options.log_flush_bytes_max))
    }

    /// Bytes of log that are in no table yet.
    pub(crate) fn unflushed_bytes(&self) -> u64 {
        // A freeze holds the first while it changes the second: nothing is counted twice.
        let progress = self.progress.lock();
        let frozen = self.view().frozen.iter().map(|frozen| frozen.log_bytes).sum::<u64>();
        progress.log_bytes + frozen
    }

    /// When the active memtable began, if anything was applied to it.
    pub(crate) fn unflushed_since(&self) -> Option<Option<Duration>> {
        let progress = self.progress.lock();
        (progress.log_bytes > 0).then_some(progress.since)
    }

    /// Freezes the active memtable, unless it is as it was after the last freeze. The next one begins `now`,
    /// by the monotonic clock.
    pub(crate) fn freeze(&self, now: Option<Duration>) {
        let mut progress = self.progress.lock();
        let Some(last) = progress.applied else { return };
        if progress.log_bytes == 0 {
            return;
        }
        let log_bytes = std::mem::take(&mut progress.log_bytes);
        let since = std::mem::replace(&mut progress.since, now);
        let membership = progress.membership.clone();
        self.install(|view| {
            let memtable = std::mem::replace(&mut view.active, Arc::new(Memtable::with(&self.disposal)));
            view.frozen.push(Arc::new(Frozen { memtable, last, membership, since, log_bytes }));
        });
    }

    /// Applies the entry that comes next; an older one again does nothing. One caller at a time.
    pub(crate) fn apply(&self, entry: &Entry) -> Result<Applied, StoreError> {
        let view = self.view();
        // What time it is to this entry.
        let time = {
            let progress = self.progress.lock();
            match progress.applied {
                Some(applied) if entry.at.index <= applied.index => return Ok(Applied::Nothing),
                Some(applied) if entry.at.index != applied.index + 1 => {
                    let (next, last) = (entry.at.index, applied.index);
                    return Err(StoreError::Damaged(format!(
                        "entry {next} is to be applied after entry {last}: the log has lost what is between"
                    )));
                }
                _ => progress.time.max(entry.time),
            }
        };
        let applied = match self.refused(&view, entry, time)? {
            Some(refused) => refused,
            None => insert(&view.active, entry)?,
        };
        let mut progress = self.progress.lock();
        progress.log_bytes += log_bytes(entry);
        (progress.applied, progress.time) = (Some(entry.at), time);
        if entry.payload != Payload::Ops(Vec::new()) {
            progress.changed = Some(entry.at.index);
        }
        if let Payload::Membership(blob) = &entry.payload {
            progress.membership = Some((entry.at, blob.clone()));
        }
        // While nobody can read `applied` yet: a read that waits for the entry to be applied must see it.
        self.moments.lock().applied(entry.at.index, time);
        Ok(applied)
    }

    /// The first check of the entry that does not hold.
    fn refused(&self, view: &View, entry: &Entry, time: LogTime) -> Result<Option<Applied>, StoreError> {
        for (check, op) in (0u32..).zip(entry.payload.ops()) {
            let Op::Check { key, expect } = op else { continue };
            // A damaged block is an error here, never "absent": replicas must not decide differently.
            let current =
                view.get(key, Seq::MAX)?.filter(|(_, slot)| !slot.is_gone(time)).map(|(seq, _)| seq);
            let holds = match expect {
                Expect::Absent => current.is_none(),
                Expect::Seq(seq) => current == Some(*seq),
            };
            if !holds {
                return Ok(Some(Applied::Refused { check, current }));
            }
        }
        Ok(None)
    }

    /// The edits that record a flushed memtable.
    pub(crate) fn flush_edits(&self, frozen: &Frozen, table: Option<&TableSummary>) -> Vec<Edit> {
        let mut edits: Vec<Edit> = table.map(|t| Edit::AddTable(t.to_meta(0))).into_iter().collect();
        edits.extend(self.moments.lock().history.flush_edits(frozen.last.index));
        edits.push(self.flushed_edit(frozen.last, frozen.membership.as_ref()));
        edits
    }

    /// The edits that go with the installation of a state.
    pub(crate) fn install_edits(&self, at: Position, time: LogTime) -> Vec<Edit> {
        self.moments.lock().history.install_edits(at.index, time)
    }

    /// The edit that says that everything up to `at` is in tables, with the membership as of then.
    pub(crate) fn flushed_edit(&self, at: Position, membership: Option<&(Position, Bytes)>) -> Edit {
        Edit::Flushed { position: to_manifest(at), membership: encode_membership(membership) }
    }
}

fn insert(memtable: &Memtable, entry: &Entry) -> Result<Applied, StoreError> {
    let mut first = None;
    for (number, op) in (0u16..=u16::MAX).zip(entry.payload.ops()) {
        let seq = seq_of(entry.at.index, number);
        match op {
            Op::Check { .. } => continue,
            Op::Delete { key } => memtable.insert(key, seq, Slot::Tombstone),
            Op::Put { key, value: OpValue::At { pointer, value_bytes, expires } } => {
                let (segment, offset, length) = (pointer.segment, pointer.offset, pointer.length);
                let pointer = ValuePointer { segment, offset, length, value_bytes: *value_bytes };
                memtable.insert(key, seq, Slot::Pointer(pointer, *expires));
            }
            Op::Put { key, value: OpValue::Full(value) } if value.codec == Codec::Raw => {
                memtable.insert_inline(key, seq, &value.body, value.expires);
            }
            Op::Put { key, value: OpValue::Full(value) } => {
                let bytes = value.decode().map_err(StoreError::Damaged)?;
                memtable.insert_inline(key, seq, &bytes, value.expires);
            }
        }
        first.get_or_insert(seq);
    }
    Ok(first.map_or(Applied::Nothing, |revision| Applied::Done { revision }))
}

/// What an operation leaves of its key, as repair takes it; `None`: it is a check.
pub(crate) fn slot_of(op: &Op) -> Result<Option<Slot>, StoreError> {
    Ok(match op {
        Op::Check { .. } => None,
        Op::Delete { .. } => Some(Slot::Tombstone),
        Op::Put { value: OpValue::At { pointer, value_bytes, expires }, .. } => {
            let (segment, offset, length) = (pointer.segment, pointer.offset, pointer.length);
            let pointer = ValuePointer { segment, offset, length, value_bytes: *value_bytes };
            Some(Slot::Pointer(pointer, *expires))
        }
        Op::Put { value: OpValue::Full(value), .. } => {
            Some(Slot::Inline(value.decode().map_err(StoreError::Damaged)?, value.expires))
        }
    })
}

/// Bytes of log that an entry stands for; what recovery would have to read again.
pub(super) fn log_bytes(entry: &Entry) -> u64 {
    let op_bytes = |op: &Op| match op {
        Op::Put { value: OpValue::At { pointer, .. }, .. } => u64::from(pointer.length),
        Op::Put { key, value: OpValue::Full(value) } => (40 + key.len() + value.stored_bytes()) as u64,
        Op::Delete { key } | Op::Check { key, .. } => 40 + key.len() as u64,
    };
    32 + entry.payload.ops().iter().map(op_bytes).sum::<u64>()
}

/// The newest sequence number once the entry is applied.
pub(crate) fn visible_after(index: u64) -> Seq {
    seq_of(index, u16::MAX)
}

/// `[term u64][index u64][blob]`, or nothing.
fn encode_membership(membership: Option<&(Position, Bytes)>) -> Vec<u8> {
    let Some((at, blob)) = membership else { return Vec::new() };
    [&at.term.to_le_bytes()[..], &at.index.to_le_bytes()[..], &blob[..]].concat()
}

fn decode_membership(bytes: &[u8]) -> Result<Option<(Position, Bytes)>, StoreError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let cut = || StoreError::Damaged("the membership in the manifest is cut short".into());
    let (term, rest) = bytes.split_first_chunk::<8>().ok_or_else(cut)?;
    let (index, blob) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
    let at = Position { term: u64::from_le_bytes(*term), index: u64::from_le_bytes(*index) };
    Ok(Some((at, Bytes::copy_from_slice(blob))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64) -> Entry {
        let key = Bytes::from_static(b"key");
        Entry { at: Position { term: 1, index }, time: 0, payload: Payload::Ops(vec![Op::Delete { key }]) }
    }

    /// Broken by: an entry that counts as applied before it is visible. A read that waits for it to be applied
    /// would miss it.
    #[test]
    fn an_entry_is_visible_before_it_counts_as_applied() {
        let vfs = Arc::new(kv_vfs::MemVfs::new());
        let core = Core::open(vfs, Path::new("/"), Options::default(), &State::default()).unwrap();
        // Keeps the entry from becoming visible.
        let held = core.moments.lock();
        std::thread::scope(|scope| {
            let applier = scope.spawn(|| core.apply(&entry(0)).unwrap());
            while core.view().active.entries() == 0 {
                std::thread::yield_now();
            }
            // Now it cannot get further than that; what it says of itself on the way there shows.
            for _ in 0..10_000 {
                let says = core.progress.try_lock().and_then(|progress| progress.applied);
                assert_eq!(says, None, "applied, and not visible");
                std::thread::yield_now();
            }
            drop(held);
            applier.join().unwrap();
        });
        assert_eq!((core.progress().applied, core.visible().seq), (Some(entry(0).at), visible_after(0)));
    }
}
