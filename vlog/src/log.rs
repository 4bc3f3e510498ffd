//! The log: append, marks, reads. What is appended has its place, and can be read, at once.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use kv_vfs::{Clock, Executor, Gate, IoMode, Vfs, Wake, planted};
use parking_lot::Mutex;

use crate::error::VlogError;
use crate::files::SegmentFiles;
use crate::format::{
    GROUP_BYTES_MAX, GROUP_HEADER_BYTES, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, round_up,
};
use crate::header::SegmentIdentity;
use crate::index::Place;
use crate::ledger::Ledger;
use crate::options::{Callback, VlogOptions};
use crate::pool::FilePool;
use crate::read::SegmentFile;
use crate::record::entry_bytes;
use crate::recover::{Recovered, SegmentInput, SegmentKind};
use crate::state::{Closing, Draft, Inner, Pending, Shared};
use crate::tail::{Appended, TailCache};
use crate::types::{Entry, LogTime, Op, Payload, Position, Vote};
use crate::values::ValueSegmentWriter;
use crate::writer::Writer;

/// Where the log begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// The last purged entry.
    pub purged: Option<Position>,
    /// The last entry, or the purged one where nothing follows it.
    pub last: Option<Position>,
}

/// The log of one node. See the crate's documentation for its invariants.
pub struct Vlog {
    pub(crate) shared: Arc<Shared>,
    pub(crate) vfs: Arc<dyn Vfs>,
    executor: Arc<dyn Executor>,
    writer: Arc<dyn Wake>,
    /// Segments without a footer, sealed by recovery.
    pub(crate) cut: BTreeSet<u64>,
    /// Offsets of the entries of the cut segment that was scanned last.
    pub(crate) scanned: Mutex<Option<(u64, Arc<Vec<u32>>)>>,
}

impl Vlog {
    /// Starts the log where recovery left it: in a new segment, which the ledger has recorded on return.
    pub fn start(
        vfs: Arc<dyn Vfs>,
        clock: Arc<dyn Clock>,
        executor: Arc<dyn Executor>,
        ledger: Arc<dyn Ledger>,
        mut options: VlogOptions,
        recovered: Recovered,
    ) -> Result<Arc<Self>, VlogError> {
        options.group_bytes_max = options.group_bytes_max.min(GROUP_BYTES_MAX);
        let files = SegmentFiles::open(&*vfs, &recovered)?;
        let is_cut = |segment: &&SegmentInput| recovered.summary_of(segment).is_some_and(|s| s.cut);
        let cut = recovered.segments.iter().filter(is_cut).map(|s| s.identity.segment).collect();
        let Recovered { end, sealed, mut index, segments, durable, .. } = recovered;
        let first = segments.iter().map(|segment| segment.identity.segment + 1).max().unwrap_or(1);
        index.open(first);
        let next = index.next_index();
        let shared = Arc::new(Shared {
            inner: Mutex::new(Inner {
                tail: TailCache::new(options.tail_cache_bytes),
                queue: VecDeque::new(),
                open: Draft::new(first, u64::from(SEGMENT_HEADER_BYTES), next),
                vote: end.vote,
                committed_next: end.committed_next,
                durable_next: next,
                writing_next: next,
                writing_voids: None,
                waiting_bytes: 0,
                target: 0,
                next_segment: first + 1,
                poisoned: None,
                closing: None,
                room: Vec::new(),
                index,
            }),
            files,
            ledger_number: AtomicU64::new(end.ledger_number),
            pool: options.pool.clone().unwrap_or_else(|| FilePool::new(vfs.clone())),
            options,
        });
        let cut_at = sealed.as_ref().map(|sealed| (sealed.segment, sealed.summary.end));
        let writer = Writer::start(shared.clone(), vfs.clone(), clock, ledger, first, sealed, durable)?;
        if let Some((segment, end)) = cut_at {
            // Only now that the cut is recorded. Frees the torn tail and what was preallocated; if it
            // fails, the bytes are as dead as before.
            let path = segments.iter().find(|s| s.identity.segment == segment).map(|s| &s.path);
            let trim = |path: &PathBuf| vfs.open(path, IoMode::Buffered)?.set_len(end);
            if let Some(Err(error)) = path.map(trim) {
                tracing::warn!(%error, "could not free the unused end of a segment");
            }
        }
        let writer = executor.spawn("vlog-writer", Box::new(writer));
        Ok(Arc::new(Self { shared, vfs, executor, writer, cut, scanned: Mutex::new(None) }))
    }

