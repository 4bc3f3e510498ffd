//! Value GC by hand.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kv_vfs::Gate;

use super::{Collected, Collection};
use crate::error::StoreError;
use crate::gc::{Plan, Priority};
use crate::store::{Store, purge};

/// Collections in a row that were given up because somebody else had changed what they were to change.
const CANCELLED_MAX: u32 = 8;

/// A collection that was asked for: what was foreseen, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcRun {
    /// What was foreseen.
    pub plan: Plan,
    /// What was done.
    pub done: Collected,
}

impl Store {
    /// Collects now whatever is garbage, of whatever age, until nothing is gained any more; also while paused. Waits for
    /// compactions that keep files from it.
    ///
    /// # Errors
    /// Those of [`Store::collect`]; what was collected before stays so.
    pub fn gc_run(&self) -> Result<Vec<GcRun>, StoreError> {
        self.shared.check()?;
        let (mut runs, mut cancelled) = (Vec::new(), 0);
        loop {
            // Before it looks: a compaction that ends meanwhile opens it.
            let gate = Arc::new(Gate::default());
            self.shared.waiting.lock().push(gate.clone());
            let report = self.gc_report(Priority::Emergency)?;
            let awaiting = report.awaiting();
            self.shared.collecting.claims.want(awaiting.clone());
            let Some(plan) = report.decision.plan else {
                if awaiting.is_empty() || !self.is_compacting() {
                    // Dead files went by plan, so that what they gave back is told; this is what only the manifest names.
                    purge::drop_segments(&self.shared)?;
                    return Ok(runs);
                }
                self.executor.wait(&gate);
                self.shared.check()?;
                continue;
            };
            match self.collect(&plan.files) {
                Ok(done) => {
                    cancelled = 0;
                    runs.push(GcRun { plan, done });
                }
                // Somebody was quicker to take one of the files, or it is gone: the next look sees that.
                Err(StoreError::Cancelled(_) | StoreError::Invalid(_)) if cancelled < CANCELLED_MAX => {
                    cancelled += 1;
                }
                Err(StoreError::Cancelled(_)) if !runs.is_empty() => return Ok(runs),
                Err(error) => return Err(error),
            }
        }
    }

    fn is_compacting(&self) -> bool {
        !self.shared.is_stopping() && self.shared.compactions.lock().is_busy()
    }

    /// Has value GC not run by itself until [`Store::gc_resume`]; a collection that is under way is given up. Ends
    /// with the process.
    pub fn gc_pause(&self) {
        self.shared.collecting.paused.store(true, Ordering::Release);
        self.collector.wake();
    }

    /// Lets value GC run by itself again.
    pub fn gc_resume(&self) {
        self.shared.collecting.paused.store(false, Ordering::Release);
        self.collector.wake();
    }

    /// Whether value GC is paused.
    #[must_use]
    pub fn gc_is_paused(&self) -> bool {
        self.shared.collecting.paused.load(Ordering::Acquire)
    }

    /// Why value GC went on later than it wanted to, the last time that it did.
    #[must_use]
    pub fn gc_last_error(&self) -> Option<String> {
        self.shared.collecting.last_error.lock().clone()
    }

    /// Collects these files, the caller driving.
    pub(crate) fn drive(mut collection: Collection) -> Result<Collected, StoreError> {
        const STEP_BYTES: u64 = 4 << 20;
        while collection.step(STEP_BYTES)? {}
        collection.finish()
    }
}
