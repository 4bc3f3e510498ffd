//! Compactions of level 0, where tables overlap and only their age says which version is newer.

use super::super::claim::Claim;
use super::super::range::KeyRange;
use super::super::situation::TableState;
use super::{Choice, Picker, Why, Work};

/// Tables that are merged within level 0, at least: fewer are not worth writing them twice.
const WITHIN_TABLES_MIN: usize = 4;

impl<'a> Picker<'a> {
    /// The oldest tables of level 0, as many as are free: one that went down before an older one would be
    /// hidden by it.
    pub(super) fn level0(&self, why: Why) -> Option<Choice> {
        let newest_first = self.situation.level(0);
        let busy = newest_first.iter().rposition(|table| !self.is_free(table));
        let oldest = newest_first.get(busy.map_or(0, |at| at + 1)..)?;
        self.down(0, oldest, self.destination(), why)
    }

    /// Where level 0 goes: to the base level, but not past anything older.
    fn destination(&self) -> usize {
        let highest = (1..self.situation.levels.len()).find(|level| !self.situation.level(*level).is_empty());
        highest.map_or(self.shape.base, |highest| highest.min(self.shape.base))
    }

    /// The newest tables of level 0, into one that stays there: when the way down is taken, so that reads do
    /// not have ever more tables to look into.
    pub(super) fn within_level0(&self) -> Option<Choice> {
        let free: Vec<TableState<'a>> =
            self.situation.level(0).iter().take_while(|table| self.is_free(table)).copied().collect();
        let count = self.worth_merging(&free);
        let chosen = free.get(..count).filter(|chosen| chosen.len() >= WITHIN_TABLES_MIN)?;
        let range = KeyRange::hull(chosen.iter().map(|table| table.meta))?;
        let tables = chosen.iter().map(|table| table.meta.id).collect();
        let claim = Claim { tables, from: 0, to: 0, range };
        let excluded = self.situation.running.iter().any(|running| running.excludes(&claim));
        let choice = Choice { claim, work: Work::Merge, why: Why::Count, cursor: Vec::new() };
        (!excluded).then_some(choice)
    }

    /// How many of the newest tables: as long as each one makes the bytes written for a table less fewer.
    fn worth_merging(&self, free: &[TableState<'a>]) -> usize {
        let (mut bytes, mut cost) = (0u64, u64::MAX);
        for (count, table) in free.iter().enumerate() {
            bytes = bytes.saturating_add(table.meta.bytes);
            let next = if count == 0 { u64::MAX } else { bytes / count as u64 };
            if next > cost || bytes > self.options.within_level_0_bytes_max() {
                return count;
            }
            cost = next;
        }
        free.len()
    }
}