    /// Appends entries that follow the last one, with their values. They can be read on return; the
    /// callback comes when all of them are durable. How much may wait is bounded by the caller, see
    /// [`Vlog::waiting_bytes`].
    pub fn append(&self, entries: Vec<Entry>, callback: Callback) -> Result<(), VlogError> {
        entries.iter().try_for_each(check_size)?;
        let mut inner = self.shared.inner.lock();
        inner.check()?;
        for entry in entries {
            let next = inner.index.next_index();
            assert!(
                inner.index.last().is_none() || entry.at.index == next,
                "entry {} appended where {next} comes next",
                entry.at.index
            );
            inner.append(entry, self.shared.options.group_bytes_max);
        }
        inner.open.callbacks.push(callback);
        inner.open.urgent = true;
        drop(inner);
        self.writer.wake();
        Ok(())
    }

    /// Appends operations as the entry that comes next, of this term and time; the first one is number 1. It can be
    /// read on return, and is given as applying it wants it.
    ///
    /// With a callback it is written at once. Without, it is written with what comes later: within
    /// [`VlogOptions::lazy`], or when somebody waits for any of it.
    pub fn append_next(
        &self,
        term: u64,
        time: LogTime,
        ops: Vec<Op>,
        callback: Option<Callback>,
    ) -> Result<Appended, VlogError> {
        let mut entry = Entry { at: Position { term, index: 0 }, time, payload: Payload::Ops(ops) };
        check_size(&entry)?;
        let mut inner = self.shared.inner.lock();
        inner.check()?;
        entry.at.index = inner.index.last().map_or(1, |last| last.index + 1);
        let begins = inner.open.records.is_empty();
        let cached = inner.append(entry, self.shared.options.group_bytes_max);
        let wake = begins || callback.is_some() || !inner.queue.is_empty() || inner.open.is_large();
        inner.open.urgent |= callback.is_some();
        inner.open.callbacks.extend(callback);
        drop(inner);
        if wake {
            self.writer.wake();
        }
        Ok(Appended::new(cached, self.shared.options.inline_below))
    }

    /// Records a vote; the callback comes when it is durable.
    pub fn save_vote(&self, vote: Vote, callback: Callback) -> Result<(), VlogError> {
        if planted::is("vote acknowledged before it is durable") {
            callback(Ok(()));
            return self.mark(Pending::Vote(vote), Box::new(|_| {}), |inner| inner.vote = Some(vote));
        }
        self.mark(Pending::Vote(vote), callback, |inner| inner.vote = Some(vote))
    }

    /// Makes the entries from `next` on void; the callback comes when that is durable. Reads do not see
    /// them from now on. Must not reach into what was applied.
    pub fn truncate(&self, next: u64, callback: Callback) -> Result<(), VlogError> {
        self.mark(Pending::Truncate(next), callback, |inner| {
            assert!(next >= inner.committed_next, "truncation to {next} reaches into committed entries");
            inner.truncate(next);
        })
    }

    fn mark(
        &self,
        pending: Pending,
        callback: Callback,
        change: impl FnOnce(&mut Inner),
    ) -> Result<(), VlogError> {
        let mut inner = self.shared.inner.lock();
        inner.check()?;
        inner.make_room(u64::from(RECORD_HEADER_BYTES), self.shared.options.group_bytes_max);
        change(&mut inner);
        inner.open.used += RECORD_HEADER_BYTES;
        inner.waiting_bytes += u64::from(RECORD_HEADER_BYTES);
        inner.open.end_next = inner.index.next_index();
        inner.open.records.push(pending);
        inner.open.callbacks.push(callback);
        inner.open.urgent = true;
        drop(inner);
        self.writer.wake();
        Ok(())
    }

