//! What the log holds in memory, shared by its callers and its writer: one lock, no I/O under it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_vfs::Gate;
use parking_lot::Mutex;

use crate::error::VlogError;
use crate::files::SegmentFiles;
use crate::footer::SegmentSummary;
use crate::format::{GROUP_HEADER_BYTES, SEGMENT_HEADER_BYTES, round_up};
use crate::header::LogEnd;
use crate::index::{LogIndex, Place};
use crate::options::{Callback, VlogOptions};
use crate::pool::FilePool;
use crate::read::SegmentFile;
use crate::record::entry_bytes;
use crate::recover::SegmentKind;
use crate::tail::{Cached, TailCache};
use crate::types::{Entry, Position, Vote};

/// A group of this many bytes is written even if nobody waits for it: a sync of it takes little longer than the
/// shortest one.
const LARGE_BYTES: u32 = 512 << 10;

/// What waits to be written as one group.
pub(crate) struct Draft {
    pub segment: u64,
    pub offset: u64,
    pub used: u32,
    pub records: Vec<Pending>,
    pub callbacks: Vec<Callback>,
    /// Whether somebody waits for it.
    pub urgent: bool,
    /// Index after the last entry in this or earlier groups, as far as no later truncation voids them.
    pub end_next: u64,
    /// Entries below this index are committed, as this group may say; known when it is taken.
    pub committed: u64,
    /// What the segment before holds, if this group begins one.
    pub before: Option<Box<Sealing>>,
    /// Oldest segment in which a truncation of this group voids entries.
    voids: Option<u64>,
}

/// What a full segment holds. As of its last record: a later truncation is said by a later segment, and
/// may never become durable.
pub(crate) struct Sealing {
    pub summary: SegmentSummary,
    pub offsets: Vec<u32>,
    pub last: Option<Position>,
    pub vote: Option<Vote>,
}

/// What the writer does next.
pub(crate) enum Work {
    Write(Draft),
    /// Something waits that nobody waits for.
    Later,
    /// Nothing waits, and after a closing nothing will. The callbacks wait for no record of their own.
    Rest(Vec<Callback>, Option<Closing>),
}

/// A record that waits.
pub(crate) enum Pending {
    Entry(Arc<Cached>),
    Vote(Vote),
    Truncate(u64),
}

impl Draft {
    pub(crate) fn new(segment: u64, offset: u64, end_next: u64) -> Self {
        Self {
            segment,
            offset,
            used: GROUP_HEADER_BYTES,
            records: Vec::new(),
            callbacks: Vec::new(),
            urgent: false,
            end_next,
            committed: 0,
            before: None,
            voids: None,
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.offset + round_up(u64::from(self.used))
    }

    /// Whether waiting for more would make writing it no cheaper.
    pub(crate) fn is_large(&self) -> bool {
        self.used >= LARGE_BYTES
    }
}

/// How the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// What waits is written, the last segment sealed.
    Seal,
    /// What waits is written.
    Stop,
}

/// See the module.
pub(crate) struct Inner {
    pub index: LogIndex,
    pub tail: TailCache,
    /// Full groups, then the open one.
    pub queue: VecDeque<Draft>,
    pub open: Draft,
    pub vote: Option<Vote>,
    pub committed_next: u64,
    /// Entries below it are durable. Like `writing_next`, it does not count what a truncation voids that
    /// is not durable yet: such indexes stand for other entries by now.
    pub durable_next: u64,
    /// Of the group that is being written: `end_next` and `voids`.
    pub writing_next: u64,
    pub writing_voids: Option<u64>,
    pub waiting_bytes: u64,
    /// When the segment of the open group is full.
    pub target: u64,
    /// Number of the next segment, of whatever kind.
    pub next_segment: u64,
    pub poisoned: Option<String>,
    pub closing: Option<Closing>,
    pub room: Vec<Arc<Gate>>,
}

/// What the log and its writer share.
pub(crate) struct Shared {
    pub options: VlogOptions,
    pub inner: Mutex<Inner>,
    pub files: SegmentFiles,
    pub pool: Arc<FilePool>,
    pub ledger_number: AtomicU64,
}

impl Inner {
    pub(crate) fn check(&self) -> Result<(), VlogError> {
        match &self.poisoned {
            Some(why) => Err(VlogError::Poisoned { why: why.clone() }),
            None if self.closing.is_some() => Err(VlogError::Poisoned { why: "the log is closed".into() }),
            None => Ok(()),
        }
    }

