//! What a choice is made from.

use std::collections::BTreeSet;

use kv_manifest::TableMeta;

use super::claim::Claim;
use super::range::KeyRange;
use super::shape::{Shape, value_bytes, weight};
use crate::key::Seq;

/// When to compact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PickOptions {
    /// Tables of level 0 that start a compaction. Default 4.
    pub l0_tables_max: usize,
    /// Bytes of the base level, values counted, above which another level comes before it. Default 256 MiB.
    pub base_bytes: u64,
    /// How many times as much a level holds as the one above it. Default 10.
    pub level_multiplier: u64,
    /// Length of a table. Default 64 MiB.
    pub table_bytes: u64,
    /// Percent of what is live that may be garbage which an idle store leaves. Default 10.
    pub garbage_percent: u64,
}

impl Default for PickOptions {
    fn default() -> Self {
        Self {
            l0_tables_max: 4,
            base_bytes: 256 << 20,
            level_multiplier: 10,
            table_bytes: 64 << 20,
            garbage_percent: 10,
        }
    }
}

impl PickOptions {
    /// Bytes of the level below the outputs that one output may overlap: what its own compaction will cost.
    #[must_use]
    pub fn grandparent_bytes_max(&self) -> u64 {
        self.table_bytes.saturating_mul(self.level_multiplier)
    }

    /// Bytes of tables up to which a merge takes in more of its upper level at no cost in the lower one.
    pub(super) fn expand_bytes_max(&self) -> u64 {
        self.table_bytes.saturating_mul(2 * self.level_multiplier)
    }

    /// Bytes of values that a table points to, as far as they are much more than the table itself: only there is it
    /// next to nothing to merge it early.
    pub(super) fn hidden_bytes(&self, table: &TableMeta) -> u64 {
        value_bytes(table).saturating_sub(table.bytes.saturating_mul(4))
    }

    /// Bytes of tables that a merge within level 0 takes.
    pub(super) fn within_level_0_bytes_max(&self) -> u64 {
        self.table_bytes.saturating_mul(4)
    }
}

/// A table, as far as a choice cares.
#[derive(Clone, Copy, Debug)]
pub struct TableState<'a> {
    /// What the manifest says.
    pub meta: &'a TableMeta,
    /// Different user keys in it.
    pub keys: u64,
    /// Versions in it that have expired for everybody, about.
    pub expired: u64,
    /// Whether it holds a tombstone that should have reached the bottom by now.
    pub due: bool,
}

impl TableState<'_> {
    /// Versions that nobody sees, if no snapshot is open: a newer one of the key is in the same table, or they
    /// delete or have expired, and have nothing to hide.
    pub(super) fn garbage(&self) -> u64 {
        let shadowed = self.meta.entries.saturating_sub(self.keys);
        shadowed.saturating_add(self.meta.tombstones).saturating_add(self.expired).min(self.meta.entries)
    }
}

/// Keys that somebody wants compacted as far down as there is anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// First key.
    pub from: Vec<u8>,
    /// End, exclusive; `None`: to the last.
    pub to: Option<Vec<u8>>,
    /// Newer versions do not matter.
    pub seq: Seq,
}

impl Wanted {
    /// Whether the table may hold what is wanted.
    pub(super) fn concerns(&self, table: &TableMeta) -> bool {
        let before_end = self.to.as_ref().is_none_or(|to| table.smallest < *to);
        before_end && table.largest >= self.from && table.seq_min <= self.seq
    }
}

/// What a choice is made from.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// Tables of each level: level 0 newest first, the others by key.
    pub levels: Vec<Vec<TableState<'a>>>,
    /// What runs.
    pub running: &'a [Claim],
    /// For each level the last key that went down from it: the next compaction begins behind.
    pub cursors: &'a [Vec<u8>],
    /// The seq of the oldest open snapshot.
    pub oldest_snapshot: Option<Seq>,
    /// Whether nothing is being written.
    pub idle: bool,
    /// What is asked for.
    pub wanted: &'a [Wanted],
}

impl<'a> Situation<'a> {
    /// Tables of a level; none where there is no such level.
    #[must_use]
    pub fn level(&self, level: usize) -> &[TableState<'a>] {
        self.levels.get(level).map_or(&[], |tables| tables)
    }

    /// The last level there may be.
    pub(super) fn last(&self) -> usize {
        self.levels.len().saturating_sub(1)
    }

    /// The deepest level with a table, level 0 not counted.
    pub(super) fn deepest(&self) -> Option<usize> {
        (1..self.levels.len()).rev().find(|level| !self.level(*level).is_empty())
    }

    /// Numbers of tables that are being compacted.
    pub(super) fn busy(&self) -> BTreeSet<u64> {
        self.running.iter().flat_map(|claim| claim.tables.iter().copied()).collect()
    }

