//! What time it was at which entry, and which earlier states can be read.

use std::collections::VecDeque;
use std::time::Duration;

use kv_manifest::{Edit, State, TimeStep};
use kv_vlog::LogTime;

use crate::options::Options;

/// How much of what was can be read; neither: only what is newest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// States as of so many last entries.
    pub entries: u64,
    /// States that were the newest one in so many last seconds.
    pub seconds: LogTime,
}

impl Kept {
    pub(crate) fn of(options: &Options) -> Self {
        let seconds = options.keep_age.unwrap_or(Duration::ZERO).as_secs();
        Self { entries: options.keep_versions, seconds: LogTime::try_from(seconds).unwrap_or(LogTime::MAX) }
    }

    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// See the module. Time comes with entries and never goes back; it is kept in steps, from the oldest state on that can
/// be read or is to be flushed.
///
/// What the manifest knows of it, it learns with what is flushed and compacted: a merge may drop what was needed for a state
/// only if the same change-set says that the state cannot be read any more.
#[derive(Debug, Default)]
pub(crate) struct History {
    kept: Kept,
    /// Ascending by index and by time.
    steps: VecDeque<TimeStep>,
    /// States as of this entry and later ones can be read; `None`: only the newest.
    floor: Option<u64>,
    /// Up to here entries are in tables.
    flushed: u64,
    recorded: Recorded,
}

/// What the manifest says.
#[derive(Debug, Default)]
struct Recorded {
    step: Option<TimeStep>,
    floor: Option<u64>,
}

impl Recorded {
    /// Whether it does not know of this step, nor that it is that late.
    fn is_before(&self, step: &TimeStep) -> bool {
        let (index, time) = self.step.map_or((None, 0), |last| (Some(last.index), last.time));
        Some(step.index) > index && step.time > time
    }
}

impl History {
    pub(crate) fn new(kept: Kept, state: &State) -> Self {
        let flushed = state.flushed.map_or(0, |at| at.index);
        Self {
            kept,
            steps: state.times.iter().copied().collect(),
            floor: (!kept.is_nothing()).then(|| state.history_floor.unwrap_or(flushed)),
            flushed,
            recorded: Recorded { step: state.times.last().copied(), floor: state.history_floor },
        }
    }

    /// What time it is.
    pub(crate) fn time(&self) -> LogTime {
        self.steps.back().map_or(0, |step| step.time)
    }

    /// What time it was once this entry was applied, if it is none that was forgotten.
    pub(crate) fn time_at(&self, index: u64) -> LogTime {
        let known = self.steps.partition_point(|step| step.index <= index);
        known.checked_sub(1).and_then(|last| self.steps.get(last)).map_or(0, |step| step.time)
    }

    /// What time it is for certain: as of the last entry that is in tables. A recovery comes to no earlier one.
    pub(crate) fn durable_time(&self) -> LogTime {
        self.time_at(self.flushed)
    }

    /// The oldest entry as of which the state can be read; `None`: only that of the newest can.
    pub(crate) fn floor(&self) -> Option<u64> {
        self.floor
    }

    /// An entry was applied, which says that it is this time.
    pub(crate) fn applied(&mut self, index: u64, time: LogTime) {
        if time > self.time() {
            self.steps.push_back(TimeStep { index, time });
        }
        if let Some(floor) = self.floor {
            self.floor = Some(floor.max(self.wanted_floor(index)));
        }
    }

    /// Another state took the place of everything.
    pub(crate) fn replaced(&mut self, index: u64, time: LogTime) {
        self.steps = VecDeque::from([TimeStep { index, time: time.max(self.time()) }]);
        self.floor = self.floor.map(|_| index);
        self.flushed = index;
    }

    fn wanted_floor(&self, newest: u64) -> u64 {
        let by_number = newest.saturating_sub(self.kept.entries);
        let old = self.time().saturating_sub(self.kept.seconds);
        // Up to before this step, states were followed by others that were old, too.
        let young = self.steps.partition_point(|step| step.time <= old);
        let by_age = self.steps.get(young).map_or(newest, |step| step.index.saturating_sub(1));
        match self.kept {
            Kept { seconds: 0, .. } => by_number,
            // Of what was before the first step nobody knows how old it is.
            Kept { entries: 0, .. } if young > 0 => by_age,
            _ if young > 0 => by_number.min(by_age),
            _ => 0,
        }
    }

    /// The edits that go with the flush of everything up to this entry.
    pub(crate) fn flush_edits(&mut self, index: u64) -> Vec<Edit> {
        let new = self.steps.iter().filter(|step| step.index <= index && self.recorded.is_before(step));
        let mut new: Vec<TimeStep> = new.copied().collect();
        if self.floor.is_none() {
            new.drain(..new.len().saturating_sub(1));
        }
        self.recorded.step = new.last().copied().or(self.recorded.step);
        new.into_iter().map(Edit::LogTime).chain(self.floor_edit(index)).collect()
    }

    /// The edits that go with the installation of a state as of this entry and time.
    pub(crate) fn install_edits(&mut self, index: u64, time: LogTime) -> Vec<Edit> {
        let step = Some(TimeStep { index, time }).filter(|step| self.recorded.is_before(step));
        self.recorded.step = step.or(self.recorded.step);
        let floor = self.floor.map(|_| index);
        let is_other = floor != self.recorded.floor;
        self.recorded.floor = floor;
        step.map(Edit::LogTime).into_iter().chain(is_other.then_some(Edit::HistoryFloor(floor))).collect()
    }

