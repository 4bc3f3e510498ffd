//! The job table: what is being compacted, by how many, and what is waited for.

use std::sync::Arc;
use std::time::Duration;

use kv_vfs::Gate;

use super::task::Task;
use crate::compaction::{Claim, LEVELS, Made, Wanted};

/// Bytes of a key that the log shows.
const KEY_SHOWN: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Compactions {
    /// Invariant: no two claims exclude each other.
    running: Vec<Running>,
    /// How many have begun.
    begun: u64,
    /// For each level the last key that went down from it.
    pub cursors: [Vec<u8>; LEVELS],
    /// Who waits for a range to be compacted.
    pub asked: Vec<Asked>,
    pub stats: CompactionStats,
    /// By the monotonic clock: nothing is begun before.
    pub rest_until: Duration,
}

/// A compaction that has begun.
#[derive(Debug)]
struct Running {
    /// Which one of those that have begun since the store was opened, from 1 on.
    number: u64,
    task: Arc<Task>,
    /// The next part that nobody has taken.
    next: usize,
    /// Outputs of the parts that have ended.
    made: Vec<Option<Made>>,
}

/// A compaction that has ended. Files go with it.
pub(super) struct Ended {
    _running: Running,
}

/// Somebody who waits for a range to be compacted.
#[derive(Debug)]
pub(crate) struct Asked {
    pub wanted: Wanted,
    pub gate: Arc<Gate>,
}

/// What compaction has done since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionStats {
    /// Merges that were recorded.
    pub merges: u64,
    /// Those of them that merged tables of level 0 into one that stayed there.
    pub within_level_0: u64,
    /// Parts that they were cut into.
    pub parts: u64,
    /// Compactions that moved tables as they are.
    pub moves: u64,
    /// Bytes of tables read.
    pub read_bytes: u64,
    /// Bytes of tables written.
    pub written_bytes: u64,
    /// Most compactions that ran at one time.
    pub running_max: u64,
    /// Most parts, of all compactions, that were merged at one time.
    pub parts_max: u64,
}

impl Compactions {
    /// Whether anything is being compacted.
    pub(crate) fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// How many compactions have begun and not ended.
    pub(crate) fn running(&self) -> u64 {
        self.running.len() as u64
    }

    /// What is taken.
    pub(super) fn claims(&self) -> Vec<Claim> {
        self.running.iter().map(|running| running.task.choice.claim.clone()).collect()
    }

    /// The next part of what has begun.
    pub(super) fn next_part(&mut self) -> Option<(Arc<Task>, usize)> {
        let running = self.running.iter_mut().find(|running| running.next < running.made.len())?;
        running.next += 1;
        let taken = (running.task.clone(), running.next - 1);
        let merging = self.running.iter().map(Running::merging).sum();
        self.stats.parts_max = self.stats.parts_max.max(merging);
        Some(taken)
    }

    /// Begins a compaction.
    ///
    /// # Panics
    /// If it is in the way of another one: a bug of the choice.
    pub(super) fn begin(&mut self, task: Task) {
        let claim = &task.choice.claim;
        for other in &self.running {
            let other = &other.task.choice.claim;
            assert!(!claim.excludes(other), "two compactions in each other's way: {claim:?}, {other:?}");
        }
        if let Some(cursor) = self.cursors.get_mut(claim.from) {
            cursor.clone_from(&task.choice.cursor);
        }
        self.begun += 1;
        let number = self.begun;
        let [smallest, largest] = [&claim.range.smallest, &claim.range.largest].map(|key| shown(key));
        tracing::debug!(
            job = number,
            from = claim.from,
            to = claim.to,
            tables = ?claim.tables,
            smallest,
            largest,
            "compaction begins"
        );
        let made = (0..task.parts()).map(|_| None).collect();
        self.running.push(Running { number, task: Arc::new(task), next: 0, made });
        self.stats.running_max = self.stats.running_max.max(self.running.len() as u64);
    }

    /// Takes the outputs of a part; gives those of all parts, by key, if it was the last.
    ///
    /// # Errors
    /// The outputs, where the compaction has ended without them: to be dropped by who does not hold this.
    pub(super) fn end_part(
        &mut self,
        task: &Arc<Task>,
        part: usize,
        made: Made,
    ) -> Result<Option<Vec<Made>>, Made> {
        let running = self.running.iter_mut().find(|running| Arc::ptr_eq(&running.task, task));
        let Some(running) = running else { return Err(made) };
        let Some(place) = running.made.get_mut(part) else { return Err(made) };
        *place = Some(made);
        let is_last = running.made.iter().all(Option::is_some);
        Ok(is_last.then(|| running.made.iter_mut().flat_map(Option::take).collect()))
    }

    /// Ends a compaction: recorded, or of no use any more. Gives what parts of it have made, to be dropped by who does
    /// not hold this.
    #[must_use]
    pub(super) fn end(&mut self, task: &Arc<Task>) -> Option<Ended> {
        let at = self.running.iter().position(|running| Arc::ptr_eq(&running.task, task))?;
        let ended = self.running.swap_remove(at);
        tracing::debug!(job = ended.number, "compaction ends");
        Some(Ended { _running: ended })
    }

    /// When the workers have ended: what they made is of no use.
    pub(crate) fn clear(&mut self) {
        self.running.clear();
        self.refuse();
    }

    /// Nobody gets what was asked for.
    pub(crate) fn refuse(&mut self) {
        self.asked.drain(..).for_each(|asked| asked.gate.open());
    }
}

/// A key for people, its beginning where it is long.
fn shown(key: &[u8]) -> String {
    key.get(..KEY_SHOWN).unwrap_or(key).escape_ascii().to_string()
}

impl Running {
    fn merging(&self) -> u64 {
        self.next as u64 - self.made.iter().filter(|made| made.is_some()).count() as u64
    }
}