    /// Notes that entries below `next` are committed. Made durable by the next group, not by itself.
    pub fn set_committed(&self, next: u64) {
        let mut inner = self.shared.inner.lock();
        inner.committed_next = inner.committed_next.max(next);
    }

    /// Gives up the entries up to and including `at`, which the owner has made durable already: groups
    /// written from now on may follow a hole. `at` may lie beyond the last entry; the next one then follows
    /// it.
    pub fn purge(&self, at: Position) {
        self.shared.inner.lock().purge(at);
    }

    /// The last entry of a complete segment, at or below `index_max`, up to which the log could be purged
    /// so that `keep_bytes` of it stay. The newest such; `None` where there is none above the floor.
    #[must_use]
    pub fn purge_boundary(&self, index_max: u64, keep_bytes: u64) -> Option<Position> {
        let inner = self.shared.inner.lock();
        let bytes_of = |segment| self.written(segment).unwrap_or_default();
        inner.index.boundary(inner.open.segment, index_max, keep_bytes, bytes_of)
    }

    /// A number for a segment of values. Never given again by this log; one that is never recorded leaves a
    /// gap.
    #[must_use]
    pub fn reserve_segment(&self) -> u64 {
        self.shared.inner.lock().take_segment()
    }

    /// Begins a segment of values in a new file. Nothing reads it before [`Vlog::add_values`].
    pub fn write_values(&self, file: u64, path: PathBuf) -> Result<ValueSegmentWriter, VlogError> {
        let options = &self.shared.options;
        let identity = SegmentIdentity {
            cluster_id: options.cluster_id,
            incarnation: options.incarnation,
            group_id: options.group_id,
            segment: self.reserve_segment(),
            file,
            generation: 0,
            epoch: options.epoch,
        };
        let ledger_number = self.shared.ledger_number();
        ValueSegmentWriter::create(&*self.vfs, path, identity, ledger_number, options.group_bytes_max)
    }

    /// Lets reads find a segment of values, complete and durable, that ends at `end`.
    pub fn add_values(&self, identity: SegmentIdentity, path: PathBuf, end: u64) -> Result<(), VlogError> {
        let file = SegmentFile::open(&*self.vfs, path, identity, end)?;
        self.shared.files.insert(identity.segment, file, SegmentKind::Values);
        Ok(())
    }

    /// Lets go of a segment that was never recorded, and whose file the caller removes. The file is closed when the reads
    /// under way are done.
    pub fn forget_segment(&self, segment: u64) {
        self.shared.files.remove(segment);
    }

    /// Entries below this index are known to be committed.
    #[must_use]
    pub fn committed_next(&self) -> u64 {
        self.shared.inner.lock().committed_next
    }

    /// Entries below this index are durable.
    #[must_use]
    pub fn durable_next(&self) -> u64 {
        self.shared.inner.lock().durable_next
    }

    /// The last vote.
    #[must_use]
    pub fn vote(&self) -> Option<Vote> {
        self.shared.inner.lock().vote
    }

    /// Where the log begins and ends.
    #[must_use]
    pub fn state(&self) -> LogState {
        let inner = self.shared.inner.lock();
        LogState { purged: inner.index.purged(), last: inner.index.last() }
    }

    /// First entry of each term between two entries, which are both given themselves; without reading.
    #[must_use]
    pub fn term_starts(&self, first: u64, last: u64) -> Vec<Position> {
        self.shared.inner.lock().index.term_starts(first, last)
    }

    /// The segment that recovery must scan from, if everything below `next` is in tables: the one that
    /// holds the entry `next`, as far as the owner has recorded it.
    #[must_use]
    pub fn replay_segment(&self, next: u64) -> u64 {
        let segment = {
            let inner = self.shared.inner.lock();
            // What was given up is in tables, whether or not the owner counts it.
            let next = next.max(inner.index.purged().map_or(0, |purged| purged.index + 1));
            let place = inner.index.place(next).map_or(inner.open.segment, Place::segment);
            // A truncation that is not durable may not have happened: what it voids is still to be read.
            inner.voids().map_or(place, |voids| place.min(voids))
        };
        segment.min(self.shared.files.newest())
    }

