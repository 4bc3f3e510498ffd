//! The worker: purges where that is its task, drops what is dead, and collects what was decided.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kv_vfs::{Clock, Step, Worker};

use super::Collection;
use crate::error::StoreError;
use crate::gc::{Priority, Standing, files, hurried};
use crate::store::{Shared, purge};

/// Bytes copied in one step at most: what a shutdown or a pause waits for.
const STEP_BYTES: u64 = 1 << 20;
/// Steps in a second, where the rate is bounded.
const STEPS_PER_SECOND: u64 = 8;
/// How long to leave the disk alone after it has refused something.
const RETRY: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Collector {
    pub shared: Arc<Shared>,
    pub clock: Arc<dyn Clock>,
    running: Option<Running>,
    /// Files of a collection that met damage: one of them has it, so each goes alone.
    suspects: BTreeSet<u64>,
}

struct Running {
    collection: Collection,
    files: Vec<u64>,
    is_urgent: bool,
}

impl Running {
    /// Bytes of its new file.
    fn written_bytes(&self) -> u64 {
        self.collection.writer.as_ref().map_or(0, kv_vlog::ValueSegmentWriter::bytes)
    }
}

impl Worker for Collector {
    fn step(&mut self) -> Step {
        if self.shared.is_stopping() {
            self.running = None;
            return Step::Done;
        }
        if self.shared.check().is_err() {
            self.running = None;
            return Step::Idle;
        }
        if self.shared.collecting.paused.load(Ordering::Acquire) {
            // Nothing is lost but what was copied: no file is kept longer for the sake of a pause.
            self.running = None;
            self.shared.collecting.space.set_progresses(false);
            // Files grow old meanwhile, and it is told how old they are.
            self.watch();
            return Step::After(self.shared.core.options.gc.interval);
        }
        let result = match self.running.take() {
            Some(running) => self.advance(running),
            None => self.begin(),
        };
        result.unwrap_or_else(|error| self.failed(&error))
    }
}

impl Collector {
    pub(crate) fn new(shared: Arc<Shared>, clock: Arc<dyn Clock>) -> Self {
        Self { shared, clock, running: None, suspects: BTreeSet::new() }
    }

    fn begin(&mut self) -> Result<Step, StoreError> {
        let shared = self.shared.clone();
        let gc = &shared.core.options.gc;
        if let Some(keep_bytes) = shared.core.options.log_kept_bytes {
            purge::purge_to_keep(&shared, keep_bytes)?;
        }
        purge::drop_segments(&shared)?;
        if !gc.automatic {
            shared.bound_pool(None)?;
            return Ok(Step::After(gc.interval));
        }
        self.watch();
        let space = &shared.collecting.space;
        // Before it looks: what changes meanwhile has it look again.
        space.set_waits(true);
        let report = shared.gc_report(Priority::Normal)?;
        space.measure(report.footprint);
        shared.bound_pool(Some(&report.footprint))?;
        shared.collecting.claims.want(report.awaiting());
        let decision = report.decision;
        space.set_progresses(decision.plan.is_some() || shared.compactions.lock().is_busy());
        let Some(plan) = decision.plan else { return Ok(Step::After(gc.interval)) };
        space.set_waits(false);
        let mut files = plan.files;
        if let Some(suspect) = files.iter().copied().find(|file| self.suspects.contains(file)) {
            files = vec![suspect];
        }
        let is_urgent = decision.priority == Priority::Emergency;
        match Collection::begin(&shared, &files) {
            Ok(collection) => self.running = Some(Running { collection, files, is_urgent }),
            Err(error) => return Ok(self.ended(&files, &error)),
        }
        Ok(Step::More)
    }

    /// Takes note of which files are complete.
    fn watch(&self) {
        let files = self.shared.changes.with_state(files);
        let complete =
            files.iter().filter(|found| found.standing == Standing::Complete).map(|found| found.file);
        self.shared.collecting.watched.lock().look(complete, self.clock.monotonic());
    }

    fn advance(&mut self, mut running: Running) -> Result<Step, StoreError> {
        let before = running.collection.read_bytes();
        let stepped = running.collection.step(self.step_bytes(running.is_urgent));
        let step = self.pace(running.collection.read_bytes() - before, running.is_urgent);
        match stepped {
            Ok(true) => {
                self.shared.collecting.space.set_writing(running.written_bytes());
                self.running = Some(running);
                Ok(step)
            }
            Ok(false) => {
                let Running { collection, files, .. } = running;
                match collection.finish() {
                    Ok(done) => {
                        tracing::debug!(?done, ?files, "collected");
                        self.suspects.retain(|file| !files.contains(file));
                        Ok(step)
                    }
                    Err(error) => Ok(self.ended(&files, &error)),
                }
            }
            Err(error) => Ok(self.ended(&running.files, &error)),
        }
    }

    /// Bytes that may be copied in a second, if they are bounded.
    fn rate(&self, is_urgent: bool) -> Option<u64> {
        let shared = &self.shared;
        let per_second = hurried(&shared.core.options.gc, shared.haste()).bytes_per_second_max;
        (!is_urgent && per_second > 0).then_some(per_second)
    }

    fn step_bytes(&self, is_urgent: bool) -> u64 {
        let bounded = self.rate(is_urgent).map(|rate| (rate / STEPS_PER_SECOND).clamp(1, STEP_BYTES));
        bounded.unwrap_or(STEP_BYTES)
    }

    /// The pause that so many bytes ask for.
    fn pace(&self, bytes: u64, is_urgent: bool) -> Step {
        match self.rate(is_urgent) {
            Some(rate) if bytes > 0 => Step::After(Duration::from_secs_f64(bytes as f64 / rate as f64)),
            _ => Step::More,
        }
    }

    /// A collection of these files has failed.
    fn ended(&mut self, files: &[u64], error: &StoreError) -> Step {
        if error.is_damage() {
            match files {
                [file] => {
                    tracing::warn!(%error, file, "a file of values cannot be collected: it is damaged");
                    self.suspects.remove(file);
                    self.shared.collecting.damaged.lock().insert(*file, error.to_string());
                }
                several => self.suspects.extend(several),
            }
            return Step::More;
        }
        self.failed(error)
    }

    fn failed(&self, error: &StoreError) -> Step {
        match error {
            StoreError::Cancelled(why) => {
                tracing::debug!(why, "a collection was given up");
                Step::After(self.shared.core.options.gc.interval / 8)
            }
            StoreError::Poisoned { .. } => Step::Idle,
            other => {
                tracing::warn!(error = %other, "value GC goes on later");
                self.shared.collecting.space.set_progresses(false);
                *self.shared.collecting.last_error.lock() = Some(other.to_string());
                Step::After(RETRY)
            }
        }
    }
}
