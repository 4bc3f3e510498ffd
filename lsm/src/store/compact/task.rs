//! From a choice to work: the tables, the parts, what each part has to know.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kv_manifest::TableMeta;
use kv_vlog::LogTime;

use super::super::view::{Table, View};
use super::super::{Resolver, Shared};
use super::table::Compactions;
use crate::compaction::{
    Choice, Claim, Grandparent, Horizon, Job, KeyRange, PickOptions, RangeSet, Situation, TableState, Wanted,
    Why, Work, is_satisfied, pick, split, value_bytes,
};

/// A compaction, ready to be done.
#[derive(Debug)]
pub(crate) struct Task {
    pub choice: Choice,
    pub inputs: Vec<Arc<Table>>,
    /// One for each part, by key; none where tables only move.
    pub jobs: Vec<Job>,
    /// Keeps the files that outputs point into from being collected until the outputs are recorded.
    pub resolver: Arc<Resolver>,
    /// Whether a part of it could not be done.
    given_up: AtomicBool,
}

impl Task {
    pub(super) fn parts(&self) -> usize {
        self.jobs.len().max(1)
    }

    /// Has the other parts end, too.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    pub(super) fn cause(&self) -> String {
        let Choice { claim: Claim { from, to, .. }, work, why, .. } = &self.choice;
        let verb = if *work == Work::Move { "move" } else { "compact" };
        format!("{verb} L{from}->L{to} ({})", why.name())
    }

    /// Whether the tables are still those that reads see.
    pub(super) fn is_current(&self, view: &View) -> bool {
        let there = |input: &Arc<Table>| view.tables.iter().any(|table| Arc::ptr_eq(table, input));
        self.inputs.iter().all(there)
    }

    /// Bytes of the values that the inputs of the upper level point to.
    pub(super) fn upper_bytes(&self) -> u64 {
        let upper =
            self.inputs.iter().filter(|table| usize::from(table.meta.level) == self.choice.claim.from);
        upper.map(|table| value_bytes(&table.meta)).sum()
    }

    /// Bytes of values that nothing points to any more, given the outputs.
    pub(super) fn shadowed_bytes(&self, outputs: &[TableMeta]) -> u64 {
        let before: u64 = self.inputs.iter().map(|table| value_bytes(&table.meta)).sum();
        before.saturating_sub(outputs.iter().map(value_bytes).sum())
    }

    /// Tombstones of the outputs are not older than this.
    pub(super) fn since(&self) -> Option<Duration> {
        let with_tombstones = self.inputs.iter().filter(|table| table.meta.tombstones > 0);
        let oldest = with_tombstones.map(|table| table.since).min();
        oldest.unwrap_or(Some(Duration::MAX))
    }
}

impl Shared {
    /// The next part of what is being compacted, of a new choice if there is none.
    pub(super) fn take_part(&self) -> Option<(Arc<Task>, usize)> {
        let mut compactions = self.compactions.lock();
        if let Some(part) = compactions.next_part() {
            return Some(part);
        }
        // With the table of jobs held: what a compaction has recorded is in the view before its claim ends. Dropped
        // without: files may go with it, and no file operation is done under that lock.
        let view = self.core.view();
        let Some(task) = self.choose(&view, &mut compactions) else {
            drop(compactions);
            return None;
        };
        tracing::debug!(beside = compactions.claims().len(), parts = task.parts(), "{}", task.cause());
        compactions.begin(task);
        let part = compactions.next_part();
        drop(compactions);
        // For the other parts, and what else can be done beside it.
        self.wake_compactors();
        part
    }

    /// Chooses what to compact, and tells those who wait for nothing more.
    fn choose(&self, view: &View, compactions: &mut Compactions) -> Option<Task> {
        let claims = compactions.claims();
        let horizon = self.core.horizon();
        let wanted: Vec<Wanted> = compactions.asked.iter().map(|asked| asked.wanted.clone()).collect();
        let situation = Situation {
            running: &claims,
            cursors: &compactions.cursors,
            oldest_snapshot: horizon.oldest(),
            idle: self.is_idle(),
            wanted: &wanted,
            ..self.situation_at(view, horizon.time())
        };
        let options = self.core.options.pick();
        let choice = pick(&situation, &options);
        let task = choice.map(|choice| {
            // A size is no reason for haste: the other workers stay free for level 0.
            let free = self.core.options.compactions_max.saturating_sub(claims.len());
            let parts = if choice.why == Why::Size { 1 } else { free };
            let inputs = inputs(view, &choice.claim);
            let jobs = match choice.work {
                Work::Move => Vec::new(),
                Work::Merge => jobs(&situation, &options, &choice.claim, &inputs, parts, &horizon),
            };
            let (resolver, given_up) = (Arc::new(self.resolver()), AtomicBool::new(false));
            Task { choice, inputs, jobs, resolver, given_up }
        });
        compactions.asked.retain(|asked| {
            let waits = !is_satisfied(&situation, &options, &asked.wanted);
            if !waits {
                asked.gate.open();
            }
            waits
        });
        task
    }