    /// Up to where a segment is written, in bytes; `None`: no such segment, or its values were moved elsewhere.
    #[must_use]
    pub fn written(&self, segment: u64) -> Option<u64> {
        self.shared.files.get(segment).map(|file| file.written())
    }

    /// Bytes that are set aside on the disk for the segment that is being written, what is written included, about.
    #[must_use]
    pub fn set_aside_bytes(&self) -> u64 {
        self.shared.inner.lock().target
    }

    /// Bytes appended and not yet durable.
    #[must_use]
    pub fn waiting_bytes(&self) -> u64 {
        self.shared.inner.lock().waiting_bytes
    }

    /// Blocks until fewer than `bytes` wait to be written.
    pub fn wait_room(&self, bytes: u64) -> Result<(), VlogError> {
        loop {
            let gate = {
                let mut inner = self.shared.inner.lock();
                inner.check()?;
                if inner.waiting_bytes < bytes {
                    return Ok(());
                }
                let gate = Arc::new(Gate::default());
                inner.room.push(gate.clone());
                inner.open.urgent = true;
                gate
            };
            self.writer.wake();
            self.executor.wait(&gate);
        }
    }

    /// Blocks until all that was appended before is durable.
    pub fn wait_durable(&self) -> Result<(), VlogError> {
        let gate = Arc::new(Gate::default());
        {
            let mut inner = self.shared.inner.lock();
            inner.check()?;
            if inner.waiting_bytes == 0 {
                return Ok(());
            }
            let opened = gate.clone();
            // Whatever is being written ends before the open group does: groups go in order.
            inner.open.callbacks.push(Box::new(move |_| opened.open()));
            inner.open.urgent = true;
        }
        self.writer.wake();
        self.executor.wait(&gate);
        self.shared.inner.lock().check()
    }

    /// Whether the log still takes records: [`VlogError::Poisoned`] if it has failed or was closed.
    pub fn check(&self) -> Result<(), VlogError> {
        self.shared.inner.lock().check()
    }

    /// Stops the log for good because its owner has failed, which has told of it: nothing is acknowledged from
    /// now on, as after a failed write of the log itself.
    pub fn fail(&self, why: &str) {
        self.shared.inner.lock().poisoned.get_or_insert_with(|| why.to_string());
        self.writer.wake();
    }

    /// Tells the log the owner's durable count; it is named on disk within the idle time.
    pub fn note_ledger(&self, number: u64) {
        self.shared.note_ledger(number);
        self.writer.wake();
    }

    /// Writes what waits, seals the last segment and stops. Later calls fail.
    pub fn close(&self) -> Result<(), VlogError> {
        self.end(Closing::Seal)
    }

    /// Writes what waits and stops, leaving the last segment for recovery. Later calls fail.
    pub fn stop(&self) -> Result<(), VlogError> {
        self.end(Closing::Stop)
    }

    fn end(&self, how: Closing) -> Result<(), VlogError> {
        self.shared.inner.lock().closing.get_or_insert(how);
        self.writer.wake();
        self.writer.join();
        self.shared.outcome()
    }
}

/// Refuses what no reader would believe.
fn check_size(entry: &Entry) -> Result<(), VlogError> {
    let (bytes, ops) = (entry_bytes(entry), entry.payload.ops().len());
    if round_up(u64::from(GROUP_HEADER_BYTES) + bytes) > u64::from(GROUP_BYTES_MAX) {
        let why = format!("an entry of {bytes} bytes; a group holds {GROUP_BYTES_MAX}");
        return Err(VlogError::Refused { why });
    }
    if ops > usize::from(u16::MAX) {
        return Err(VlogError::Refused {
            why: format!("an entry of {ops} operations; it holds {}", u16::MAX),
        });
    }
    Ok(())
}

impl std::fmt::Debug for Vlog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vlog").field("state", &self.state()).finish_non_exhaustive()
    }
}
