//! Installing what was received: another state in place of this one, by one change-set.

use std::sync::Arc;

use bytes::Bytes;
use kv_manifest::Edit;
use kv_vfs::planted;
use kv_vlog::{LogTime, Position};

use super::changes::to_manifest;
use super::view::{Table, Tables};
use super::{Receiver, Store, purge};
use crate::error::StoreError;

impl Store {
    /// Makes what was received the state as of the entry `at`, with the time and the membership of then, whatever was
    /// there before; the log goes on behind `at`. Entries behind it that the log holds already stay, if it
    /// holds `at` itself. `Ok(false)`, with nothing changed: entries up to `at` or further are applied here.
    ///
    /// Scans and snapshots that are open go on with the old state.
    ///
    /// # Errors
    /// [`StoreError::Received`] where it cannot be that state. After a failed sync or change-set the store
    /// takes no more.
    pub fn install(
        &self,
        mut received: Receiver,
        at: Position,
        time: LogTime,
        membership: Option<(Position, Bytes)>,
    ) -> Result<bool, StoreError> {
        // Order of locks: the applier, what the tables are, then those of the core. Workers never wait for
        // the applier, and nobody waits for a worker who holds what the tables are.
        let _applier = self.shared.applier.lock();
        self.shared.check()?;
        if self.applied().is_some_and(|applied| applied.index >= at.index) {
            return Ok(false);
        }
        received.is_for(&self.shared, at)?;
        self.continues_behind(at)?;
        // Synced values, synced tables, then their names: a crash up to here, and up to the change-set,
        // leaves orphans beside the old state.
        let tables = received.complete()?;
        // Scans of the old state may point to what the log has only in memory, and lets go of below `at`.
        self.shared.log.wait_durable()?;
        self.replace(received, tables, (at, time), membership)?;
        self.shared.tables_changed();
        Ok(true)
    }

    /// The one step: before the change-set is durable a crash leaves the old state, after it the new one.
    fn replace(
        &self,
        received: Receiver,
        tables: Vec<Arc<Table>>,
        (at, time): (Position, LogTime),
        membership: Option<(Position, Bytes)>,
    ) -> Result<(), StoreError> {
        let super::Shared { core, changes, log, .. } = &*self.shared;
        let membership = membership.filter(|_| !planted::is("membership of a snapshot not installed"));
        let _structure = self.shared.structure.lock();
        self.shared.check()?;
        let old = core.view();
        let mut edits: Vec<Edit> =
            old.tables.iter().map(|table| Edit::RemoveTable { id: table.meta.id }).collect();
        edits.extend(received.into_edits());
        edits.extend(core.install_edits(at, time));
        edits.push(core.flushed_edit(at, membership.as_ref()));
        if !planted::is("floor of a snapshot not recorded") {
            edits.push(Edit::PurgeFloor(to_manifest(at)));
        }
        edits.push(Edit::ReplayFrom { segment: log.replay_segment(at.index + 1) });
        if planted::is("snapshot installed in two change-sets") {
            changes.commit("install", edits.drain(..old.tables.iter().count()).collect())?;
        }
        changes.commit("install", edits).inspect_err(|error| self.shared.poison(error))?;
        // Memory after the manifest. Reads first; then the log, so that no group relies on the new floor
        // before it is durable.
        let mut next = Tables::default();
        tables.into_iter().for_each(|table| next.add(table));
        core.replace(next, at, time, membership);
        log.purge(at);
        log.set_committed(at.index + 1);
        // Unlinked when the last read of them ends; a crash before that leaves orphans.
        old.tables.iter().for_each(|table| table.retire());
        purge::drop_held(&self.shared)
    }

    /// Gives a state that knows of no members its first ones: one that was repaired. Durable on return.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where nothing was applied, something that is in no table, or a membership.
    pub fn adopt_membership(&self, members: Bytes) -> Result<(), StoreError> {
        let _applier = self.shared.applier.lock();
        let _structure = self.shared.structure.lock();
        self.shared.check()?;
        let super::Shared { core, changes, .. } = &*self.shared;
        let Some(at) = self.applied().filter(|at| self.flushed() == Some(*at) && self.membership().is_none())
        else {
            return Err(StoreError::Invalid(
                "the store is no repaired one: it has members, or needs none".into(),
            ));
        };
        let membership = (at, members);
        let edit = core.flushed_edit(at, Some(&membership));
        changes.commit("adopt members", vec![edit]).inspect_err(|error| self.shared.poison(error))?;
        core.set_membership(membership);
        Ok(())
    }

    /// Refuses a position that contradicts the log: entries behind another entry would be taken for its
    /// successors.
    fn continues_behind(&self, at: Position) -> Result<(), StoreError> {
        let log = self.log();
        if log.state().last.is_none_or(|last| last.index < at.index) {
            return Ok(());
        }
        match log.term_starts(at.index, at.index).first() {
            Some(held) if held.term != at.term => Err(StoreError::Invalid(format!(
                "entry {} is of term {} in the log and of term {} in what is to be installed: the log must be \
                 truncated before",
                at.index, held.term, at.term
            ))),
            _ => Ok(()),
        }
    }
}
