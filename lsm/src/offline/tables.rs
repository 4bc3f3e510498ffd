//! Each table by itself, and against what the manifest says of it.

use std::sync::Arc;

use kv_manifest::{SegmentRef, State, TableMeta, names};

use super::report::Problem;
use super::{Check, table_identity};
use crate::error::StoreError;
use crate::gc::{Counted, audit};
use crate::table::{SegmentOffsets, TableReader};

impl Check<'_> {
    /// Reads all tables; returns those that are whole.
    pub(super) fn tables(&mut self, state: &State) -> Result<Vec<Arc<TableReader>>, StoreError> {
        let (mut whole, mut counted, mut all_counted) = (Vec::new(), Counted::default(), true);
        for meta in state.tables.values() {
            let file = names::table_name(meta.id);
            if self.suspect.contains(&file) {
                all_counted = false;
            } else {
                match self.table(state, meta, &mut counted) {
                    Ok((reader, None)) => whole.push(reader),
                    Ok((_, Some(why))) => self.report.problem(Problem { file, offset: None, why }),
                    Err(error) => {
                        all_counted = false;
                        self.found(&file, error)?;
                    }
                }
                self.report.tables += 1;
            }
            self.advance(meta.bytes);
        }
        if all_counted {
            self.audit(state, &counted);
        }
        Ok(whole)
    }

    /// What value GC goes by, against all versions in all tables.
    fn audit(&mut self, state: &State, counted: &Counted) {
        for miscount in audit(state, counted) {
            let (file, why) = (names::segment_name(miscount.file), miscount.to_string());
            self.report.problem(Problem { file, offset: None, why });
        }
    }

    /// Reads one table; says how it differs from what the manifest knows of it.
    fn table(
        &self,
        state: &State,
        meta: &TableMeta,
        counted: &mut Counted,
    ) -> Result<(Arc<TableReader>, Option<String>), StoreError> {
        let identity = table_identity(state, meta.id);
        let reader = TableReader::open(&self.vfs, &self.dir, &identity, meta.bytes)?;
        counted.add(reader.verify_counting()?);
        let refs = reader.refs()?;
        let unknown = refs.iter().find(|refs| !state.segments.contains_key(&refs.segment));
        let why = match unknown {
            Some(refs) => Some(format!("points to segment {}, which is unknown", refs.segment)),
            None => difference(meta, &reader, &refs),
        };
        Ok((reader, why))
    }
}

fn difference(meta: &TableMeta, reader: &TableReader, refs: &[SegmentOffsets]) -> Option<String> {
    let said = reader.properties();
    let refs: Vec<SegmentRef> = refs
        .iter()
        .map(|refs| SegmentRef { segment: refs.segment, count: refs.count, bytes: refs.bytes })
        .collect();
    let same = [
        ("smallest key", said.smallest == meta.smallest),
        ("largest key", said.largest == meta.largest),
        ("lowest seq", said.seq_min == meta.seq_min),
        ("highest seq", said.seq_max == meta.seq_max),
        ("number of entries", said.entries == meta.entries),
        ("number of tombstones", said.tombstones == meta.tombstones),
        ("references per segment", refs == meta.refs),
    ];
    let (what, _) = same.iter().find(|(_, same)| !same)?;
    Some(format!("its {what} is not what the manifest says"))
}
