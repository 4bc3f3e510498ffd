//! The one writer: drains what waits into groups, each with one write and one sync.

use std::sync::Arc;
use std::time::Duration;

use kv_vfs::{AlignedBuf, Clock, Step, Vfs, Worker, planted};

use crate::error::VlogError;
use crate::footer::{self, SegmentSummary};
use crate::format::GROUP_HEADER_BYTES;
use crate::group::GroupHeader;
use crate::header::LogEnd;
use crate::ledger::{Ledger, OpenedSegment, SealedSegment};
use crate::record;
use crate::segment::Active;
use crate::state::{Closing, Draft, Pending, Sealing, Shared, Work};

/// Buffers larger than this are given back after use.
const BUFFER_KEPT_BYTES: usize = 8 << 20;

/// See the module.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    vfs: Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn Ledger>,
    active: Active,
    buffer: AlignedBuf,
    /// Where everything durable ends: segment and offset.
    durable: (u64, u64),
    /// Whether a later group names the last acknowledged one, and the owner's last count.
    named: bool,
    named_ledger: u64,
    last_write: Duration,
    /// Until when what nobody waits for may stay in memory.
    lazy_until: Option<Duration>,
}

impl Worker for Writer {
    fn step(&mut self) -> Step {
        if self.shared.is_poisoned() {
            self.shared.fail_waiting();
            return if self.shared.is_closing() { Step::Done } else { Step::Idle };
        }
        match self.advance() {
            Ok(step) => step,
            Err(error) => {
                // A failed sync says nothing about what is on disk: it is never retried, and nothing is
                // acknowledged from here on.
                self.shared.poison(&error);
                self.shared.fail_waiting();
                Step::More
            }
        }
    }
}

impl Writer {
    /// Creates the first segment of this open and has it recorded; nothing is acknowledged before.
    pub(crate) fn start(
        shared: Arc<Shared>,
        vfs: Arc<dyn Vfs>,
        clock: Arc<dyn Clock>,
        ledger: Arc<dyn Ledger>,
        segment: u64,
        sealed: Option<SealedSegment>,
        durable: (u64, u64),
    ) -> Result<Self, VlogError> {
        let active = Active::create(&shared, &*vfs, &*ledger, segment, &shared.end())?;
        let writer = Self {
            shared,
            vfs,
            clock,
            ledger,
            active,
            buffer: AlignedBuf::new(),
            durable,
            named: true,
            named_ledger: 0,
            last_write: Duration::ZERO,
            lazy_until: None,
        };
        writer.install(sealed.filter(|_| !planted::is("cut not recorded")))?;
        Ok(writer)
    }

    fn advance(&mut self) -> Result<Step, VlogError> {
        let due = self.lazy_until.is_some_and(|until| until <= self.clock.monotonic());
        match self.shared.next_work(due) {
            Work::Write(draft) => {
                self.lazy_until = None;
                return self.write(draft).map(|()| Step::More);
            }
            Work::Later => {
                let now = self.clock.monotonic();
                let until = *self.lazy_until.get_or_insert(now + self.shared.options.lazy);
                return Ok(Step::After(until.saturating_sub(now)));
            }
            Work::Rest(callbacks, closing) => {
                callbacks.into_iter().for_each(|callback| callback(self.shared.outcome()));
                match closing {
                    Some(Closing::Seal) => return self.close().map(|()| Step::Done),
                    Some(Closing::Stop) => return Ok(Step::Done),
                    None => {}
                }
            }
        }
        if self.named && self.shared.ledger_number() <= self.named_ledger {
            return Ok(Step::Idle);
        }
        let due = self.last_write + self.shared.options.idle;
        match due.checked_sub(self.clock.monotonic()) {
            Some(wait) if !wait.is_zero() => Ok(Step::After(wait)),
            _ => {
                self.write_naming()?;
                Ok(Step::More)
            }
        }
    }

    /// Writes one group and tells those who wait for it.
    fn write(&mut self, mut draft: Draft) -> Result<(), VlogError> {
        let mut callbacks = std::mem::take(&mut draft.callbacks);
        if planted::is("callbacks before the sync") {
            callbacks.drain(..).for_each(|callback| callback(Ok(())));
        }
        let written = self.write_draft(&mut draft);
        match &written {
            Ok(()) => callbacks.append(&mut self.shared.durable(draft.used)),
            Err(_) if planted::is("failed write acknowledged") => {
                callbacks.into_iter().for_each(|callback| callback(Ok(())));
                return Ok(());
            }
            Err(error) => self.shared.poison(error),
        }
        // The sync is done, or will never be: only now may anybody hear of it.
        callbacks.into_iter().for_each(|callback| callback(self.shared.outcome()));
        written
    }

    /// Writes one group, in a new segment if it begins one; durable on return.
    fn write_draft(&mut self, draft: &mut Draft) -> Result<(), VlogError> {
        if let Some(before) = draft.before.take() {
            self.roll(draft.segment, *before)?;
        }
        debug_assert_eq!(
            draft.segment, self.active.identity.segment,
            "a group that begins a segment says so"
        );
        let mut digest = crc32fast::Hasher::new();
        self.begin_group();
        for pending in &draft.records {
            let crc = match pending {
                Pending::Entry(cached) => record::put_entry(&mut self.buffer, &cached.entry),
                Pending::Vote(vote) => record::put_vote(&mut self.buffer, *vote),
                Pending::Truncate(next) => record::put_truncate(&mut self.buffer, *next),
            };
            digest.update(&crc.to_le_bytes());
        }
        debug_assert_eq!(self.buffer.len(), draft.used as usize, "positions were assigned from lengths");
        self.finish_group(draft.records.len() as u32, digest.finalize(), draft.committed)?;
        self.named = false;
        Ok(())
    }

