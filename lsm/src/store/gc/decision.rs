//! What the pure decision needs to know of a running store, and what comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kv_vfs::{Space, planted};

use super::Collecting;
use crate::error::StoreError;
use crate::gc::{
    Bounds, Candidate, Decision, FileUse, Footprint, GcOptions, Obstacle, Priority, Verdict, at_rest, decide,
    files, hurried, priority,
};
use crate::options::Options;
use crate::store::pins::{HeldFile, Holder};
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
    fn obstacle(&self, usage: &FileUse) -> Option<Obstacle> {
        if self.claims.is_claimed(usage.file) {
            return Some(Obstacle::Claimed);
        }
        if let Some(why) = self.damaged.lock().get(&usage.file).cloned() {
            return Some(Obstacle::Damaged(why));
        }
        // Pointers are rewritten into files that values were moved into, and no others.
        let is_target = usage.segments.len() > 1;
        (is_target && self.claims.awaits_compaction(usage.file)).then_some(Obstacle::AwaitsCompaction)
    }
}

/// All that there is to say of what value GC would do.
#[derive(Clone, Debug)]
pub struct GcReport {
    /// The files of values, and what is known of them.
    pub candidates: Vec<Candidate>,
    /// What becomes of them.
    pub decision: Decision,
    /// Files that are given up, but that somebody who is older still reads.
    pub held: Vec<HeldFile>,
    /// Who reads now, and how many of each: they would keep any file that was given up now. Nobody where no store is
    /// running.
    pub pins: Vec<(Holder, usize)>,
    /// Open snapshots of different moments. They keep no file: what they see stays live.
    pub snapshots: u64,
    /// What the disk holds; zeros where no store is running.
    pub footprint: Footprint,
}

impl GcReport {
    /// Judges files of which nothing is known but what the manifest says.
    pub(crate) fn of(
        candidates: Vec<Candidate>,
        options: &Options,
        space: Space,
        at_least: Priority,
    ) -> Self {
        let bounds = bounds(&candidates, options, space);
        Self::within(candidates, &options.gc, bounds, at_least)
    }

    fn within(candidates: Vec<Candidate>, options: &GcOptions, bounds: Bounds, at_least: Priority) -> Self {
        let priority = match at_least {
            Priority::Normal => priority(options, &bounds),
            Priority::Emergency => Priority::Emergency,
        };
        let decision = decide(&candidates, options, &bounds, priority);
        let footprint = Footprint::default();
        Self { candidates, decision, held: Vec::new(), pins: Vec::new(), snapshots: 0, footprint }
    }

    /// Files that would be collected next, were it not for a compaction.
    pub(super) fn awaiting(&self) -> BTreeSet<u64> {
        let awaits = |verdict: &Verdict| *verdict == Verdict::Obstacle(Obstacle::AwaitsCompaction);
        self.decision.verdicts.iter().filter(|(_, verdict)| awaits(verdict)).map(|(file, _)| *file).collect()
    }
}

fn bounds(candidates: &[Candidate], options: &Options, space: Space) -> Bounds {
    options.gc_bounds(candidates.iter().map(|candidate| candidate.usage.live_bytes).sum(), space)
}

impl Shared {
    pub(super) fn gc_report(&self, at_least: Priority) -> Result<GcReport, StoreError> {
        let Self { core, collecting, .. } = self;
        let space = core.vfs.space(&core.dir)?;
        let files = self.changes.with_state(files);
        let watched = collecting.watched.lock();
        let candidate = |usage: FileUse| Candidate {
            age: watched.age(usage.file),
            obstacle: collecting.obstacle(&usage),
            usage,
        };
        let candidates: Vec<Candidate> = files.into_iter().map(candidate).collect();
        drop(watched);
        let bounds = bounds(&candidates, &core.options, space);
        let footprint = self.complete(Footprint::of(&candidates, &core.options.gc, &bounds), &candidates);
        let mut options = hurried(&core.options.gc, footprint.haste(&core.options.gc));
        if self.is_idle() {
            options = at_rest(&options, &footprint);
        }
        let report = GcReport::within(candidates, &options, bounds, at_least);
        let pin = core.view().pin.clone();
        let held = match planted::is("files that are still read not told") {
            true => Vec::new(),
            false => collecting.held.files(&pin),
        };
        let (pins, snapshots) = (pin.all_holders(), core.open_snapshots() as u64);
        Ok(GcReport { held, pins, snapshots, footprint, ..report })
    }
}

impl Store {
    /// What value GC would do next, and why not more. `at_least`: [`Priority::Emergency`] to ask as if any garbage
    /// had to go.
    pub fn gc_report(&self, at_least: Priority) -> Result<GcReport, StoreError> {
        self.shared.gc_report(at_least)
    }

    /// As [`Store::gc_report`], the decision alone.
    pub fn gc_decision(&self, at_least: Priority) -> Result<Decision, StoreError> {
        Ok(self.shared.gc_report(at_least)?.decision)
    }
}