    /// Gives the entry its place in the open group.
    pub(crate) fn append(&mut self, entry: Entry, group_bytes_max: u32) -> Arc<Cached> {
        let bytes = entry_bytes(&entry);
        self.make_room(bytes, group_bytes_max);
        let offset = self.open.offset as u32 + self.open.used;
        let segment = self.open.segment;
        self.index.push(segment, offset, &entry);
        let cached = Arc::new(Cached { entry, segment, offset, bytes: bytes as u32 });
        self.tail.push(cached.clone());
        // Here as well as by the writer: who makes entries frees them, too, and holds the lock for one at a time.
        self.tail.shrink(self.durable_next);
        self.open.used += bytes as u32;
        self.open.end_next = self.index.next_index();
        self.open.records.push(Pending::Entry(cached.clone()));
        self.waiting_bytes += bytes;
        cached
    }

    /// Closes the open group if a record of this length does not fit, or belongs into the next segment.
    pub(crate) fn make_room(&mut self, bytes: u64, group_bytes_max: u32) {
        let empty = self.open.records.is_empty();
        let end = self.open.offset + round_up(u64::from(self.open.used) + bytes);
        let segment_is_empty = empty && self.open.offset == u64::from(SEGMENT_HEADER_BYTES);
        let roll = end > self.target && !segment_is_empty;
        let full = u64::from(self.open.used) + bytes > u64::from(group_bytes_max);
        if !roll && (empty || !full) {
            return;
        }
        if !roll {
            return self.replace_open(self.open.segment, self.open.end());
        }
        let before = self.sealing(self.open.segment);
        let next = self.take_segment();
        self.index.open(next);
        self.replace_open(next, u64::from(SEGMENT_HEADER_BYTES));
        self.open.before = Some(Box::new(before));
    }

    /// A number for a segment, higher than all before.
    pub(crate) fn take_segment(&mut self) -> u64 {
        let taken = self.next_segment;
        self.next_segment += 1;
        taken
    }

    /// Gives up the entries up to and including `at`, which may lie beyond the last: what they led to is
    /// durable elsewhere.
    pub(crate) fn purge(&mut self, at: Position) {
        let next = at.index + 1;
        self.index.purge(at);
        self.queue.iter_mut().for_each(|draft| draft.end_next = draft.end_next.max(next));
        self.open.end_next = self.open.end_next.max(next);
        self.writing_next = self.writing_next.max(next);
        self.durable_next = self.durable_next.max(next);
    }

    /// Oldest segment in which truncations that are not durable void entries.
    pub(crate) fn voids(&self) -> Option<u64> {
        let waiting = self.queue.iter().chain([&self.open]).filter_map(|draft| draft.voids);
        waiting.chain(self.writing_voids).min()
    }

    pub(crate) fn sealing(&self, segment: u64) -> Sealing {
        Sealing {
            summary: self.index.summary(segment, 0, false),
            offsets: self.index.offsets(segment).to_vec(),
            last: self.index.last(),
            vote: self.vote,
        }
    }

    pub(crate) fn truncate(&mut self, next: u64) {
        let voids = self.index.place(next).map(Place::segment);
        self.open.voids = self.open.voids.into_iter().chain(voids).min();
        // From here on these indexes are free for other entries, of which no earlier group knows.
        self.queue.iter_mut().for_each(|draft| draft.end_next = draft.end_next.min(next));
        self.writing_next = self.writing_next.min(next);
        self.durable_next = self.durable_next.min(next);
        self.index.truncate(next);
        self.tail.truncate(next);
    }

    /// Begins a new open group there; the old one, unless it is empty, waits to be written.
    pub(crate) fn replace_open(&mut self, segment: u64, offset: u64) {
        let next = self.index.next_index();
        let mut old = std::mem::replace(&mut self.open, Draft::new(segment, offset, next));
        if old.records.is_empty() {
            self.open.callbacks.append(&mut old.callbacks);
            self.open.urgent = old.urgent;
        } else {
            self.queue.push_back(old);
        }
    }
}

impl Shared {
    /// What to write next; `due`: even what nobody waits for.
    pub(crate) fn next_work(&self, due: bool) -> Work {
        let mut inner = self.inner.lock();
        if inner.queue.is_empty() && !inner.open.records.is_empty() {
            if !(due || inner.open.urgent || inner.open.is_large() || inner.closing.is_some()) {
                return Work::Later;
            }
            let (segment, offset) = (inner.open.segment, inner.open.end());
            inner.replace_open(segment, offset);
        }
        let Some(mut draft) = inner.queue.pop_front() else {
            // Under one lock with the look at what waits: an append comes before both or is refused.
            return Work::Rest(std::mem::take(&mut inner.open.callbacks), inner.closing);
        };
        draft.committed = inner.committed_next.min(draft.end_next);
        (inner.writing_next, inner.writing_voids) = (draft.end_next, draft.voids);
        Work::Write(draft)
    }