    /// An empty group, so that the last acknowledged one is named by a valid group behind it.
    fn write_naming(&mut self) -> Result<(), VlogError> {
        let Some((offset, committed)) = self.shared.reserve_block(self.active.identity.segment) else {
            return Ok(()); // something was appended meanwhile: its group does the same
        };
        debug_assert_eq!(offset, self.active.end, "the open group begins where the last one ended");
        self.begin_group();
        self.finish_group(0, crc32fast::hash(&[]), committed)?;
        self.named = true;
        Ok(())
    }

    fn begin_group(&mut self) {
        self.buffer.clear();
        self.buffer.resize(GROUP_HEADER_BYTES as usize);
    }

    fn finish_group(&mut self, records: u32, records_crc: u32, committed: u64) -> Result<(), VlogError> {
        let used = self.buffer.len() as u32;
        self.buffer.pad_to_block();
        let identity = &self.active.identity;
        let ledger_number = self.shared.ledger_number();
        let header = GroupHeader {
            segment: identity.segment,
            generation: identity.generation,
            number: self.active.number,
            epoch: identity.epoch,
            length: self.buffer.len() as u32,
            used,
            durable_segment: self.durable.0,
            durable_end: self.durable.1,
            committed_next: committed,
            ledger_number,
            previous_crc: self.active.previous_crc,
            records,
            records_crc,
            crc: 0,
        };
        let (bytes, crc) = header.encode();
        if let Some(place) = self.buffer.as_mut_slice().get_mut(..bytes.len()) {
            place.copy_from_slice(&bytes);
        }
        self.active.file.write_at(self.buffer.as_slice(), self.active.end)?;
        let end = self.active.end + self.buffer.len() as u64;
        self.active.reader.set_written(end);
        // Survives a crash right after the acknowledgement: data first, then the callbacks.
        let synced = planted::unless("group not synced", || self.active.file.sync_data());
        if synced.is_err() && planted::is("failed sync retried") {
            self.active.file.sync_data()?;
        } else {
            synced?;
        }
        self.active.end = end;
        self.active.number += 1;
        self.active.previous_crc = crc;
        self.durable = (self.active.identity.segment, end);
        self.named_ledger = ledger_number;
        self.last_write = self.clock.monotonic();
        if self.buffer.capacity() > BUFFER_KEPT_BYTES {
            self.buffer = AlignedBuf::new();
        }
        Ok(())
    }

    /// Seals the active segment and begins the next one.
    fn roll(&mut self, segment: u64, before: Sealing) -> Result<(), VlogError> {
        // Footer durable, then the new file and its name durable, then both recorded, then the first
        // acknowledgement: a crash in between leaves a file that nobody knows and nothing lost.
        let vote = before.vote.filter(|_| !planted::is("vote not carried into the next segment"));
        let end = LogEnd { vote, last: before.last, ..self.shared.end() };
        let sealed = self.write_footer(before)?;
        self.active = Active::create(&self.shared, &*self.vfs, &*self.ledger, segment, &end)?;
        self.install(Some(sealed))
    }

    /// Seals the last segment, so that a cleanly closed directory names the end of everything in it.
    fn close(&mut self) -> Result<(), VlogError> {
        let sealed = self.write_footer(self.shared.sealing(self.active.identity.segment))?;
        let number = self.ledger.record(Some(sealed), None)?;
        self.shared.note_ledger(number);
        Ok(())
    }

    fn write_footer(&mut self, held: Sealing) -> Result<SealedSegment, VlogError> {
        let segment = self.active.identity.segment;
        let summary = SegmentSummary { end: self.active.end, ..held.summary };
        let body = footer::encode(&summary, &held.offsets);
        self.begin_group();
        let crc = record::put_footer(&mut self.buffer, &body);
        self.finish_group(1, crc32fast::hash(&crc.to_le_bytes()), self.shared.end().committed_next)?;
        // Gives back what was preallocated and not needed; the length stays what it is.
        self.active.file.set_len(self.active.end)?;
        Ok(SealedSegment { segment, summary })
    }

    /// Has the active segment recorded and makes it readable.
    fn install(&self, sealed: Option<SealedSegment>) -> Result<(), VlogError> {
        let identity = self.active.identity;
        let opened = OpenedSegment {
            segment: identity.segment,
            file: identity.file,
            generation: identity.generation,
            epoch: identity.epoch,
        };
        let old = sealed.as_ref().map(|sealed| (sealed.segment, sealed.summary.end));
        let number = self.ledger.record(sealed, Some(opened))?;
        self.shared.installed(identity.segment, self.active.reader.clone(), old);
        self.shared.note_ledger(number);
        Ok(())
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("path", &self.active.path).field("end", &self.active.end).finish()
    }
}
