//! Which values are live: the union of the references of all tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::StoreError;
use crate::store::view::{Table, Tables};

/// References into the segments that are collected.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Offsets by segment; ascending, each once. Every segment that is collected is there.
    segments: BTreeMap<u64, Vec<u32>>,
    /// Tables whose references are among them.
    tables: BTreeSet<u64>,
}

impl Marks {
    /// The references of these tables into these segments. Takes 4 bytes for each.
    pub(super) fn of(tables: &Tables, segments: &BTreeSet<u64>) -> Result<Self, StoreError> {
        let mut marks = Self::default();
        marks.segments.extend(segments.iter().map(|segment| (*segment, Vec::new())));
        for table in tables.iter() {
            marks.tables.insert(table.meta.id);
            for (segment, offsets) in marks.references(table)? {
                marks.segments.entry(segment).or_default().extend(offsets);
            }
        }
        for offsets in marks.segments.values_mut() {
            offsets.sort_unstable();
            offsets.dedup();
        }
        Ok(marks)
    }

    /// What a table points to in the segments.
    fn references(&self, table: &Table) -> Result<Vec<(u64, Vec<u32>)>, StoreError> {
        // Most tables point elsewhere, which the manifest knows.
        if !table.meta.refs.iter().any(|refs| self.segments.contains_key(&refs.segment)) {
            return Ok(Vec::new());
        }
        let refs = table.reader.refs()?.into_iter().filter(|refs| self.segments.contains_key(&refs.segment));
        Ok(refs.map(|refs| (refs.segment, refs.offsets().collect())).collect())
    }

    /// All of them, by segment.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.segments.iter().flat_map(|(segment, offsets)| offsets.iter().map(|offset| (*segment, *offset)))
    }

    /// Whether these tables point to nothing in the segments besides; if not, an example. Tables that were met before
    /// are not looked at again.
    pub(super) fn cover(&mut self, tables: &Tables) -> Result<Option<(u64, u32)>, StoreError> {
        let new: Vec<&Arc<Table>> =
            tables.iter().filter(|table| !self.tables.contains(&table.meta.id)).collect();
        for table in new {
            for (segment, offsets) in self.references(table)? {
                let marked = self.segments.get(&segment).map(Vec::as_slice).unwrap_or_default();
                if let Some(offset) = offsets.iter().find(|offset| marked.binary_search(offset).is_err()) {
                    return Ok(Some((segment, *offset)));
                }
            }
            self.tables.insert(table.meta.id);
        }
        Ok(None)
    }
}