    /// The tables of the view, with nothing going on.
    pub(crate) fn situation<'a>(&self, view: &'a View) -> Situation<'a> {
        self.situation_at(view, self.core.horizon().time())
    }

    /// ... where it is so late for whoever reads the oldest state.
    fn situation_at<'a>(&self, view: &'a View, time: LogTime) -> Situation<'a> {
        let now = self.clock.monotonic();
        let state = |table: &'a Arc<Table>| TableState {
            meta: &table.meta,
            keys: table.reader.properties().keys,
            expired: table.reader.properties().expiries.past(time),
            due: self.is_due(table, now),
        };
        let levels = view.tables.levels.iter().map(|level| level.iter().map(state).collect()).collect();
        Situation { levels, running: &[], cursors: &[], oldest_snapshot: None, idle: false, wanted: &[] }
    }

    /// Half of the time is for the levels that are still before it.
    fn is_due(&self, table: &Table, now: Duration) -> bool {
        let Some(within) = self.core.options.erase_within else { return false };
        table.meta.tombstones > 0 && table.since.is_none_or(|since| now.saturating_sub(since) >= within / 2)
    }
}

/// The tables of a claim, in its order.
fn inputs(view: &View, claim: &Claim) -> Vec<Arc<Table>> {
    let find = |id: &u64| view.tables.iter().find(|table| table.meta.id == *id).cloned();
    claim.tables.iter().filter_map(find).collect()
}

fn jobs(
    situation: &Situation<'_>,
    options: &PickOptions,
    claim: &Claim,
    inputs: &[Arc<Table>],
    parts: usize,
    horizon: &Horizon,
) -> Vec<Job> {
    let lower: Vec<&TableMeta> = match claim.from == claim.to {
        true => Vec::new(),
        false => inputs
            .iter()
            .map(|table| &table.meta)
            .filter(|meta| usize::from(meta.level) == claim.to)
            .collect(),
    };
    let cuts = split(&lower, parts, options.table_bytes.saturating_mul(2));
    let grandparents = situation
        .touching(claim.to + 1, &claim.range)
        .map(|table| Grandparent { largest: table.meta.largest.clone(), bytes: table.meta.bytes });
    let whole = Job {
        inputs: Vec::new(),
        from: None,
        to: None,
        horizon: horizon.clone(),
        older: older(situation, claim),
        // What stays in level 0 is one table: there would be no fewer of them.
        table_bytes: if claim.to == 0 { u64::MAX } else { options.table_bytes },
        grandparents: if claim.to == 0 { Vec::new() } else { grandparents.collect() },
        grandparent_bytes_max: options.grandparent_bytes_max(),
        cause: format!("compact L{}->L{}", claim.from, claim.to),
    };
    let bounds = std::iter::once(None).chain(cuts.into_iter().map(Some)).chain([None]).collect::<Vec<_>>();
    let part = |pair: &[Option<Vec<u8>>]| {
        let [from, to] = pair else { return None };
        let reaches = |table: &&Arc<Table>| {
            to.as_ref().is_none_or(|to| table.meta.smallest < *to)
                && from.as_ref().is_none_or(|from| table.meta.largest >= *from)
        };
        let inputs = inputs.iter().filter(reaches).map(|table| table.reader.clone()).collect();
        Some(Job { inputs, from: from.clone(), to: to.clone(), ..whole.clone() })
    };
    bounds.windows(2).filter_map(part).collect()
}

/// Keys that tables older than the outputs may hold: deeper ones, and in level 0 those behind the inputs.
fn older(situation: &Situation<'_>, claim: &Claim) -> RangeSet {
    let beside = situation.level(0).iter().filter(|_| claim.to == 0);
    let oldest_input = situation.level(0).iter().rposition(|table| claim.tables.contains(&table.meta.id));
    let beside = beside.skip(oldest_input.map_or(0, |at| at + 1));
    let deeper =
        (claim.to + 1..situation.levels.len()).flat_map(|level| situation.touching(level, &claim.range));
    beside.chain(deeper).map(|table| KeyRange::of(table.meta)).collect()
}
