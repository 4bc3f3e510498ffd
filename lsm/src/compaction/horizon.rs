//! Who may still read what is merged.

use kv_vlog::LogTime;

use crate::key::{Moment, Seq};

/// The moments as of which somebody reads, or may read: what a merge must not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// Ascending, none of a later time than `now`.
    moments: Vec<Moment>,
    now: LogTime,
    /// States as of each version behind this one may be read.
    history: Seq,
}

impl Default for Horizon {
    fn default() -> Self {
        Self::new(Vec::new(), 0, None)
    }
}

impl Horizon {
    /// Open snapshots, in any order; the newest time that a recovery is sure to come to again, which is no later than that
    /// of any read to come; and the oldest of the earlier states that may be read, if any may.
    #[must_use]
    pub fn new(mut moments: Vec<Moment>, now: LogTime, history: Option<Moment>) -> Self {
        moments.extend(history);
        moments.iter_mut().for_each(|moment| moment.time = moment.time.min(now));
        moments.sort_unstable();
        Self { moments, now, history: history.map_or(Seq::MAX, |oldest| oldest.seq) }
    }

    /// The oldest version that somebody reads as of; `None`: all read what is newest.
    #[must_use]
    pub fn oldest(&self) -> Option<Seq> {
        self.moments.first().map(|moment| moment.seq)
    }

    /// What time it is for whoever reads the oldest state.
    #[must_use]
    pub fn time(&self) -> LogTime {
        self.moments.first().map_or(self.now, |moment| moment.time)
    }

    /// How many of the moments are too old to see the version.
    pub(super) fn blind(&self, seq: Seq) -> usize {
        self.moments.partition_point(|moment| moment.seq < seq)
    }

    /// Whether somebody may see an older version of a key in spite of this one, though no moment lies between.
    pub(super) fn is_history(&self, seq: Seq) -> bool {
        seq > self.history
    }

    /// What time it is at least for all who see a version that so many moments are too old for; `None`: nobody knows.
    pub(super) fn time_of(&self, seq: Seq, blind: usize) -> Option<LogTime> {
        if self.is_history(seq) {
            return None;
        }
        Some(self.moments.get(blind).map_or(self.now, |moment| moment.time))
    }
}
