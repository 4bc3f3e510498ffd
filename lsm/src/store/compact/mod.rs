//! The compaction workers: each takes what [`pick`](crate::compaction::pick) chose, or a part of it, merges it
//! a piece at a step, and who ends the last part records all of it in one change-set.

mod range;
mod record;
mod table;
mod task;

use std::sync::Arc;
use std::time::Duration;

use kv_vfs::{Step, Worker};

use super::{Shared, StoreError};
use crate::compaction::{Made, Merge, Work};

pub use table::CompactionStats;
pub(crate) use table::Compactions;
use task::Task;

/// Versions that a step merges: short enough to end soon when told to.
const STEP_VERSIONS: u64 = 4096;

/// How long to leave a disk alone that had no room for a table: value GC needs what is there.
const RETRY: Duration = Duration::from_secs(5);

/// See the module.
pub(crate) struct Compactor {
    shared: Arc<Shared>,
    doing: Option<Doing>,
}

/// What a worker has taken.
enum Doing {
    Move(Arc<Task>),
    Merge {
        task: Arc<Task>,
        part: usize,
        merge: Box<Merge>,
    },
    /// All parts have ended.
    Record(Arc<Task>, Vec<Made>),
}

impl Compactor {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, doing: None }
    }

    /// Does a piece of work; says whether there may be more.
    fn advance(&mut self) -> Result<bool, StoreError> {
        match self.doing.take() {
            None => self.take(),
            Some(Doing::Move(task)) => self.shared.move_tables(&task).map(|()| true),
            // Another state was installed, or another part was given up: nobody needs what comes of it, and its claim
            // would be in the way.
            Some(Doing::Merge { task, .. })
                if task.is_given_up() || !task.is_current(&self.shared.core.view()) =>
            {
                self.shared.end(&task);
                Ok(true)
            }
            Some(Doing::Merge { task, part, merge }) => {
                let merged = self.merge(&task, part, *merge);
                self.unless_full(&task, merged)
            }
            Some(Doing::Record(task, made)) => self.shared.record(&task, made).map(|()| true),
        }
    }

    /// Merges a piece of a part.
    fn merge(&mut self, task: &Arc<Task>, part: usize, mut merge: Merge) -> Result<(), StoreError> {
        if merge.advance(STEP_VERSIONS)? {
            self.doing = Some(Doing::Merge { task: task.clone(), part, merge: Box::new(merge) });
            return Ok(());
        }
        let made = merge.finish()?;
        let ended = self.shared.compactions.lock().end_part(task, part, made);
        self.doing = ended.ok().flatten().map(|all| Doing::Record(task.clone(), all));
        Ok(())
    }

    /// With no room on the disk the compaction is given up, as if it had never begun: nothing relies on its outputs.
    fn unless_full(&self, task: &Arc<Task>, result: Result<(), StoreError>) -> Result<bool, StoreError> {
        match result {
            Err(error) if error.is_out_of_space() => {
                tracing::warn!(%error, "a compaction is given up, and tried again later");
                task.give_up();
                self.shared.compactions_refused.add(&error);
                {
                    let mut compactions = self.shared.compactions.lock();
                    compactions.rest_until = self.shared.clock.monotonic() + RETRY;
                    compactions.refuse();
                }
                self.shared.end(task);
                Ok(true)
            }
            result => result.map(|()| true),
        }
    }

    /// Takes the next part of a compaction that has begun, or begins one.
    fn take(&mut self) -> Result<bool, StoreError> {
        let Some((task, part)) = self.shared.take_part() else { return Ok(false) };
        self.doing = Some(match task.choice.work {
            Work::Move => Doing::Move(task),
            Work::Merge => {
                let Some(job) = task.jobs.get(part).cloned() else { return Ok(true) };
                let (shared, core) = (self.shared.clone(), &self.shared.core);
                let numbers = Box::new(move || shared.core.table_identity(shared.changes.allocate()));
                let resolver = task.resolver.clone();
                let resolve = Box::new(move |pointer: &_| resolver.resolve(pointer));
                let options = core.table_options();
                let merge = Merge::start(&core.vfs, &core.dir, job, &options, numbers, resolve)?;
                Doing::Merge { task, part, merge: Box::new(merge) }
            }
        });
        Ok(true)
    }

    /// For how long there is nothing to be tried.
    fn rest(&self) -> Option<Duration> {
        let until = self.shared.compactions.lock().rest_until;
        let left = until.saturating_sub(self.shared.clock.monotonic());
        (self.doing.is_none() && !left.is_zero()).then_some(left)
    }
}

impl Worker for Compactor {
    fn step(&mut self) -> Step {
        if self.shared.is_stopping() {
            return Step::Done;
        }
        if self.shared.check().is_err() {
            return Step::Idle;
        }
        if let Some(rest) = self.rest() {
            return Step::After(rest);
        }
        match self.advance() {
            Ok(true) => Step::More,
            Ok(false) => Step::Idle,
            Err(error) => {
                self.shared.poison(&error);
                Step::Idle
            }
        }
    }
}
