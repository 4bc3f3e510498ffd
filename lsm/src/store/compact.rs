//! The compaction worker: takes what [`pick`] chose, runs it, records it in one change-set.

use std::sync::Arc;

use kv_manifest::Edit;
use kv_vfs::{Step, Worker, planted};

use super::view::{LEVELS, Table};
use super::{Shared, StoreError};
use crate::compaction::{Choice, Job, PickOptions, pick, run};

/// See the module.
pub(crate) struct Compactor {
    pub shared: Arc<Shared>,
}

impl Worker for Compactor {
    fn step(&mut self) -> Step {
        if self.shared.is_stopping() {
            return Step::Done;
        }
        if self.shared.check().is_err() {
            return Step::Idle;
        }
        match self.advance() {
            Ok(true) => Step::More,
            Ok(false) => Step::Idle,
            Err(error) if self.shared.is_stopping() => {
                tracing::debug!(%error, "compaction ended by shutdown");
                Step::Done
            }
            Err(error) => {
                self.shared.poison(&error);
                Step::Idle
            }
        }
    }
}

impl Compactor {
    /// Does one compaction; says whether there was one to do.
    fn advance(&self) -> Result<bool, StoreError> {
        let core = &self.shared.core;
        let view = core.view();
        let levels: Vec<Vec<&kv_manifest::TableMeta>> =
            view.tables.levels.iter().map(|level| level.iter().map(|table| &table.meta).collect()).collect();
        let options = PickOptions { l0_tables_max: core.options.l0_tables_max };
        let Some(choice) = pick(&levels, &options) else { return Ok(false) };
        match choice {
            Choice::Move { tables, level } => self.move_tables(&tables, level)?,
            Choice::Merge { tables, level } => self.merge(&tables, level)?,
        }
        Ok(true)
    }

    fn move_tables(&self, ids: &[u64], level: u8) -> Result<(), StoreError> {
        let _structure = self.shared.structure.lock();
        let core = &self.shared.core;
        let Some(chosen) = self.current(ids) else { return Ok(()) };
        let at_level =
            |table: &Arc<Table>| core.open_table(kv_manifest::TableMeta { level, ..table.meta.clone() });
        let moved = chosen.iter().map(at_level).collect::<Result<_, _>>()?;
        let edits = ids.iter().map(|id| Edit::MoveTable { id: *id, level }).collect();
        self.shared.changes.commit(&format!("move to L{level}"), edits)?;
        self.replace(ids, moved, false);
        Ok(())
    }

    fn merge(&self, ids: &[u64], level: u8) -> Result<(), StoreError> {
        let Shared { core, changes, stopping, .. } = &*self.shared;
        let Some(inputs) = self.current(ids) else { return Ok(()) };
        let job = Job {
            inputs: inputs.iter().map(|table| table.reader.clone()).collect(),
            snapshots: core.open_snapshots(),
            // Tables are in two levels: nothing lies deeper than the output.
            bottommost: usize::from(level) + 1 == LEVELS,
            table_bytes: core.options.table_bytes,
        };
        let mut numbers = || core.table_identity(changes.allocate());
        let outputs = run(&core.vfs, &core.dir, &job, &core.table_options(), &mut numbers, stopping)?;
        // Tables durable, then their names, then the manifest, and only then are the inputs unlinked.
        planted::unless("name of a compacted table not synced", || core.vfs.sync_dir(&core.dir))?;
        let metas: Vec<_> = outputs.iter().map(|output| output.to_meta(level)).collect();
        let tables: Vec<_> =
            metas.iter().cloned().map(|meta| core.open_table(meta)).collect::<Result<_, _>>()?;
        let _structure = self.shared.structure.lock();
        if self.current(ids).is_none() {
            // Another state was installed meanwhile. The manifest never knew these tables: they go.
            tables.iter().for_each(|table| table.retire());
            return Ok(());
        }
        let mut edits: Vec<Edit> = ids.iter().map(|id| Edit::RemoveTable { id: *id }).collect();
        edits.extend(metas.into_iter().map(Edit::AddTable));
        if planted::is("inputs of a compaction removed too early") {
            job.inputs.iter().for_each(|table| drop(core.vfs.remove(table.path())));
        }
        changes.commit(&format!("compact to L{level}"), edits)?;
        self.replace(ids, tables, true);
        Ok(())
    }

    /// The tables with these numbers, if all of them are still there; numbers are never used again.
    fn current(&self, ids: &[u64]) -> Option<Vec<Arc<Table>>> {
        let view = self.shared.core.view();
        let chosen = view.tables.iter().filter(|table| ids.contains(&table.meta.id)).cloned();
        let chosen: Vec<_> = chosen.collect();
        (chosen.len() == ids.len()).then_some(chosen)
    }

    fn replace(&self, ids: &[u64], with: Vec<Arc<Table>>, retire: bool) {
        self.shared.core.install(|view| {
            let mut tables = (*view.tables).clone();
            let removed = tables.remove(ids);
            with.into_iter().for_each(|table| tables.add(table));
            view.tables = Arc::new(tables);
            if retire {
                removed.iter().for_each(|table| table.retire());
            }
        });
    }
}
