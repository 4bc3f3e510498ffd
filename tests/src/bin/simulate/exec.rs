//! The engine's workers as tasks of the one thread, each step after the time that a disk takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kv_vfs::{Executor, Gate, Step, Wake, Worker};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::rng::Rng;

/// Steps that somebody who waits lets the workers do before the wait counts as hopeless.
const PASSES_MAX: usize = 10_000;

/// How long the steps of one node's workers take: somewhere between the two. Clones share it.
#[derive(Clone, Debug)]
pub struct StepTime {
    min_ms: Arc<AtomicU64>,
    max_ms: Arc<AtomicU64>,
}

impl StepTime {
    /// A disk that is well.
    pub fn quick() -> Self {
        let time = Self { min_ms: Arc::default(), max_ms: Arc::default() };
        time.set_quick();
        time
    }

    /// The disk is well again.
    pub fn set_quick(&self) {
        self.set(0, 3);
    }

    /// From now on.
    pub fn set(&self, min_ms: u64, max_ms: u64) {
        self.min_ms.store(min_ms, Ordering::Relaxed);
        self.max_ms.store(max_ms, Ordering::Relaxed);
    }

    fn of_next_step(&self, rng: &Rng) -> Duration {
        let (min, max) = (self.min_ms.load(Ordering::Relaxed), self.max_ms.load(Ordering::Relaxed));
        rng.millis(min..max.max(min) + 1)
    }
}

/// The workers of one node.
#[derive(Debug)]
pub struct TaskExecutor {
    slots: Mutex<Vec<Arc<Slot>>>,
    rng: Rng,
    step_time: StepTime,
}

struct Slot {
    name: String,
    /// Not there while it is stepped.
    worker: Mutex<Option<Box<dyn Worker>>>,
    woken: Notify,
    done: AtomicBool,
}

impl TaskExecutor {
    /// No worker yet.
    pub fn new(rng: Rng, step_time: StepTime) -> Self {
        Self { slots: Mutex::default(), rng, step_time }
    }

    /// Steps all workers in turn until `enough`.
    #[expect(clippy::panic, reason = "a simulation that waits for what cannot happen must end")]
    fn drive(&self, what: &str, enough: impl Fn() -> bool) {
        for _ in 0..PASSES_MAX {
            let slots = self.slots.lock().clone();
            for slot in slots {
                if enough() {
                    return;
                }
                slot.step();
            }
        }
        panic!("waited for {what} in vain: {:?}", self.slots.lock());
    }
}

impl Executor for TaskExecutor {
    fn spawn(&self, name: &str, worker: Box<dyn Worker>) -> Arc<dyn Wake> {
        let slot = Arc::new(Slot {
            name: name.into(),
            worker: Mutex::new(Some(worker)),
            woken: Notify::new(),
            done: AtomicBool::new(false),
        });
        self.slots.lock().push(slot.clone());
        tokio::spawn(run(slot.clone(), self.rng.clone(), self.step_time.clone()));
        Arc::new(TaskWake { slot })
    }

    /// Nobody else runs meanwhile, and no time passes: the workers do what they have to.
    fn wait(&self, gate: &Gate) {
        self.drive("a gate", || gate.is_open());
    }
}

async fn run(slot: Arc<Slot>, rng: Rng, step_time: StepTime) {
    loop {
        sleep(step_time.of_next_step(&rng)).await;
        match slot.step() {
            Step::More => {}
            Step::Idle => slot.woken.notified().await,
            Step::After(time) => drop(timeout(time, slot.woken.notified()).await),
            Step::Done => return,
        }
    }
}

impl Slot {
    fn step(&self) -> Step {
        let Some(mut worker) = self.worker.lock().take() else {
            // Done, or it is the worker whose own step waits for another one.
            return if self.done.load(Ordering::Relaxed) { Step::Done } else { Step::Idle };
        };
        let step = worker.step();
        if step == Step::Done {
            self.done.store(true, Ordering::Relaxed);
        } else {
            *self.worker.lock() = Some(worker);
        }
        step
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("name", &self.name).field("done", &self.done).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct TaskWake {
    slot: Arc<Slot>,
}

impl Wake for TaskWake {
    fn wake(&self) {
        self.slot.woken.notify_one();
    }

    fn join(&self) {
        for _ in 0..PASSES_MAX {
            if self.slot.step() == Step::Done {
                return;
            }
        }
        // Its owner told it to stop.
        unreachable!("the worker {} does not end", self.slot.name);
    }
}
