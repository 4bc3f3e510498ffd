//! The executor seam: all background work is a [`Worker`] that is stepped.
//!
//! In production [`ThreadExecutor`] gives each worker a thread that sleeps until it is woken; in
//! simulation [`SteppedExecutor`] runs every worker on the caller's thread, in a fixed order, when told
//! to. A worker never blocks on another worker inside `step`: it returns and is woken.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

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

/// One thread for each worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadExecutor;

#[derive(Debug, Default)]
struct ThreadWake {
    state: Mutex<ThreadState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct ThreadState {
    woken: bool,
    done: bool,
}

impl Wake for ThreadWake {
    fn wake(&self) {
        self.state.lock().woken = true;
        self.changed.notify_all();
    }

    fn join(&self) {
        let mut state = self.state.lock();
        while !state.done {
            self.changed.wait(&mut state);
        }
    }
}

impl ThreadWake {
    fn run(&self, mut worker: Box<dyn Worker>) {
        loop {
            let step = worker.step();
            let mut state = self.state.lock();
            match step {
                Step::More => {}
                Step::Idle => {
                    while !state.woken {
                        self.changed.wait(&mut state);
                    }
                }
                Step::After(time) => {
                    if !state.woken {
                        self.changed.wait_for(&mut state, time);
                    }
                }
                Step::Done => break,
            }
            state.woken = false;
        }
        drop(worker);
        self.state.lock().done = true;
        self.changed.notify_all();
    }
}

impl Executor for ThreadExecutor {
    fn spawn(&self, name: &str, worker: Box<dyn Worker>) -> Arc<dyn Wake> {
        let wake = Arc::new(ThreadWake::default());
        let runs = wake.clone();
        let abort = AbortOnPanic(name.to_string());
        let spawned = std::thread::Builder::new().name(name.to_string()).spawn(move || {
            runs.run(worker);
            std::mem::forget(abort);
        });
        if let Err(error) = spawned {
            // Without its workers the engine would wait for ever.
            eprintln!("could not start the thread {name}: {error}");
            std::process::abort();
        }
        wake
    }

    fn wait(&self, gate: &Gate) {
        gate.block();
    }
}

/// Ends the process when a worker panics: what waits for a dead worker would wait for ever.
struct AbortOnPanic(String);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        eprintln!("the background worker {} panicked; ending the process", self.0);
        std::process::abort();
    }
}
