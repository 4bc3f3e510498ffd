//! The way of a write: into the log, and once it is as durable as asked, into the memtable; in log order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kv_vfs::{Clock, Executor, Gate, Step, Worker};
use kv_vlog::{Appended, LogTime, Op};
use parking_lot::Mutex;

use crate::error::StoreError;
use crate::stamp::Stamper;
use crate::store::{Applied, Store};

/// The term of all entries of an embedded database.
const TERM: u64 = 1;

/// How often is looked whether something has expired that nobody reads.
const RECLAIM: Duration = Duration::from_secs(10);

/// A write that waits for its turn to be applied.
struct Waiting {
    entry: Appended,
    result: Arc<Mutex<Option<Result<Applied, StoreError>>>>,
}

/// See the module.
pub(super) struct Writer {
    store: Arc<Store>,
    executor: Arc<dyn Executor>,
    clock: Arc<dyn Clock>,
    stamper: Mutex<Stamper>,
    /// Writes in log order, not yet applied.
    waiting: Mutex<VecDeque<Waiting>>,
    /// One thread applies at a time, in order. Taken before `waiting`.
    applying: Mutex<()>,
    pub stopping: AtomicBool,
}

impl Writer {
    pub(super) fn new(store: Arc<Store>, executor: Arc<dyn Executor>, clock: Arc<dyn Clock>) -> Self {
        Self {
            stamper: Mutex::new(Stamper::new(store.time())),
            store,
            executor,
            clock,
            waiting: Mutex::default(),
            applying: Mutex::new(()),
            stopping: AtomicBool::new(false),
        }
    }

    /// What time it is for an entry that is made now.
    pub(super) fn stamp(&self) -> LogTime {
        self.stamper.lock().stamp(self.clock.unix_ms(), self.clock.monotonic())
    }

    /// Writes operations and waits until they are durable.
    pub(super) fn write_durably(&self, ops: Vec<Op>) -> Result<Applied, StoreError> {
        let log = self.store.log();
        let (gate, result) = (Arc::new(Gate::default()), Arc::new(Mutex::new(None)));
        let opens = gate.clone();
        let time = self.stamp();
        let index = {
            // Appending and queueing under one lock: entries are applied in log order.
            let mut waiting = self.waiting.lock();
            let entry = log.append_next(TERM, time, ops, Some(Box::new(move |_| opens.open())))?;
            let index = entry.at.index;
            waiting.push_back(Waiting { entry, result: result.clone() });
            index
        };
        self.executor.wait(&gate);
        if log.durable_next() <= index {
            log.wait_durable()?; // says why the write failed
        }
        {
            let _one = self.applying.lock();
            self.apply_waiting(index);
            log.set_committed(index + 1);
        }
        let result = result.lock().take();
        result.unwrap_or_else(|| Err(StoreError::Invalid("a write was not applied".into())))
    }

    /// Writes operations that will be durable soon.
    pub(super) fn write_batched(&self, ops: Vec<Op>) -> Result<Applied, StoreError> {
        let log = self.store.log();
        let time = self.stamp();
        // From before it has its place until it is applied: nobody else can, so it need not be queued.
        let _one = self.applying.lock();
        let entry = {
            let _in_order = self.waiting.lock();
            log.append_next(TERM, time, ops, None)?
        };
        self.apply_waiting(entry.at.index);
        let applied = self.store.apply(&entry);
        log.set_committed(entry.at.index + 1);
        applied
    }

    /// Applies what waits, in order, up to and including `index`. The caller is the one who applies.
    fn apply_waiting(&self, index: u64) {
        loop {
            let next = {
                let mut waiting = self.waiting.lock();
                let due = waiting.front().is_some_and(|front| front.entry.at.index <= index);
                due.then(|| waiting.pop_front()).flatten()
            };
            let Some(next) = next else { break };
            *next.result.lock() = Some(self.store.apply(&next.entry));
        }
    }

    /// Has what has expired be gone, if anything may expire: an entry without operations says what time it is. Once a
    /// second at most, and not where it would have to wait.
    pub(super) fn keep_time(&self) {
        if !self.store.may_expire() || self.stamp() <= self.store.time() {
            return;
        }
        if self.store.check().is_ok()
            && self.store.has_room()
            && let Err(error) = self.write_batched(Vec::new())
        {
            // Reads go on with the time that there is; who writes is told.
            tracing::debug!(%error, "could not write down what time it is");
        }
    }
}

/// Writes down what time it is when a part of a table has expired: compaction sees it then.
pub(super) struct Reclaimer(pub Arc<Writer>);

impl Worker for Reclaimer {
    fn step(&mut self) -> Step {
        let Self(writer) = self;
        if writer.stopping.load(Ordering::Acquire) {
            return Step::Done;
        }
        if writer.store.next_expiry().is_some_and(|next| next <= writer.stamp()) {
            writer.keep_time();
        }
        Step::After(RECLAIM)
    }
}
