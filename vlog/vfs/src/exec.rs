//! The executor seam: all background work is a [`Worker`] that is stepped.
//!
//! In production [`ThreadExecutor`] gives each worker a thread that sleeps until it is woken; in
//! simulation [`SteppedExecutor`] runs every worker on the caller's thread, in a fixed order, when told
//! to. A worker never blocks on another worker inside `step`: it returns and is woken.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

mod stepped;
mod threads;

pub use stepped::SteppedExecutor;
pub use threads::ThreadExecutor;

/// What a worker wants after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to do: step again soon.
    More,
    /// Nothing to do until woken.
    Idle,
    /// Nothing to do until woken, or until this much time has passed.
    After(Duration),
    /// Never step again; the worker is dropped.
    Done,
}

/// A piece of background work, advanced in small steps.
pub trait Worker: Send {
    /// Does one bounded piece of work. Told to stop (its owner set a flag and woke it), it returns
    /// [`Step::Done`].
    fn step(&mut self) -> Step;
}

/// Wakes one worker; cheap, from any thread, any number of times.
pub trait Wake: Send + Sync + Debug {
    /// Has the worker stepped at least once more.
    fn wake(&self);
    /// Blocks until the worker is done and dropped (for shutdown). Must not be called by the worker.
    fn join(&self);
}

/// Runs workers.
pub trait Executor: Send + Sync + Debug + 'static {
    /// Takes a worker over; its first step runs without a wake.
    fn spawn(&self, name: &str, worker: Box<dyn Worker>) -> Arc<dyn Wake>;

    /// Blocks the caller until the gate is open, letting workers run meanwhile.
    fn wait(&self, gate: &Gate);
}

/// A door that opens once and stays open; what a caller waits at for a worker.
#[derive(Debug, Default)]
pub struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// Opens the gate and lets all waiting callers through.
    pub fn open(&self) {
        *self.open.lock() = true;
        self.opened.notify_all();
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        *self.open.lock()
    }

    /// Blocks the thread until open. Use [`Executor::wait`]: alone, this never returns in simulation.
    pub(crate) fn block(&self) {
        let mut open = self.open.lock();
        while !*open {
            self.opened.wait(&mut open);
        }
    }
}
