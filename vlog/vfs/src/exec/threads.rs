//! The executor of production.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::{Executor, Gate, Step, Wake, Worker};

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
        if !std::thread::panicking() {
            return; // the thread could not be started: `spawn` says so
        }
        eprintln!("the background worker {} panicked; ending the process", self.0);
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    struct Does<F>(F);

    impl<F: FnMut() -> Step + Send> Worker for Does<F> {
        fn step(&mut self) -> Step {
            (self.0)()
        }
    }

    #[test]
    fn a_worker_sleeps_until_woken_and_is_dropped_before_join_returns() {
        let (steps, seen) = mpsc::channel();
        let held = Arc::new(());
        let (weak, mut count) = (Arc::downgrade(&held), 0);
        let worker = move || {
            let _held = &held;
            count += 1;
            let name = std::thread::current().name().map(str::to_string);
            steps.send((count, name)).unwrap();
            if count == 2 { Step::Done } else { Step::Idle }
        };
        let wake = ThreadExecutor.spawn("sleeper", Box::new(Does(worker)));
        assert_eq!(seen.recv().unwrap(), (1, Some("sleeper".to_string())));
        wake.wake();
        assert_eq!(seen.recv().unwrap().0, 2);
        wake.join();
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn a_wake_interrupts_a_timed_wait_and_time_ends_it() {
        let (steps, seen) = mpsc::channel();
        let mut waits =
            [Step::After(Duration::from_secs(3600)), Step::After(Duration::from_millis(1)), Step::Done]
                .into_iter();
        let worker = move || {
            let step = waits.next().unwrap();
            steps.send(step).unwrap();
            step
        };
        let wake = ThreadExecutor.spawn("timed", Box::new(Does(worker)));
        seen.recv().unwrap();
        wake.wake();
        wake.join();
        assert_eq!(seen.iter().count(), 2);
    }

    #[test]
    fn wait_returns_when_a_worker_opens_the_gate() {
        let gate = Arc::new(Gate::default());
        let opens = gate.clone();
        let worker = move || {
            opens.open();
            Step::Done
        };
        ThreadExecutor.spawn("opens", Box::new(Does(worker)));
        ThreadExecutor.wait(&gate);
        assert!(gate.is_open());
    }

    /// The process that dies is this test, run again with the variable set.
    #[test]
    fn a_panic_in_a_worker_ends_the_process() {
        const CHILD: &str = "KV_VFS_TEST_PANIC_IN_WORKER";
        if std::env::var_os(CHILD).is_some() {
            ThreadExecutor.spawn("doomed", Box::new(Does(|| panic!("on purpose")))).join();
            return;
        }
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "exec::threads::tests::a_panic_in_a_worker_ends_the_process", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr);
        assert!(!child.status.success());
        assert!(said.contains("on purpose") && said.contains("worker doomed panicked"), "{said}");
    }
}
