//! Compactions that no level is too full for.

use super::super::range::KeyRange;
use super::super::shape::weight;
use super::super::situation::{PickOptions, Situation, TableState, Wanted};
use super::{Choice, Picker, Why};

/// Neighbours that are merged because they are small: an entry is written once more each time that its table
/// grows to eight times its length.
const SMALL_TABLES: usize = 8;

/// Whether nothing is left to be done of what somebody wants.
#[must_use]
pub fn is_satisfied(situation: &Situation<'_>, options: &PickOptions, wanted: &Wanted) -> bool {
    let picker = Picker::new(situation, options);
    let mut tables = situation
        .levels
        .iter()
        .enumerate()
        .flat_map(|(level, tables)| tables.iter().map(move |table| (level, table)));
    !tables.any(|(level, table)| picker.concerns(wanted, level, table))
}

impl<'a> Picker<'a> {
    /// Tables with a tombstone that has waited long enough go a level down, or lose it at the bottom.
    pub(super) fn due(&self) -> Option<Choice> {
        self.first_level(Why::Due, |_, table| table.due && table.meta.tombstones > 0)
    }

    /// What somebody asked for.
    pub(super) fn wanted(&self) -> Option<Choice> {
        let for_one = |wanted: &Wanted| {
            self.first_level(Why::Wanted, |level, table| self.concerns(wanted, level, table))
        };
        self.situation.wanted.iter().find_map(for_one)
    }

    /// Whether the table still has to be compacted for what somebody wants.
    fn concerns(&self, wanted: &Wanted, level: usize, table: &TableState<'a>) -> bool {
        let bottom = self.situation.deepest().unwrap_or(self.situation.last());
        wanted.concerns(table.meta)
            && (level < bottom || (table.garbage() > 0 && self.situation.is_unseen(table.meta)))
    }

    /// Tables at the bottom, a good part of which nobody sees any more: deleted where a snapshot was open
    /// that is closed now.
    pub(super) fn garbage(&self) -> Option<Choice> {
        let much = |table: &TableState<'a>| {
            let garbage = table.garbage().saturating_mul(100);
            garbage > 0 && garbage >= table.meta.entries.saturating_mul(self.options.garbage_percent)
        };
        (1..self.situation.levels.len()).find_map(|level| self.in_place(level, Why::Garbage, &much))
    }

    /// Neighbours in a level that do not fill half a table together. What is written in order and little at a
    /// time moves down as it is, and would make ever more of them.
    pub(super) fn small(&self) -> Option<Choice> {
        (1..self.situation.levels.len()).find_map(|level| {
            let runs = self.situation.level(level).windows(SMALL_TABLES);
            let mut small = runs.filter(|run| self.become_one(level, run));
            small.find_map(|run| self.down(level, run, level, Why::Small))
        })
    }

    /// Whether a merge of these makes one table of them, none of which is most of it.
    fn become_one(&self, level: usize, tables: &[TableState<'a>]) -> bool {
        let bytes = || tables.iter().map(|table| table.meta.bytes);
        let (sum, most): (u64, u64) = (bytes().sum(), bytes().max().unwrap_or(0));
        let Some(range) = KeyRange::hull(tables.iter().map(|table| table.meta)) else { return false };
        sum <= self.options.table_bytes / 2
            && most <= sum / 2
            && self.grandparent_bytes(level, &range) <= self.options.grandparent_bytes_max()
    }

    /// Merges a table at the bottom by itself, if that frees anything.
    fn in_place(&self, level: usize, why: Why, wanted: &dyn Fn(&TableState<'a>) -> bool) -> Option<Choice> {
        let frees = |table: &&TableState<'a>| {
            self.is_free(table)
                && table.garbage() > 0
                && self.situation.is_unseen(table.meta)
                && wanted(table)
                && self.situation.is_bottom(level, &KeyRange::of(table.meta))
        };
        let mut tables = self.situation.level(level).iter().filter(frees);
        tables.find_map(|table| self.down(level, std::slice::from_ref(table), level, why))
    }

    /// The highest level with a wanted table that can go down, or be cleaned at the bottom.
    fn first_level(&self, why: Why, wanted: impl Fn(usize, &TableState<'a>) -> bool) -> Option<Choice> {
        let bottom = self.situation.deepest().unwrap_or(self.situation.last());
        (0..self.situation.levels.len()).find_map(|level| {
            let here = |table: &TableState<'a>| wanted(level, table);
            if !self.situation.level(level).iter().any(here) {
                None
            } else if level == 0 {
                self.level0(why)
            } else if level < bottom {
                self.in_place(level, why, &here).or_else(|| self.deeper(level, why, here))
            } else {
                self.in_place(level, why, &here)
            }
        })
    }

    /// With nothing else to do, all goes down to where most of it lies, if what is above may shadow more
    /// there than is tolerated: only a merge shows value GC what is garbage.
    pub(super) fn idle(&self) -> Option<Choice> {
        let garbage = || self.shadowed().saturating_add(self.expired());
        if !self.situation.idle || garbage() <= self.tolerated() {
            return None;
        }
        let bottom = self.situation.deepest().unwrap_or(self.situation.last());
        let level = (0..bottom).find(|level| !self.situation.level(*level).is_empty())?;
        if level == 0 { self.level0(Why::Idle) } else { self.deeper(level, Why::Idle, |_| true) }
    }

    /// Bytes that have expired in tables above the deepest level, about; in that level they count as garbage of its tables.
    fn expired(&self) -> u64 {
        let bytes = |table: &TableState<'_>| {
            let bytes = u128::from(weight(table.meta)) * u128::from(table.expired);
            (bytes / u128::from(table.meta.entries.max(1))) as u64
        };
        let above = 0..self.situation.deepest().unwrap_or(1);
        above.flat_map(|level| self.situation.level(level)).map(bytes).fold(0, u64::saturating_add)
    }

    /// Bytes of garbage that may stay.
    fn tolerated(&self) -> u64 {
        let live = self.situation.weights().into_iter().max().unwrap_or(0);
        live / 100 * self.options.garbage_percent
    }

    /// Bytes that tables above the deepest level may shadow in it and among themselves, at most and about:
    /// each entry an entry of that level, or what it stands for itself.
    fn shadowed(&self) -> u64 {
        let mean = self.situation.mean_entry();
        let bytes = |table: &TableState<'_>| weight(table.meta).max(table.meta.entries.saturating_mul(mean));
        let several = self.situation.level(0).len() > 1;
        let hides = |level: usize, table: &TableState<'_>| {
            (level == 0 && several) || !self.situation.is_bottom(level, &KeyRange::of(table.meta))
        };
        match self.situation.deepest() {
            Some(bottom) => (0..bottom)
                .flat_map(|level| self.situation.level(level).iter().map(move |table| (level, table)))
                .filter(|(level, table)| hides(*level, table))
                .map(|(_, table)| bytes(table))
                .fold(0, u64::saturating_add),
            // Tables of level 0 alone shadow each other, all but one.
            None => {
                let all = self.situation.level(0).iter().map(bytes);
                let (sum, most) = all.fold((0u64, 0), |(sum, most), b| (sum.saturating_add(b), b.max(most)));
                sum - most
            }
        }
    }
}