    /// A block for an empty group at the end of the active segment, and the committed index that it may
    /// name; unless something waits there.
    pub(crate) fn reserve_block(&self, segment: u64) -> Option<(u64, u64)> {
        let mut inner = self.inner.lock();
        if !inner.queue.is_empty() || !inner.open.records.is_empty() || inner.open.segment != segment {
            return None;
        }
        let offset = inner.open.offset;
        inner.open.offset = inner.open.end();
        Some((offset, inner.committed_next.min(inner.open.end_next)))
    }

    /// Notes that the group that was taken last, of so many bytes, is durable. Returns the callbacks that
    /// waited for no record of their own, if nothing waits any more.
    pub(crate) fn durable(&self, used: u32) -> Vec<Callback> {
        let mut inner = self.inner.lock();
        let next = inner.writing_next;
        inner.durable_next = next;
        inner.writing_voids = None;
        inner.waiting_bytes -= u64::from(used - GROUP_HEADER_BYTES);
        inner.tail.shrink(next);
        inner.room.drain(..).for_each(|gate| gate.open());
        if inner.waiting_bytes == 0 { std::mem::take(&mut inner.open.callbacks) } else { Vec::new() }
    }

    /// What a segment holds, when nothing waits any more.
    pub(crate) fn sealing(&self, segment: u64) -> Sealing {
        self.inner.lock().sealing(segment)
    }

    /// Where the log stands, its committed index as far as it is durable: for what begins or ends a segment.
    pub(crate) fn end(&self) -> LogEnd {
        let inner = self.inner.lock();
        LogEnd {
            vote: inner.vote,
            last: inner.index.last(),
            committed_next: inner.committed_next.min(inner.durable_next),
            purged: inner.index.purged(),
            ledger_number: self.ledger_number(),
        }
    }

    pub(crate) fn set_target(&self, bytes: u64) {
        self.inner.lock().target = bytes;
    }

    /// Makes a new segment readable and forgets what the footer of the old one holds.
    pub(crate) fn installed(&self, segment: u64, reader: Arc<SegmentFile>, old: Option<(u64, u64)>) {
        self.files.insert(segment, reader, SegmentKind::Log);
        if let Some((old, end)) = old {
            if let Some(file) = self.files.get(old) {
                file.set_written(end);
            }
            self.inner.lock().index.seal(old);
        }
    }

    pub(crate) fn ledger_number(&self) -> u64 {
        self.ledger_number.load(Ordering::Acquire)
    }

    pub(crate) fn note_ledger(&self, number: u64) {
        self.ledger_number.fetch_max(number, Ordering::AcqRel);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.inner.lock().closing.is_some()
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.inner.lock().poisoned.is_some()
    }

    /// What callbacks are told.
    pub(crate) fn outcome(&self) -> Result<(), VlogError> {
        match &self.inner.lock().poisoned {
            Some(why) => Err(VlogError::Poisoned { why: why.clone() }),
            None => Ok(()),
        }
    }

    pub(crate) fn poison(&self, error: &VlogError) {
        let why = error.to_string();
        {
            let mut inner = self.inner.lock();
            if inner.poisoned.is_some() {
                return;
            }
            inner.poisoned = Some(why.clone());
        }
        (self.options.on_fatal)(&why);
    }

    /// Tells everything that waits that it will never be durable.
    pub(crate) fn fail_waiting(&self) {
        let (drafts, room) = {
            let mut inner = self.inner.lock();
            // For ever: these truncations will never be durable.
            inner.writing_voids = inner.voids();
            let (segment, offset) = (inner.open.segment, inner.open.offset);
            let next = inner.index.next_index();
            let open = std::mem::replace(&mut inner.open, Draft::new(segment, offset, next));
            let mut drafts: Vec<Draft> = inner.queue.drain(..).collect();
            drafts.push(open);
            (drafts, std::mem::take(&mut inner.room))
        };
        for callback in drafts.into_iter().flat_map(|draft| draft.callbacks) {
            callback(self.outcome());
        }
        room.into_iter().for_each(|gate| gate.open());
    }
}
