//! What to compact next.

use kv_manifest::TableMeta;

/// When to compact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PickOptions {
    /// Tables of level 0 that start a compaction. Default 4.
    pub l0_tables_max: usize,
}

impl Default for PickOptions {
    fn default() -> Self {
        Self { l0_tables_max: 4 }
    }
}

/// A compaction worth doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Tables that go to another level as they are.
    Move {
        /// Their ids.
        tables: Vec<u64>,
        /// The level they go to.
        level: u8,
    },
    /// Tables to be merged into new ones.
    Merge {
        /// Their ids, level 0 first.
        tables: Vec<u64>,
        /// The level that the new ones go to.
        level: u8,
    },
}

/// Decides what to compact next, given the tables of each level.
///
/// Level 0 goes down as a whole: its tables overlap, and a version that went down before an older one of
/// its key would be hidden by it.
#[must_use]
pub fn pick(levels: &[Vec<&TableMeta>], options: &PickOptions) -> Option<Choice> {
    let [level0, deeper @ ..] = levels else { return None };
    if level0.is_empty() || level0.len() < options.l0_tables_max {
        return None;
    }
    let level1: &[&TableMeta] = deeper.first().map_or(&[], |level| level);
    let ids = level0.iter().map(|table| table.id);
    if may_move(level0, level1, deeper.len() <= 1) {
        return Some(Choice::Move { tables: ids.collect(), level: 1 });
    }
    // All of level 1 between the bounds, even where no table of level 0 touches it: an output may span it.
    let smallest = level0.iter().map(|table| &table.smallest).min()?;
    let largest = level0.iter().map(|table| &table.largest).max()?;
    let between = |table: &&&TableMeta| table.smallest <= *largest && *smallest <= table.largest;
    let tables = ids.chain(level1.iter().filter(between).map(|table| table.id)).collect();
    Some(Choice::Merge { tables, level: 1 })
}

/// Whether the tables may go down as they are: nothing overlaps, and no tombstone would reach the last
/// level, where only a merge drops it.
fn may_move(level0: &[&TableMeta], level1: &[&TableMeta], last: bool) -> bool {
    let mut tables: Vec<&TableMeta> = level0.iter().chain(level1).copied().collect();
    tables.sort_by(|a, b| a.smallest.cmp(&b.smallest));
    let disjoint = tables.windows(2).all(|pair| matches!(pair, [a, b] if a.largest < b.smallest));
    disjoint && !(last && level0.iter().any(|table| table.tombstones > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(id: u64, smallest: &str, largest: &str) -> TableMeta {
        let (smallest, largest) = (smallest.into(), largest.into());
        TableMeta { id, smallest, largest, entries: 1, ..Default::default() }
    }

    fn choose(level0: &[TableMeta], level1: &[TableMeta]) -> Option<Choice> {
        pick(&[level0.iter().collect(), level1.iter().collect()], &PickOptions { l0_tables_max: 2 })
    }

    #[test]
    fn waits_for_enough_tables() {
        assert_eq!(pick(&[], &PickOptions::default()), None);
        assert_eq!(choose(&[], &[]), None);
        assert_eq!(choose(&[table(1, "a", "b")], &[table(2, "a", "z")]), None);
        assert_eq!(pick(&[vec![]], &PickOptions { l0_tables_max: 0 }), None);
    }

    #[test]
    fn merges_all_of_level_0_with_what_lies_between_its_bounds() {
        let level0 = [table(7, "m", "p"), table(6, "c", "d")];
        let level1 = [table(1, "a", "b"), table(2, "d", "e"), table(3, "g", "h"), table(4, "q", "r")];
        let tables = vec![7, 6, 2, 3];
        assert_eq!(choose(&level0, &level1), Some(Choice::Merge { tables, level: 1 }));
    }

    #[test]
    fn a_shared_bound_overlaps() {
        let level0 = [table(7, "m", "p"), table(6, "c", "d")];
        for touching in [table(1, "p", "q"), table(1, "a", "c"), table(1, "d", "m")] {
            let tables = vec![7, 6, 1];
            assert_eq!(choose(&level0, &[touching]), Some(Choice::Merge { tables, level: 1 }));
        }
    }

    #[test]
    fn moves_what_overlaps_nothing() {
        let level0 = [table(7, "m", "p"), table(6, "c", "d")];
        let level1 = [table(1, "a", "b"), table(3, "g", "h")];
        assert_eq!(choose(&level0, &level1), Some(Choice::Move { tables: vec![7, 6], level: 1 }));
        let touching = [table(7, "m", "p"), table(6, "c", "m")];
        assert_eq!(choose(&touching, &[]), Some(Choice::Merge { tables: vec![7, 6], level: 1 }));
    }

    #[test]
    fn does_not_move_tombstones_to_the_last_level() {
        let tombs = [table(7, "m", "p"), TableMeta { tombstones: 1, ..table(6, "c", "d") }];
        assert_eq!(choose(&tombs, &[]), Some(Choice::Merge { tables: vec![7, 6], level: 1 }));
        let three = [tombs.iter().collect(), vec![], vec![]];
        let options = PickOptions { l0_tables_max: 2 };
        assert_eq!(pick(&three, &options), Some(Choice::Move { tables: vec![7, 6], level: 1 }));
    }
}
