//! What reads may be as of: what is newest, open snapshots, and earlier states that are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use kv_vlog::LogTime;

use super::core::visible_after;
use super::history::History;
use super::snapshot::Era;
use super::view::View;
use crate::compaction::Horizon;
use crate::error::StoreError;
use crate::key::{Moment, Seq};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Moments {
    visible: Moment,
    era: Arc<Era>,
    /// Open snapshots.
    open: BTreeMap<Moment, usize>,
    pub history: History,
}

impl Moments {
    /// Where everything up to the entry `applied` is in tables.
    pub(crate) fn new(applied: Option<u64>, history: History) -> Self {
        let seq = applied.map_or(0, visible_after);
        Self { visible: Moment { seq, time: history.time() }, history, ..Self::default() }
    }

    /// What is newest.
    pub(crate) fn visible(&self) -> Moment {
        self.visible
    }

    /// An entry was applied: reads see it from now on.
    pub(crate) fn applied(&mut self, index: u64, time: LogTime) {
        self.history.applied(index, time);
        self.visible = Moment { seq: visible_after(index), time: self.history.time() };
    }

    /// Another state takes the place of all that reads see, which was `last`.
    pub(crate) fn replaced(&mut self, last: Arc<View>, index: u64, time: LogTime) {
        self.era.end(last);
        self.era = Arc::default();
        self.history.replaced(index, time);
        self.visible = Moment { seq: visible_after(index), time: self.history.time() };
    }

    /// Pins what is newest.
    pub(crate) fn pin(&mut self) -> (Moment, Arc<Era>) {
        self.pin_moment(self.visible)
    }

    /// Pins the state as of the entry that wrote a version.
    pub(crate) fn pin_at(&mut self, version: Seq) -> Result<(Moment, Arc<Era>), StoreError> {
        let index = version >> 16;
        let newest = self.visible.seq >> 16;
        if index > newest || self.visible.seq == 0 {
            return Err(StoreError::Invalid(format!(
                "a state as of revision {version}; the newest is of entry {newest}, this one would be of entry {index}"
            )));
        }
        let oldest = self.history.floor().unwrap_or(newest);
        if index < oldest {
            return Err(StoreError::Compacted { asked: version, oldest: visible_after(oldest) });
        }
        let seq = visible_after(index);
        Ok(self.pin_moment(Moment { seq, time: self.history.time_at(index) }))
    }

    fn pin_moment(&mut self, moment: Moment) -> (Moment, Arc<Era>) {
        *self.open.entry(moment).or_default() += 1;
        (moment, self.era.clone())
    }

    pub(crate) fn unpin(&mut self, moment: Moment) {
        if let Some(count) = self.open.get_mut(&moment) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&moment);
            }
        }
    }

    /// How many different moments are pinned.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    /// Who may read what is merged, when it is `now` for all who come later.
    pub(crate) fn horizon(&self, now: LogTime) -> Horizon {
        let oldest = self.history.floor().map(|floor| {
            let time = self.history.time_at(floor);
            Moment { seq: visible_after(floor), time }
        });
        Horizon::new(self.open.keys().copied().collect(), now, oldest)
    }
}
