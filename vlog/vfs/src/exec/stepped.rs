//! The executor of simulations: one thread, a fixed order, time that moves when told to.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, ReentrantMutex};

use super::{Executor, Gate, Step, Wake, Worker};
use crate::clock::{Clock, ManualClock};

/// The resolution of [`ManualClock`]. Every `After` waits at least this long, so that a worker which asks
/// for no time at all cannot keep the clock from moving.
const TICK: Duration = Duration::from_millis(1);

/// Simulated time after which [`SteppedExecutor::wait`] gives a gate up: workers that wake by timers alone
/// would otherwise keep a lost wake-up running for ever.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// Runs every worker on the caller's thread, in the order of their spawning; cloning shares it.
///
/// Nothing runs unless one of its methods is called. With the same workers and the same calls, the order
/// of steps is the same. Calls from several threads take turns (a step may call back into the executor),
/// but then the order is up to the threads.
#[derive(Clone, Debug)]
pub struct SteppedExecutor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Arc<ManualClock>,
    /// Held while stepping; reentrant since a step may wait for another worker's step.
    turn: ReentrantMutex<()>,
    /// By spawn number. A worker is out of its slot while it is stepped, so that its step can take any of
    /// these locks.
    slots: Mutex<BTreeMap<u64, Arc<Slot>>>,
    /// Who is being stepped, the innermost last.
    stepping: Mutex<Vec<String>>,
}

struct Slot {
    name: String,
    worker: Mutex<Option<Box<dyn Worker>>>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// Since the last step began.
    woken: bool,
    wants: Wants,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    Step,
    Wake,
    /// A wake, or this time by the clock.
    Until(Duration),
    Nothing,
}

impl SteppedExecutor {
    /// An executor without workers, whose timers follow `clock`.
    #[must_use]
    pub fn new(clock: Arc<ManualClock>) -> Self {
        let (turn, slots, stepping) = (ReentrantMutex::new(()), Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { clock, turn, slots, stepping }) }
    }

    /// Name of the worker whose step this is called from; `None` between steps.
    #[must_use]
    pub fn stepping(&self) -> Option<String> {
        self.shared.stepping.lock().last().cloned()
    }

    /// Steps workers until each is idle, waits for a timer or is done. Does not look at the clock. Returns
    /// how many steps that took.
    pub fn run_until_idle(&self) -> u64 {
        self.shared.run_until_idle()
    }

    /// Steps the workers whose time has passed by the clock, then runs until idle. Returns the steps.
    pub fn run_timers(&self) -> u64 {
        let _turn = self.shared.turn.lock();
        self.shared.fire(self.shared.clock.monotonic());
        self.shared.run_until_idle()
    }

    /// Moves the clock by `by` (rounded up to milliseconds), stopping at each timer on the way to run what
    /// it wakes. Returns the steps.
    pub fn advance(&self, by: Duration) -> u64 {
        let _turn = self.shared.turn.lock();
        let by = if by.is_zero() { by } else { ticks(by) };
        let end = self.shared.clock.monotonic() + by;
        let mut steps = self.shared.run_until_idle();
        while let Some(time) = self.shared.next_timer().filter(|time| *time <= end) {
            steps += self.shared.run_at(time);
        }
        steps + self.shared.run_at(end)
    }

    /// Names of the workers that are not done, in the order of their spawning.
    #[must_use]
    pub fn workers(&self) -> Vec<String> {
        self.shared.slots.lock().values().map(|slot| slot.name.clone()).collect()
    }
}

impl Executor for SteppedExecutor {
    fn spawn(&self, name: &str, worker: Box<dyn Worker>) -> Arc<dyn Wake> {
        let slot = Arc::new(Slot {
            name: name.to_string(),
            worker: Mutex::new(Some(worker)),
            state: Mutex::new(State { woken: false, wants: Wants::Step }),
        });
        let mut slots = self.shared.slots.lock();
        let number = slots.last_key_value().map_or(0, |(last, _)| last + 1);
        slots.insert(number, slot.clone());
        Arc::new(SteppedWake { slot, shared: self.shared.clone() })
    }

