//! Orders and counts derived from the state, so that judging a change-set costs what the change-set is
//! long and not what the store is large.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use crate::edit::TableMeta;

/// Derived from [`crate::State`]; equal states have equal indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    /// `(level, smallest key, id)` of all tables below level 0.
    order: BTreeSet<(u8, Vec<u8>, u64)>,
    /// How many tables and segments use a file number.
    files: BTreeMap<u64, u64>,
    /// Which segments have their values in a file.
    residents: BTreeMap<u64, BTreeSet<u64>>,
    /// How many tables point to a segment.
    pointing: BTreeMap<u64, u64>,
}

impl Index {
    pub(crate) fn add_table(&mut self, table: &TableMeta) {
        if table.level > 0 {
            self.order.insert((table.level, table.smallest.clone(), table.id));
        }
        self.add_file(table.id);
        for reference in &table.refs {
            *self.pointing.entry(reference.segment).or_default() += 1;
        }
    }

    /// Takes out what `add_table(old)` put in; `replaced_by` is the table that has its id now, if any.
    pub(crate) fn remove_table(&mut self, old: &TableMeta, replaced_by: Option<&TableMeta>) {
        let stays = replaced_by.is_some_and(|new| new.level == old.level && new.smallest == old.smallest);
        if old.level > 0 && !stays {
            self.order.remove(&(old.level, old.smallest.clone(), old.id));
        }
        self.remove_file(old.id);
        for reference in &old.refs {
            decrement(&mut self.pointing, reference.segment);
        }
    }

    pub(crate) fn add_file(&mut self, file: u64) {
        *self.files.entry(file).or_default() += 1;
    }

    pub(crate) fn remove_file(&mut self, file: u64) {
        decrement(&mut self.files, file);
    }

    pub(crate) fn add_resident(&mut self, file: u64, segment: u64) {
        self.add_file(file);
        self.residents.entry(file).or_default().insert(segment);
    }

    /// Takes out what `add_resident` put in. Where the segment has a place now is the caller's to say anew.
    pub(crate) fn remove_resident(&mut self, file: u64, segment: u64, is_still_there: bool) {
        self.remove_file(file);
        if is_still_there {
            return;
        }
        if let Some(segments) = self.residents.get_mut(&file) {
            segments.remove(&segment);
            if segments.is_empty() {
                self.residents.remove(&file);
            }
        }
    }

    /// The segments that have their values in the file, ascending.
    pub(crate) fn residents(&self, file: u64) -> impl Iterator<Item = u64> + '_ {
        self.residents.get(&file).into_iter().flatten().copied()
    }

    /// How many tables and segments use the file number.
    pub(crate) fn users(&self, file: u64) -> u64 {
        self.files.get(&file).copied().unwrap_or(0)
    }

    /// How many tables point to the segment.
    pub(crate) fn pointing(&self, segment: u64) -> u64 {
        self.pointing.get(&segment).copied().unwrap_or(0)
    }

    /// Ids of the tables before and behind the given one in its level, by smallest key; none at level 0.
    pub(crate) fn neighbours(&self, table: &TableMeta) -> (Option<u64>, Option<u64>) {
        if table.level == 0 {
            return (None, None);
        }
        let at = (table.level, table.smallest.clone(), table.id);
        let same_level = |entry: &&(u8, Vec<u8>, u64)| entry.0 == table.level;
        let behind = self.order.range((Excluded(&at), Unbounded)).next().filter(same_level);
        let before = self.order.range(..&at).next_back().filter(same_level);
        (before.map(|entry| entry.2), behind.map(|entry| entry.2))
    }
}

fn decrement(counts: &mut BTreeMap<u64, u64>, key: u64) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}
