//! The way back from a change-set that was applied but turned out wrong, or could not be written.

use std::sync::Arc;

use crate::edit::{Identity, LogPosition, TableMeta, TimeStep};
use crate::state::{SegmentState, State};

/// The way back from one applied change-set.
#[derive(Debug)]
pub(crate) struct Undo {
    /// Tables and segments as they were, in the order in which they were changed.
    pub(crate) entries: Vec<Was>,
    identity: Identity,
    flushed: Option<LogPosition>,
    membership: Vec<u8>,
    replay_from: Option<u64>,
    purge_floor: Option<LogPosition>,
    next_file: u64,
    epoch: u64,
    times: Arc<Vec<TimeStep>>,
    history_floor: Option<u64>,
    number: u64,
}

/// What stood in one place before.
#[derive(Debug)]
pub(crate) enum Was {
    Table(u64, Option<Box<TableMeta>>),
    Segment(u64, Option<Box<SegmentState>>),
}

impl Undo {
    pub(crate) fn of(state: &State) -> Self {
        Self {
            entries: Vec::new(),
            identity: state.identity.clone(),
            flushed: state.flushed,
            membership: state.membership.clone(),
            replay_from: state.replay_from,
            purge_floor: state.purge_floor,
            next_file: state.next_file,
            epoch: state.epoch,
            times: state.times.clone(),
            history_floor: state.history_floor,
            number: state.number,
        }
    }

    /// Makes the state what it was before the change-set.
    pub(crate) fn run(self, state: &mut State) {
        for entry in self.entries.into_iter().rev() {
            match entry {
                Was::Table(id, was) => drop(state.put_table(id, was.map(|was| *was))),
                Was::Segment(id, was) => drop(state.put_segment(id, was.map(|was| *was))),
            }
        }
        state.identity = self.identity;
        state.flushed = self.flushed;
        state.membership = self.membership;
        state.replay_from = self.replay_from;
        state.purge_floor = self.purge_floor;
        state.next_file = self.next_file;
        state.epoch = self.epoch;
        state.times = self.times;
        state.history_floor = self.history_floor;
        state.number = self.number;
    }
}
