//! Value GC by hand.

use std::sync::atomic::Ordering;

use super::{Collected, Collection};
use crate::error::StoreError;
use crate::gc::{Plan, Priority};
use crate::store::{Store, purge};

/// A collection that was asked for: what was foreseen, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcRun {
    /// What was foreseen.
    pub plan: Plan,
    /// What was done.
    pub done: Collected,
}

impl Store {
    /// Collects now whatever is garbage, of whatever age, until nothing is gained any more; also while paused.
    ///
    /// # Errors
    /// Those of [`Store::collect`]; what was collected before stays so.
    pub fn gc_run(&self) -> Result<Vec<GcRun>, StoreError> {
        self.shared.check()?;
        purge::drop_segments(&self.shared)?;
        let mut runs = Vec::new();
        while let Some(plan) = self.gc_decision(Priority::Emergency)?.plan {
            let done = match self.collect(&plan.files) {
                // A compaction may write pointers into one of the files: what has been done is true nevertheless.
                Err(StoreError::Cancelled(_)) if !runs.is_empty() => break,
                other => other?,
            };
            runs.push(GcRun { plan, done });
        }
        Ok(runs)
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
