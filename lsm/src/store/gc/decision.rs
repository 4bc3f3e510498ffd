//! What the pure decision needs to know of a running store, and what comes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Collecting;
use crate::error::StoreError;
use crate::gc::{Bounds, Candidate, Decision, Obstacle, Priority, decide, files, priority};
use crate::store::{Shared, Store};

/// For how long files have been complete, as far as somebody watches. Nothing of it is kept over a restart.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// When each was first seen complete.
    since: BTreeMap<u64, Duration>,
    /// When it was looked last; `None`: nobody watches.
    now: Option<Duration>,
}

impl Watched {
    /// Takes note of the files that are complete now.
    pub(super) fn look(&mut self, complete: impl Iterator<Item = u64>, now: Duration) {
        let before = std::mem::take(&mut self.since);
        self.since = complete.map(|file| (file, before.get(&file).copied().unwrap_or(now))).collect();
        self.now = Some(now);
    }

    fn age(&self, file: u64) -> Option<Duration> {
        let now = self.now?;
        Some(now.saturating_sub(self.since.get(&file).copied().unwrap_or(now)))
    }
}

impl Collecting {
    fn obstacle(&self, file: u64) -> Option<Obstacle> {
        if self.claims.is_claimed(file) {
            return Some(Obstacle::Claimed);
        }
        self.damaged.lock().get(&file).cloned().map(Obstacle::Damaged)
    }
}

impl Shared {
    /// Bounds of collections, with the room there is now.
    pub(super) fn gc_bounds(&self) -> Result<Bounds, StoreError> {
        let options = &self.core.options;
        let space = self.core.vfs.space(&self.core.dir)?;
        Ok(Bounds {
            available_bytes: space.available,
            total_bytes: space.total,
            output_bytes_max: *options.segment_bytes.end(),
            group_bytes_max: u64::from(options.group_bytes_max),
        })
    }

    pub(super) fn gc_decision(&self, at_least: Priority) -> Result<Decision, StoreError> {
        let bounds = self.gc_bounds()?;
        let options = &self.core.options.gc;
        let priority = match at_least {
            Priority::Normal => priority(options, &bounds),
            Priority::Emergency => Priority::Emergency,
        };
        let files = self.changes.with_state(files);
        let watched = self.collecting.watched.lock();
        let candidate = |usage: crate::gc::FileUse| Candidate {
            age: watched.age(usage.file),
            obstacle: self.collecting.obstacle(usage.file),
            usage,
        };
        let candidates: Vec<Candidate> = files.into_iter().map(candidate).collect();
        drop(watched);
        Ok(decide(&candidates, options, &bounds, priority))
    }
}

impl Store {
    /// What value GC would do next, and why not more. `at_least`: [`Priority::Emergency`] to ask as if any garbage
    /// had to go.
    pub fn gc_decision(&self, at_least: Priority) -> Result<Decision, StoreError> {
        self.shared.gc_decision(at_least)
    }
}