    /// Tables of a level that may hold a key of the range.
    pub fn touching<'s>(
        &'s self,
        level: usize,
        range: &'s KeyRange,
    ) -> impl Iterator<Item = &'s TableState<'a>> {
        let tables = self.level(level);
        // Level 0 is in no order of keys.
        let from = match level {
            0 => 0,
            _ => tables.partition_point(|table| table.meta.largest < range.smallest),
        };
        let behind = move |table: &&TableState<'a>| level > 0 && table.meta.smallest > range.largest;
        tables
            .iter()
            .skip(from)
            .take_while(move |table| !behind(table))
            .filter(move |table| range.touches_table(table.meta))
    }

    /// Whether no level below this one holds a key of the range.
    pub(super) fn is_bottom(&self, level: usize, range: &KeyRange) -> bool {
        (level + 1..self.levels.len()).all(|deeper| self.touching(deeper, range).next().is_none())
    }

    /// Whether a merge drops all the garbage of the table: no snapshot sees what it shadows.
    pub(super) fn is_unseen(&self, table: &TableMeta) -> bool {
        self.oldest_snapshot.is_none_or(|snapshot| snapshot >= table.seq_max)
    }

    /// What each level stands for, in bytes.
    #[must_use]
    pub fn weights(&self) -> Vec<u64> {
        let sum = |level: &Vec<TableState<'_>>| {
            level.iter().fold(0u64, |sum, table| sum.saturating_add(weight(table.meta)))
        };
        self.levels.iter().map(sum).collect()
    }

    /// What an entry of the deepest level stands for, in bytes, on average: what a tombstone above it frees.
    pub(super) fn mean_entry(&self) -> u64 {
        let tables = self.level(self.deepest().unwrap_or(0));
        let (weights, entries) = tables.iter().fold((0u64, 0u64), |(weights, entries), table| {
            (weights.saturating_add(weight(table.meta)), entries.saturating_add(table.meta.entries))
        });
        weights.checked_div(entries).unwrap_or(0)
    }

    /// What each level should hold.
    #[must_use]
    pub fn shape(&self, options: &PickOptions) -> Shape {
        Shape::of(&self.weights(), options)
    }

    /// Bytes of values that tables of level 0 may point to before they are merged for what they may overwrite.
    fn hidden_bytes_max(&self, options: &PickOptions) -> f64 {
        let stored = self.weights().into_iter().skip(1).max().unwrap_or(0);
        match stored {
            0 => f64::INFINITY,
            _ => (stored / 100 * options.garbage_percent).max(options.base_bytes / 10).max(1) as f64,
        }
    }

    /// How much too full each level is: from 1 on it should be compacted. What is on its way down does not
    /// count; a tombstone counts as what it may free.
    ///
    /// Level 0 is too full with too many tables, or with too many bytes of values that these point to: what they
    /// overwrite is garbage that nobody sees before a merge.
    pub(super) fn scores(&self, shape: &Shape, options: &PickOptions) -> Vec<f64> {
        let leaving = |level: usize| {
            let leaves = move |claim: &&Claim| claim.from == level && claim.to > level;
            self.running.iter().filter(leaves).flat_map(|claim| &claim.tables).collect::<BTreeSet<_>>()
        };
        let mean = self.mean_entry();
        let score = |(level, tables): (usize, &Vec<TableState<'_>>)| {
            let leaving = leaving(level);
            let stay = || tables.iter().filter(|table| !leaving.contains(&table.meta.id));
            if level == 0 {
                let busy = self.busy();
                let free = || stay().filter(|table| !busy.contains(&table.meta.id));
                let count = free().count() as f64 / options.l0_tables_max.max(1) as f64;
                let hidden = free().map(|table| options.hidden_bytes(table.meta)).sum::<u64>() as f64;
                return count.max(hidden / self.hidden_bytes_max(options));
            }
            if level == self.last() {
                return 0.0;
            }
            let full = stay().fold(0u64, |sum, table| {
                let frees = table.meta.tombstones.saturating_mul(mean);
                sum.saturating_add(weight(table.meta)).saturating_add(frees)
            });
            match shape.targets.get(level).copied().unwrap_or(0) {
                // No level of this shape: to be drained, but not before what is really too full.
                0 if full > 0 => 1.0 + full as f64 / options.base_bytes.max(1) as f64,
                0 => 0.0,
                target => full as f64 / target as f64,
            }
        };
        self.levels.iter().enumerate().map(score).collect()
    }

    /// Bytes of tables that compaction has yet to rewrite until no level is too full, about.
    #[must_use]
    pub fn pending_bytes(&self, options: &PickOptions) -> u64 {
        let shape = self.shape(options);
        let files = |level: usize| self.level(level).iter().map(|table| table.meta.bytes).sum::<u64>();
        let pending = |(level, score): (usize, f64)| {
            if score < 1.0 {
                return 0;
            }
            let below = if level == 0 { shape.base } else { level + 1 };
            let excess = if level == 0 { 1.0 } else { 1.0 - 1.0 / score };
            let moved = files(level) as f64 * excess;
            let rewritten = (moved * options.level_multiplier as f64).min(files(below) as f64);
            (moved + rewritten) as u64
        };
        self.scores(&shape, options).into_iter().enumerate().map(pending).sum()
    }
}
