//! Compacting a range on demand.

use std::sync::Arc;

use kv_vfs::Gate;

use super::table::{Asked, CompactionStats};
use crate::compaction::Wanted;
use crate::error::StoreError;
use crate::store::{ScanRange, Store};

impl Store {
    /// Writes everything applied so far into tables, then compacts the keys of the range down to the deepest
    /// level there is: what was overwritten or deleted there before is gone from the tables on return, unless
    /// an open snapshot sees it. What is written meanwhile does not count.
    ///
    /// # Errors
    /// As [`Store::flush`], also where a compaction has no room; [`StoreError::Invalid`] where the store is closed meanwhile.
    pub fn compact_range(&self, range: &ScanRange) -> Result<(), StoreError> {
        self.flush()?;
        let refused = self.shared.compactions_refused.count();
        let gate = Arc::new(Gate::default());
        let wanted = Wanted {
            from: range.from.to_vec(),
            to: range.to.as_ref().map(|to| to.to_vec()),
            seq: self.shared.core.visible().seq,
        };
        self.shared.compactions.lock().asked.push(Asked { wanted, gate: gate.clone() });
        // In this order: who ends the workers opens the gates of those who were there before.
        self.still_runs()?;
        self.shared.wake_compactors();
        self.executor.wait(&gate);
        self.still_runs()?;
        self.shared.compactions_refused.since(refused)
    }

    fn still_runs(&self) -> Result<(), StoreError> {
        self.shared.check()?;
        match self.shared.is_stopping() {
            true => Err(StoreError::Invalid("the store was closed before the range was compacted".into())),
            false => Ok(()),
        }
    }

    /// What compaction has done since the store was opened.
    #[must_use]
    pub fn compaction_stats(&self) -> CompactionStats {
        self.shared.compactions.lock().stats
    }
}
