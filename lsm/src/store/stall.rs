//! Slowing writes down before they have to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_vfs::{Gate, Step, Worker};
use parking_lot::Mutex;

use super::view::View;
use super::{Shared, Store};
use crate::compaction::{Load, pause, pressure, space_pause};
use crate::error::StoreError;

/// Shorter pauses are added up: a timer is not that fine.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// Longer ones are cut: a writer is never held up for long where it is not stopped.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Powers of two of microseconds.
const BUCKETS: usize = 32;

/// What writes have waited for background work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StallStats {
    /// Writes that were held back for a moment, so that others need not be stopped.
    pub slowed: u64,
    /// Writes that had to wait for a flush or a compaction.
    pub stopped: u64,
    /// Those of the slowed ones that were for value GC: the disk held nearly as many times more than it has to as
    /// [`space_amplification_max`](crate::gc::GcOptions::space_amplification_max) allows.
    pub slowed_for_space: u64,
    /// All waits for value GC in microseconds.
    pub space_micros_sum: u64,
    /// The longest wait in microseconds.
    pub micros_max: u64,
    /// All waits in microseconds.
    pub micros_sum: u64,
    /// Waits by length: the n-th counts those of less than 2^n microseconds that no bucket before it does.
    pub micros: [u64; BUCKETS],
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Stalls {
    /// Of the tables; the bits of a number from 0 to 1.
    pressure: AtomicU64,
    /// Pauses that writes owe.
    debt: Mutex<Duration>,
    stats: Mutex<StallStats>,
    /// Who pauses, and until when by the monotonic clock.
    paused: Mutex<Vec<(Duration, Arc<Gate>)>>,
}

impl StallStats {
    fn add(&mut self, waited: Duration) {
        let micros = in_micros(waited);
        self.micros_max = self.micros_max.max(micros);
        self.micros_sum = self.micros_sum.saturating_add(micros);
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        if let Some(count) = self.micros.get_mut(bucket.min(BUCKETS - 1)) {
            *count += 1;
        }
    }
}

fn in_micros(waited: Duration) -> u64 {
    u64::try_from(waited.as_micros()).unwrap_or(u64::MAX)
}

/// What a write is held back for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Flushes and compactions.
    Tables,
    /// Value GC.
    Space,
}

impl Shared {
    /// Looks how much there is to compact.
    pub(crate) fn measure_load(&self) {
        let (view, options) = (self.core.view(), &self.core.options);
        let load = Load {
            l0_tables: view.tables.levels.first().map_or(0, Vec::len),
            pending_bytes: self.situation(&view).pending_bytes(&options.pick()),
            last_memtable: 0.0,
        };
        let pressure = pressure(&load, &options.limits());
        self.stalls.pressure.store(pressure.to_bits(), Ordering::Release);
    }

    /// How near to a stop writes are, from 0 to 1, with the active memtable so full.
    fn pressure(&self, view: &View, fill: f64) -> f64 {
        let tables = f64::from_bits(self.stalls.pressure.load(Ordering::Acquire));
        let is_last = view.frozen.len() >= self.core.options.memtables_waiting_max;
        if is_last { tables.max(fill.min(1.0)) } else { tables }
    }
}

impl Store {
    /// Whether an entry can be applied now, without having to wait.
    pub(crate) fn has_room(&self) -> bool {
        let view = self.shared.core.view();
        let fill = self.shared.core.fill(&view);
        !self.is_too_many(&view)
            && self.shared.pressure(&view, fill) <= 0.0
            && self.shared.space_pressure() <= 0.0
            && (fill < 1.0 || self.freeze_if_room())
    }

    /// Waits until the active memtable has room and level 0 is not too full; near to that, or while value GC has to
    /// catch up, for a moment.
    pub(super) fn make_room(&self, bytes: u64) -> Result<(), StoreError> {
        let view = self.shared.core.view();
        let fill = self.shared.core.fill(&view);
        let pressure = self.shared.pressure(&view, fill);
        if self.is_too_many(&view) {
            self.stopped(|store| store.wait_while(|view| store.is_too_many(view)))?;
        }
        if fill >= 1.0 {
            while !self.freeze_if_room() {
                let max = self.options().memtables_waiting_max;
                self.stopped(|store| store.wait_while(|view| view.frozen.len() >= max))?;
            }
        } else {
            let tables = (pause(pressure, bytes), Cause::Tables);
            let space = (space_pause(self.shared.space_pressure(), bytes), Cause::Space);
            let (by, cause) = if space.0 > tables.0 { space } else { tables };
            if !by.is_zero() {
                self.slow_down(by, cause);
            }
        }
        Ok(())
    }

    fn is_too_many(&self, view: &View) -> bool {
        view.tables.levels.first().map_or(0, Vec::len) >= self.options().l0_tables_stop
    }

    fn stopped(&self, wait: impl FnOnce(&Self) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let began = self.shared.clock.monotonic();
        let waited = wait(self);
        let mut stats = self.shared.stalls.stats.lock();
        stats.stopped += 1;
        stats.add(self.shared.clock.monotonic().saturating_sub(began));
        waited
    }

    fn slow_down(&self, by: Duration, cause: Cause) {
        let stalls = &self.shared.stalls;
        let pause = {
            let mut debt = stalls.debt.lock();
            *debt += by;
            if *debt < PAUSE_MIN {
                return;
            }
            std::mem::take(&mut *debt).min(PAUSE_MAX)
        };
        let (gate, began) = (Arc::new(Gate::default()), self.shared.clock.monotonic());
        stalls.paused.lock().push((began + pause, gate.clone()));
        if self.shared.is_stopping() {
            return; // the pacer may have gone
        }
        self.pacer.wake();
        self.executor.wait(&gate);
        let waited = self.shared.clock.monotonic().saturating_sub(began);
        let mut stats = stalls.stats.lock();
        stats.slowed += 1;
        stats.add(waited);
        if cause == Cause::Space {
            stats.slowed_for_space += 1;
            stats.space_micros_sum = stats.space_micros_sum.saturating_add(in_micros(waited));
        }
    }

    /// What writes have waited for background work since the store was opened.
    #[must_use]
    pub fn stall_stats(&self) -> StallStats {
        *self.shared.stalls.stats.lock()
    }
}

/// Ends the pauses of writes.
pub(crate) struct Pacer {
    pub shared: Arc<Shared>,
}

impl Worker for Pacer {
    fn step(&mut self) -> Step {
        let now = self.shared.clock.monotonic();
        let stopping = self.shared.is_stopping();
        let mut paused = self.shared.stalls.paused.lock();
        paused.retain(|(until, gate)| {
            let goes_on = stopping || *until <= now;
            if goes_on {
                gate.open();
            }
            !goes_on
        });
        match paused.iter().map(|(until, _)| *until).min() {
            _ if stopping => Step::Done,
            Some(until) => Step::After(until - now),
            None => Step::Idle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_counted_by_length() {
        let mut stats = StallStats::default();
        for micros in [0, 1, 2, 3, 4, 1 << 40] {
            stats.add(Duration::from_micros(micros));
        }
        assert_eq!(stats.micros[..4], [1, 1, 2, 1]);
        assert_eq!((stats.micros[31], stats.micros_max), (1, 1 << 40));
    }
}
