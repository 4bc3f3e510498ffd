//! Giving up the log's beginning.

use kv_manifest::Edit;
use kv_vlog::Position;

use super::Store;
use super::changes::to_manifest;
use crate::error::StoreError;

impl Store {
    /// Gives up log entries up to and including `at`, durably. Values that are still pointed to stay. Does
    /// nothing where they were given up before.
    ///
    /// # Errors
    /// [`StoreError::NotFlushed`] where entries up to `at` are not in tables: the log is all there is of
    /// them.
    pub fn purge(&self, at: Position) -> Result<(), StoreError> {
        let _structure = self.shared.structure.lock();
        self.shared.check()?;
        let log = self.log();
        if log.state().purged.is_some_and(|purged| purged.index >= at.index) {
            return Ok(());
        }
        let flushed = self.flushed();
        if flushed.is_none_or(|flushed| flushed.index < at.index) {
            return Err(StoreError::NotFlushed { index: at.index, flushed: flushed.map(|at| at.index) });
        }
        let held = log.term_starts(at.index, at.index);
        if held.first() != Some(&at) {
            return Err(StoreError::Invalid(format!(
                "the log holds {held:?} where it is to be purged up to {at:?}"
            )));
        }
        // The manifest before memory: the log would else refuse entries that a restart brings back, and its
        // groups would rely on a floor that is not there.
        let edits = vec![Edit::PurgeFloor(to_manifest(at))];
        self.shared.changes.commit("purge", edits).inspect_err(|error| self.shared.poison(error))?;
        log.purge(at);
        Ok(())
    }

    /// The entry up to which the log can be purged so that at least `keep_bytes` of it stay: the last of a
    /// complete segment, and in tables. `None` where there is nothing to purge.
    #[must_use]
    pub fn purge_candidate(&self, keep_bytes: u64) -> Option<Position> {
        self.log().purge_boundary(self.flushed()?.index, keep_bytes)
    }
}