    /// Steps workers until the gate is open; with all of them idle, moves the clock to the next timer.
    ///
    /// # Panics
    /// When the gate is closed and no worker is left that could open it: in a simulation that is a lost
    /// wake-up. (A gate that another thread is to open cannot be waited for.)
    fn wait(&self, gate: &Gate) {
        self.shared.run_while("a gate", || !gate.is_open());
    }
}

impl Shared {
    fn run_until_idle(&self) -> u64 {
        let _turn = self.turn.lock();
        let mut steps = 0;
        while let pass @ 1.. = self.pass(&|| true) {
            steps += pass;
        }
        steps
    }

    /// Steps each worker that wants it once, while `goes_on`; returns how many steps.
    fn pass(&self, goes_on: &dyn Fn() -> bool) -> u64 {
        let (mut steps, mut from) = (0, 0);
        while goes_on() {
            let next = self.slots.lock().range(from..).next().map(|(number, slot)| (*number, slot.clone()));
            let Some((number, slot)) = next else { break };
            from = number + 1;
            if slot.step(self) {
                steps += 1;
            }
            if slot.is_done() {
                self.slots.lock().remove(&number);
            }
        }
        steps
    }

    /// Runs, and moves the clock from timer to timer, while `needed`.
    #[expect(clippy::panic, reason = "a simulation that waits for what cannot happen must say so and end")]
    fn run_while(&self, what: &str, needed: impl Fn() -> bool) {
        let _turn = self.turn.lock();
        let end = self.clock.monotonic() + PATIENCE;
        while needed() {
            if self.pass(&needed) > 0 {
                continue;
            }
            match self.next_timer() {
                Some(time) if time <= end => {
                    self.move_to(time);
                    self.fire(time);
                }
                Some(_) => panic!("waited for {what} for {PATIENCE:?} of simulated time: {self}"),
                None => panic!("waiting for {what}, but every worker is idle: {self}"),
            }
        }
    }

    fn next_timer(&self) -> Option<Duration> {
        let slots = self.slots.lock();
        let timer = |slot: &Arc<Slot>| match slot.state.lock().wants {
            Wants::Until(time) => Some(time),
            _ => None,
        };
        slots.values().filter_map(timer).min()
    }

    fn run_at(&self, time: Duration) -> u64 {
        self.move_to(time);
        self.fire(time);
        self.run_until_idle()
    }

    fn move_to(&self, time: Duration) {
        self.clock.advance(time.saturating_sub(self.clock.monotonic()));
    }

    /// Makes those want a step whose time has come.
    fn fire(&self, now: Duration) {
        for slot in self.slots.lock().values() {
            let mut state = slot.state.lock();
            if matches!(state.wants, Wants::Until(time) if time <= now) {
                state.wants = Wants::Step;
            }
        }
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots = self.slots.lock();
        if slots.is_empty() {
            return f.write_str("there are no workers");
        }
        f.debug_list().entries(slots.values()).finish()
    }
}

impl Slot {
    /// Steps the worker if it wants that; returns whether it did.
    fn step(&self, shared: &Shared) -> bool {
        {
            let mut state = self.state.lock();
            if state.wants != Wants::Step && !state.woken {
                return false;
            }
            // Not there: it is the worker whose step called back into the executor.
            let Some(mut worker) = self.worker.lock().take() else { return false };
            state.woken = false;
            drop(state);
            shared.stepping.lock().push(self.name.clone());
            let step = worker.step();
            shared.stepping.lock().pop();
            let wants = match step {
                Step::More => Wants::Step,
                Step::Idle => Wants::Wake,
                Step::After(time) => Wants::Until(shared.clock.monotonic() + ticks(time)),
                Step::Done => {
                    drop(worker);
                    self.state.lock().wants = Wants::Nothing;
                    return true;
                }
            };
            *self.worker.lock() = Some(worker);
            self.state.lock().wants = wants;
        }
        true
    }

