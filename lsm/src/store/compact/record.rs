//! Recording what a compaction did: outputs durable, one change-set, reads, and only then the inputs' files.

use std::sync::Arc;

use kv_manifest::Edit;
use kv_vfs::planted;

use super::super::view::Table;
use super::super::{Shared, StoreError};
use super::task::Task;
use crate::compaction::Made;

impl Shared {
    /// Moves tables to another level.
    pub(super) fn move_tables(&self, task: &Arc<Task>) -> Result<(), StoreError> {
        let level = task.choice.claim.to as u8;
        {
            let _structure = self.structure.lock();
            if task.is_current(&self.core.view()) {
                let to_move = |table: &Arc<Table>| Edit::MoveTable { id: table.meta.id, level };
                self.changes.commit(&task.cause(), task.inputs.iter().map(to_move).collect())?;
                let moved = task.inputs.iter().map(|table| Arc::new(table.at_level(level))).collect();
                self.replace(task, moved);
                self.compactions.lock().stats.moves += 1;
            }
        }
        self.end(task);
        Ok(())
    }

    /// Puts the outputs of all parts in place of the inputs.
    pub(super) fn record(&self, task: &Arc<Task>, made: Vec<Made>) -> Result<(), StoreError> {
        let (core, level) = (&self.core, task.choice.claim.to as u8);
        let parts = made.len() as u64;
        // Tables durable, then their names, then the manifest, and only then are the inputs unlinked.
        planted::unless("name of a compacted table not synced", || core.vfs.sync_dir(&core.dir))?;
        let summaries = || made.iter().flat_map(Made::tables);
        let metas: Vec<_> = summaries().map(|summary| summary.to_meta(level)).collect();
        let open = |meta: &kv_manifest::TableMeta| core.open_table_since(meta.clone(), task.since());
        let tables: Vec<_> = metas.iter().map(open).collect::<Result<_, _>>()?;
        let written_bytes: u64 = metas.iter().map(|meta| meta.bytes).sum();
        let shadowed = task.shadowed_bytes(&metas);
        let recorded = {
            let _structure = self.structure.lock();
            let is_current = task.is_current(&core.view());
            // Else another state was installed meanwhile. The manifest never knew these tables: they go.
            if is_current {
                // Once it is tried nobody knows whether they are recorded.
                made.into_iter().for_each(|made| drop(made.keep()));
                if planted::is("inputs of a compaction removed too early") {
                    task.inputs.iter().for_each(|table| drop(core.vfs.remove(table.reader.path())));
                }
                let gone = task.inputs.iter().map(|table| Edit::RemoveTable { id: table.meta.id });
                let edits = gone.chain(metas.into_iter().map(Edit::AddTable));
                let edits = edits.chain(core.compaction_edit()).collect();
                self.changes.commit(&task.cause(), edits)?;
                self.replace(task, tables);
                task.inputs.iter().for_each(|table| table.retire());
            }
            is_current
        };
        if recorded {
            self.collecting.space.compacted(task.upper_bytes(), shadowed);
            let mut compactions = self.compactions.lock();
            let stats = &mut compactions.stats;
            stats.merges += 1;
            stats.within_level_0 += u64::from(level == 0);
            stats.parts += parts;
            stats.read_bytes += task.inputs.iter().map(|table| table.meta.bytes).sum::<u64>();
            stats.written_bytes += written_bytes;
        }
        self.end(task);
        Ok(())
    }

    fn replace(&self, task: &Task, with: Vec<Arc<Table>>) {
        let ids: Vec<u64> = task.inputs.iter().map(|table| table.meta.id).collect();
        self.core.install(|view| {
            let mut tables = (*view.tables).clone();
            tables.remove(&ids);
            with.into_iter().for_each(|table| tables.add(table));
            view.tables = Arc::new(tables);
        });
    }

    /// Ends the claim, after reads see what came of it.
    pub(super) fn end(&self, task: &Arc<Task>) {
        let ended = self.compactions.lock().end(task);
        // Without the lock: files of other parts may go with it.
        drop(ended);
        self.tables_changed();
    }
}
