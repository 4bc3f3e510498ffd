//! What to compact next.

mod deeper;
mod level0;
mod upkeep;

use kv_manifest::TableMeta;

use super::claim::Claim;
use super::range::KeyRange;
use super::situation::{PickOptions, Situation, TableState};

pub use upkeep::is_satisfied;

/// A compaction worth doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What it takes for itself: inputs (those of the upper level first), levels, keys.
    pub claim: Claim,
    /// How it is done.
    pub work: Work,
    /// What for.
    pub why: Why,
    /// Where the next compaction of the upper level begins: behind this key.
    pub cursor: Vec<u8>,
}

/// How a compaction is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The tables go to the other level as they are.
    Move,
    /// The tables are merged into new ones.
    Merge,
}

/// What a compaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Level 0 has too many tables.
    Count,
    /// Level 0 points to many bytes of values, which may overwrite as many.
    Values,
    /// A level is too full.
    Size,
    /// Tombstones and shadowed versions at the bottom.
    Garbage,
    /// Many small tables beside each other.
    Small,
    /// A tombstone has waited long enough.
    Due,
    /// Nothing else is going on.
    Idle,
    /// Somebody asked for it.
    Wanted,
}

impl Why {
    /// The word for it, for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Values => "values",
            Self::Size => "size",
            Self::Garbage => "garbage",
            Self::Small => "small",
            Self::Due => "due",
            Self::Idle => "idle",
            Self::Wanted => "wanted",
        }
    }
}

/// Decides what to compact next; `None`: nothing, or nothing that could go on beside what is running.
#[must_use]
pub fn pick(situation: &Situation<'_>, options: &PickOptions) -> Option<Choice> {
    let picker = Picker::new(situation, options);
    let urgent = situation.level(0).len() >= 2 * options.l0_tables_max;
    let first = if urgent { picker.by_score() } else { None };
    first
        .or_else(|| picker.due())
        .or_else(|| picker.wanted())
        .or_else(|| picker.by_score())
        .or_else(|| picker.garbage())
        .or_else(|| picker.small())
        .or_else(|| picker.idle())
}

struct Picker<'a> {
    situation: &'a Situation<'a>,
    options: &'a PickOptions,
    shape: super::Shape,
    /// Numbers of tables that are being compacted.
    busy: std::collections::BTreeSet<u64>,
}

impl<'a> Picker<'a> {
    fn new(situation: &'a Situation<'a>, options: &'a PickOptions) -> Self {
        let (shape, busy) = (situation.shape(options), situation.busy());
        Self { situation, options, shape, busy }
    }

    fn is_free(&self, table: &TableState<'_>) -> bool {
        !self.busy.contains(&table.meta.id)
    }

    /// The fullest level first, of those that are too full.
    fn by_score(&self) -> Option<Choice> {
        let scores = self.situation.scores(&self.shape, self.options).into_iter().enumerate();
        let mut full: Vec<(usize, f64)> = scores.filter(|(_, score)| *score >= 1.0).collect();
        full.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        full.into_iter().find_map(|(level, _)| match level {
            0 => self.level0(self.why_level0()).or_else(|| self.within_level0()),
            _ => self.deeper(level, Why::Size, |_| true),
        })
    }

    fn why_level0(&self) -> Why {
        let many = self.situation.level(0).len() >= self.options.l0_tables_max;
        if many { Why::Count } else { Why::Values }
    }

    /// Compacts these tables of a level with what they overlap in a deeper one (or the same level: by
    /// themselves), unless that is in the way of what is running.
    fn down(&self, from: usize, upper: &[TableState<'a>], to: usize, why: Why) -> Option<Choice> {
        let metas = |tables: &[TableState<'a>]| tables.iter().map(|table| table.meta).collect::<Vec<_>>();
        let mut range = KeyRange::hull(metas(upper))?;
        let mut upper = upper.to_vec();
        let mut lower = self.lower(from, to, &range);
        if from > 0 && !lower.is_empty() {
            self.expand(from, to, &mut upper, &lower);
            range = KeyRange::hull(metas(&upper))?;
            lower = self.lower(from, to, &range);
        }
        let inputs = [metas(&upper), metas(&lower)].concat();
        if upper.iter().chain(&lower).any(|table| !self.is_free(table)) {
            return None;
        }
        let tables = inputs.iter().map(|table| table.id).collect();
        let cursor = upper.iter().map(|table| &table.meta.largest).max()?.clone();
        let claim = Claim { tables, from, to, range: KeyRange::hull(inputs)? };
        let moves = lower.is_empty() && self.may_move(&upper, &claim);
        let work = if moves { Work::Move } else { Work::Merge };
        let choice = Choice { claim, work, why, cursor };
        (!self.situation.running.iter().any(|running| running.excludes(&choice.claim))).then_some(choice)
    }

    fn lower(&self, from: usize, to: usize, range: &KeyRange) -> Vec<TableState<'a>> {
        if from == to { Vec::new() } else { self.situation.touching(to, range).copied().collect() }
    }

    /// Takes in neighbours above that the tables below reach anyway, if no more of these come with them.
    fn expand(&self, from: usize, to: usize, upper: &mut Vec<TableState<'a>>, lower: &[TableState<'a>]) {
        let all = upper.iter().chain(lower).map(|table| table.meta);
        let Some(hull) = KeyRange::hull(all) else { return };
        let wider: Vec<_> = self.situation.touching(from, &hull).copied().collect();
        let Some(range) = KeyRange::hull(wider.iter().map(|table| table.meta)) else { return };
        let bytes: u64 = wider.iter().chain(lower).map(|table| table.meta.bytes).sum();
        let reaches_more = self.situation.touching(to, &range).count() > lower.len();
        if !reaches_more
            && bytes <= self.options.expand_bytes_max()
            && wider.iter().all(|table| self.is_free(table))
        {
            *upper = wider;
        }
    }

    /// Whether tables that overlap nothing in the level below may go there as they are: they do not overlap
    /// each other, hold nothing that a merge would drop there, and will not be dear to compact further.
    fn may_move(&self, tables: &[TableState<'a>], claim: &Claim) -> bool {
        if claim.from == claim.to {
            return false;
        }
        let mut sorted: Vec<&TableMeta> = tables.iter().map(|table| table.meta).collect();
        sorted.sort_by(|a, b| a.smallest.cmp(&b.smallest));
        let disjoint = sorted.windows(2).all(|pair| matches!(pair, [a, b] if a.largest < b.smallest));
        disjoint && sorted.iter().all(|table| self.may_move_one(table, claim.to))
    }

    fn may_move_one(&self, table: &TableMeta, to: usize) -> bool {
        let range = KeyRange::of(table);
        let drops = table.tombstones > 0 && self.situation.is_bottom(to, &range);
        !drops && self.grandparent_bytes(to, &range) <= self.options.grandparent_bytes_max()
    }

    /// Bytes that an output in this level would overlap in the next.
    fn grandparent_bytes(&self, to: usize, range: &KeyRange) -> u64 {
        self.situation.touching(to + 1, range).map(|table| table.meta.bytes).sum()
    }
}