    fn is_done(&self) -> bool {
        self.state.lock().wants == Wants::Nothing
    }
}

impl Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("name", &self.name).field("state", &*self.state.lock()).finish()
    }
}

#[derive(Debug)]
struct SteppedWake {
    slot: Arc<Slot>,
    shared: Arc<Shared>,
}

impl Wake for SteppedWake {
    fn wake(&self) {
        self.slot.state.lock().woken = true;
    }

    /// # Panics
    /// As [`SteppedExecutor::wait`], when the worker will never be done.
    fn join(&self) {
        let what = format!("the end of the worker {}", self.slot.name);
        self.shared.run_while(&what, || !self.slot.is_done());
    }
}

/// The time rounded up to what the clock can show, at least one tick.
fn ticks(time: Duration) -> Duration {
    let ticks = time.as_nanos().div_ceil(TICK.as_nanos()).max(1);
    TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker made of a closure.
    struct Does<F>(F);

    impl<F: FnMut() -> Step + Send> Worker for Does<F> {
        fn step(&mut self) -> Step {
            (self.0)()
        }
    }

    fn does(f: impl FnMut() -> Step + Send + 'static) -> Box<dyn Worker> {
        Box::new(Does(f))
    }

    /// An executor, its clock, and a place where workers write what they did.
    fn simulation() -> (SteppedExecutor, Arc<ManualClock>, Arc<Mutex<Vec<String>>>) {
        let clock = Arc::new(ManualClock::default());
        (SteppedExecutor::new(clock.clone()), clock, Arc::default())
    }

    #[test]
    fn workers_take_turns_in_the_order_of_spawning() {
        let (executor, _, trace) = simulation();
        for name in ["a", "b"] {
            let (trace, mut left) = (trace.clone(), 2);
            executor.spawn(
                name,
                does(move || {
                    trace.lock().push(name.to_string());
                    left -= 1;
                    if left == 0 { Step::Done } else { Step::More }
                }),
            );
        }
        assert_eq!(executor.workers(), ["a", "b"]);
        assert_eq!(executor.run_until_idle(), 4);
        assert_eq!(*trace.lock(), ["a", "b", "a", "b"]);
        assert!(executor.workers().is_empty());
    }

    #[test]
    fn an_idle_worker_steps_once_for_any_number_of_wakes() {
        let (executor, _, _) = simulation();
        let wake = executor.spawn("idle", does(|| Step::Idle));
        assert_eq!(executor.run_until_idle(), 1);
        assert_eq!(executor.run_until_idle(), 0);
        wake.wake();
        wake.wake();
        assert_eq!(executor.run_until_idle(), 1);
    }

    #[test]
    fn a_wake_during_the_step_is_not_lost() {
        let (executor, _, trace) = simulation();
        let own: Arc<Mutex<Option<Arc<dyn Wake>>>> = Arc::default();
        let (seen, wakes) = (trace.clone(), own.clone());
        let wake = executor.spawn(
            "wakes itself",
            does(move || {
                seen.lock().push("step".into());
                if let (1, Some(wake)) = (seen.lock().len(), wakes.lock().as_ref()) {
                    wake.wake();
                }
                Step::Idle
            }),
        );
        *own.lock() = Some(wake);
        assert_eq!(executor.run_until_idle(), 2);
    }

    #[test]
    fn a_step_may_spawn_wake_wait_for_and_join_others() {
        let (executor, _, trace) = simulation();
        let (inner, seen) = (executor.clone(), trace.clone());
        executor.spawn(
            "outer",
            does(move || {
                let gate = Arc::new(Gate::default());
                let (opens, seen_inside) = (gate.clone(), seen.clone());
                let wake = inner.spawn(
                    "inner",
                    does(move || {
                        seen_inside.lock().push("inner".into());
                        opens.open();
                        if seen_inside.lock().len() == 2 { Step::Done } else { Step::Idle }
                    }),
                );
                inner.wait(&gate);
                wake.wake();
                wake.join();
                assert_eq!(inner.stepping().as_deref(), Some("outer"));
                seen.lock().push("outer".into());
                Step::Done
            }),
        );
        executor.run_until_idle();
        assert_eq!(*trace.lock(), ["inner", "inner", "outer"]);
    }

    #[test]
    fn timers_fire_in_order_when_the_clock_moves() {
        let (executor, clock, trace) = simulation();
        for (name, ms) in [("slow", 70), ("fast", 30)] {
            let (trace, clock) = (trace.clone(), clock.clone());
            executor.spawn(
                name,
                does(move || {
                    trace.lock().push(format!("{name} {}", clock.unix_ms()));
                    Step::After(Duration::from_millis(ms))
                }),
            );
        }
        assert_eq!(executor.run_until_idle(), 2);
        assert_eq!(executor.run_timers(), 0);
        executor.advance(Duration::from_millis(100));
        assert_eq!(*trace.lock(), ["slow 0", "fast 0", "fast 30", "fast 60", "slow 70", "fast 90"]);
        assert_eq!(clock.unix_ms(), 100);
        clock.advance(Duration::from_millis(20));
        assert_eq!(executor.run_timers(), 1);
    }

    #[test]
    fn a_wake_ends_a_timed_wait() {
        let (executor, _, _) = simulation();
        let wake = executor.spawn("timed", does(|| Step::After(Duration::from_secs(1))));
        executor.run_until_idle();
        wake.wake();
        assert_eq!(executor.run_until_idle(), 1);
    }

    #[test]
    fn times_below_the_clocks_resolution_pass() {
        let (executor, clock, _) = simulation();
        executor.spawn("eager", does(|| Step::After(Duration::ZERO)));
        executor.advance(Duration::ZERO);
        assert_eq!(clock.unix_ms(), 0);
        executor.advance(Duration::from_micros(1500));
        assert_eq!(clock.unix_ms(), 2);
    }

    #[test]
    fn waiting_moves_the_clock_to_the_timer_that_opens_the_gate() {
        let (executor, clock, _) = simulation();
        let gate = Arc::new(Gate::default());
        let (opens, now) = (gate.clone(), clock.clone());
        executor.spawn(
            "opens at 50 ms",
            does(move || {
                if now.unix_ms() < 50 {
                    return Step::After(Duration::from_millis(50));
                }
                opens.open();
                Step::Done
            }),
        );
        executor.wait(&gate);
        assert_eq!(clock.unix_ms(), 50);
    }

    #[test]
    #[should_panic(expected = "every worker is idle: [Worker { name: \"sleeper\"")]
    fn waiting_for_what_never_happens_panics() {
        let (executor, _, _) = simulation();
        executor.spawn("sleeper", does(|| Step::Idle));
        executor.wait(&Gate::default());
    }

    #[test]
    #[should_panic(expected = "waited for a gate for 86400s")]
    fn waiting_on_timers_alone_ends() {
        let (executor, _, _) = simulation();
        executor.spawn("ticks", does(|| Step::After(Duration::from_secs(60))));
        executor.wait(&Gate::default());
    }

    #[test]
    fn join_steps_until_the_worker_is_dropped() {
        let (executor, _, _) = simulation();
        let held = Arc::new(());
        let (weak, mut left) = (Arc::downgrade(&held), 3);
        let wake = executor.spawn(
            "counts down",
            does(move || {
                let _held = &held;
                left -= 1;
                if left == 0 { Step::Done } else { Step::After(Duration::from_millis(5)) }
            }),
        );
        wake.join();
        assert!(weak.upgrade().is_none());
        wake.join();
    }
}
