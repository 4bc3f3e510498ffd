//! Compactions of a deeper level into the next.

use super::super::situation::TableState;
use super::{Choice, Picker, Why};

impl<'a> Picker<'a> {
    /// The next table of the level behind the last one that went down, round and round: every key gets its
    /// turn. Only tables that are `wanted`.
    pub(super) fn deeper(
        &self,
        level: usize,
        why: Why,
        wanted: impl Fn(&TableState<'a>) -> bool,
    ) -> Option<Choice> {
        if level >= self.situation.last() {
            return None;
        }
        let tables = self.situation.level(level);
        let cursor = self.situation.cursors.get(level).filter(|cursor| !cursor.is_empty());
        let start = cursor.map_or(0, |cursor| tables.partition_point(|t| t.meta.smallest <= *cursor));
        let in_turn = tables.iter().cycle().skip(start).take(tables.len());
        let mut free = in_turn.filter(|table| self.is_free(table) && wanted(table));
        free.find_map(|table| self.down(level, std::slice::from_ref(table), level + 1, why))
    }
}
