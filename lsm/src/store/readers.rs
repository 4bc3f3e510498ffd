//! Reading values ahead: a few threads, started when they are first needed. Whoever needs a value that no thread
//! has begun to read reads it himself, so nobody waits for a thread that does not come.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use kv_vfs::{Executor, Gate, Step, Wake, Worker};
use parking_lot::Mutex;

use super::Found;
use super::scan::ScanItem;
use super::values::{ReadFor, Values};
use crate::error::StoreError;
use crate::key::Slot;

/// See the module.
pub(crate) struct Readers {
    values: Arc<Values>,
    executor: Arc<dyn Executor>,
    threads: usize,
    queue: Arc<Queue>,
    workers: OnceLock<Vec<Arc<dyn Wake>>>,
    /// Which worker is woken next.
    turn: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    /// Reads that nobody wants any more are gone.
    waiting: Mutex<VecDeque<Weak<ValueRead>>>,
    stopping: AtomicBool,
}

/// A value that is being read. While it is there, so is the value.
pub(crate) struct ValueRead {
    item: ScanItem,
    read_for: ReadFor,
    state: Mutex<State>,
    done: Gate,
}

enum State {
    Waiting,
    Running,
    Done(Result<Found, StoreError>),
    Taken,
}

impl Readers {
    pub(crate) fn new(values: Arc<Values>, executor: Arc<dyn Executor>, threads: usize) -> Arc<Self> {
        let (queue, workers) = (Arc::default(), OnceLock::new());
        Arc::new(Self { values, executor, threads, queue, workers, turn: AtomicUsize::new(0) })
    }

    /// Has a value read by a thread; `None` where it lies beside its key, or there are no threads.
    pub(crate) fn start(&self, item: &ScanItem, read_for: ReadFor) -> Option<Arc<ValueRead>> {
        let Slot::Pointer(..) = item.slot else { return None };
        if self.threads == 0 || self.queue.stopping.load(Ordering::Acquire) {
            return None;
        }
        let state = Mutex::new(State::Waiting);
        let read = Arc::new(ValueRead { item: item.clone(), read_for, state, done: Gate::default() });
        self.queue.waiting.lock().push_back(Arc::downgrade(&read));
        let workers = self.workers.get_or_init(|| self.spawn());
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if let Some(worker) = workers.get(turn % workers.len().max(1)) {
            worker.wake();
        }
        Some(read)
    }

    /// The value of a read that was started.
    pub(crate) fn take(&self, read: &ValueRead) -> Result<Found, StoreError> {
        read.run(&self.values);
        self.executor.wait(&read.done);
        match std::mem::replace(&mut *read.state.lock(), State::Taken) {
            State::Done(found) => found,
            // Taken before: it is read again.
            State::Waiting | State::Running | State::Taken => self.read(&read.item, None, read.read_for),
        }
    }

    /// Reads a value, or a part of it, now.
    pub(crate) fn read(
        &self,
        item: &ScanItem,
        range: Option<Range<u64>>,
        read_for: ReadFor,
    ) -> Result<Found, StoreError> {
        self.values.read(&item.key, item.revision, &item.slot, range, read_for)
    }

    /// Ends the threads; what is not read by then is read by who needs it.
    pub(crate) fn stop(&self) {
        self.queue.stopping.store(true, Ordering::Release);
        for worker in self.workers.get().into_iter().flatten() {
            worker.wake();
            worker.join();
        }
    }

    fn spawn(&self) -> Vec<Arc<dyn Wake>> {
        let worker = || Box::new(Reader { values: self.values.clone(), queue: self.queue.clone() });
        (0..self.threads).map(|n| self.executor.spawn(&format!("reader-{n}"), worker())).collect()
    }
}

impl ValueRead {
    /// Reads, unless somebody does or did.
    fn run(&self, values: &Values) {
        {
            let mut state = self.state.lock();
            if !matches!(*state, State::Waiting) {
                return;
            }
            *state = State::Running;
        }
        let ScanItem { key, revision, slot, .. } = &self.item;
        let found = values.read(key, *revision, slot, None, self.read_for);
        *self.state.lock() = State::Done(found);
        self.done.open();
    }
}

struct Reader {
    values: Arc<Values>,
    queue: Arc<Queue>,
}

impl Worker for Reader {
    fn step(&mut self) -> Step {
        if self.queue.stopping.load(Ordering::Acquire) {
            return Step::Done;
        }
        let next = self.queue.waiting.lock().pop_front();
        match next {
            Some(read) => {
                if let Some(read) = read.upgrade() {
                    read.run(&self.values);
                }
                Step::More
            }
            None => Step::Idle,
        }
    }
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readers").field("threads", &self.threads).finish_non_exhaustive()
    }
}