    /// The edit that goes with a compaction.
    pub(crate) fn compaction_edit(&mut self) -> Option<Edit> {
        self.floor_edit(self.flushed)
    }

    /// Tables hold nothing behind `flushed`: whatever becomes of them, the state as of that can be read.
    fn floor_edit(&mut self, flushed: u64) -> Option<Edit> {
        let floor = self
            .floor
            .map(|floor| floor.min(flushed))
            .max(self.recorded.floor.filter(|_| self.floor.is_some()));
        let is_new = floor != self.recorded.floor;
        self.recorded.floor = floor;
        is_new.then_some(Edit::HistoryFloor(floor))
    }

    /// Everything up to this entry is in tables now.
    pub(crate) fn flushed(&mut self, index: u64) {
        self.flushed = self.flushed.max(index);
        let oldest = self.floor.map_or(self.flushed, |floor| floor.min(self.flushed));
        let known = self.steps.partition_point(|step| step.index <= oldest);
        self.steps.drain(..known.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_manifest::LogPosition;

    fn history(entries: u64, seconds: LogTime) -> History {
        let mut state = State::default();
        state.flushed = Some(LogPosition { term: 1, index: 10 });
        History::new(Kept { entries, seconds }, &state)
    }

    /// Entries 11 to 30: three at a time at times 100, 110, ...
    fn filled(entries: u64, seconds: LogTime) -> History {
        let mut history = history(entries, seconds);
        (11..=30).for_each(|index| history.applied(index, 100 + (index as LogTime - 11) / 3 * 10));
        history
    }

    fn step(index: u64, time: LogTime) -> Edit {
        Edit::LogTime(TimeStep { index, time })
    }

    #[test]
    fn time_goes_on_in_steps_and_never_back() {
        let mut history = filled(0, 0);
        assert_eq!([9, 11, 13, 14, 30].map(|index| history.time_at(index)), [0, 100, 100, 110, 160]);
        history.applied(31, 5);
        history.applied(32, 0);
        assert_eq!((history.time(), history.time_at(32), history.durable_time()), (160, 160, 0));
        assert_eq!(history.floor(), None);
        assert_eq!(history.flush_edits(16), [step(14, 110)]);
        history.flushed(16);
        assert_eq!((history.durable_time(), history.time_at(16), history.time_at(17)), (110, 110, 120));
        assert_eq!(history.flush_edits(16), []);
        assert_eq!(history.flush_edits(32), [step(29, 160)]);
        history.flushed(32);
        assert_eq!(history.steps.len(), 1);
    }

    #[test]
    fn states_are_kept_by_number_and_by_age() {
        assert_eq!(filled(0, 0).floor(), None);
        assert_eq!(filled(7, 0).floor(), Some(23));
        // It is 160. Up to entry 25 (140) states had been replaced by 140 and before; that of 25 was still new after that.
        assert_eq!(filled(0, 20).floor(), Some(25));
        assert_eq!(filled(0, 19).floor(), Some(25));
        assert_eq!(filled(0, 21).floor(), Some(22));
        assert_eq!(filled(0, 1).floor(), Some(28));
        assert_eq!(filled(0, 1000).floor(), Some(10));
        assert_eq!(filled(7, 20).floor(), Some(23));
        assert_eq!(filled(3, 20).floor(), Some(25));
    }

    #[test]
    fn the_manifest_learns_the_floor_with_what_may_break_it() {
        let mut history = filled(7, 0);
        assert_eq!(history.compaction_edit(), Some(Edit::HistoryFloor(Some(10))));
        assert_eq!(history.compaction_edit(), None);
        let edits = history.flush_edits(26);
        assert_eq!(edits.last(), Some(&Edit::HistoryFloor(Some(23))));
        assert_eq!(edits.len(), 7, "{edits:?}");
        history.flushed(26);
        // The step that says what time it was at the floor stays.
        assert_eq!((history.time_at(22), history.time_at(23)), (0, 140));
        (31..=60).for_each(|index| history.applied(index, 161));
        assert_eq!(history.compaction_edit(), Some(Edit::HistoryFloor(Some(26))));
        assert_eq!(history.install_edits(80, 170), [step(80, 170), Edit::HistoryFloor(Some(80))]);
        history.replaced(80, 170);
        assert_eq!((history.floor(), history.time(), history.durable_time()), (Some(80), 170, 170));
        // A state of the same time.
        assert_eq!(history.install_edits(90, 170), [Edit::HistoryFloor(Some(90))]);
        history.replaced(90, 170);
        assert_eq!(history.flush_edits(95), []);
        history.applied(96, 171);
        assert_eq!(history.flush_edits(96), [step(96, 171)]);
    }

    #[test]
    fn who_keeps_no_history_ends_what_was_kept() {
        let mut state = State::default();
        state.history_floor = Some(4);
        let mut history = History::new(Kept::default(), &state);
        assert_eq!(history.compaction_edit(), Some(Edit::HistoryFloor(None)));
        assert_eq!(history.flush_edits(9), []);
        let mut goes_on = History::new(Kept { entries: 2, seconds: 0 }, &state);
        assert_eq!((goes_on.floor(), goes_on.compaction_edit()), (Some(4), None));
    }
}
