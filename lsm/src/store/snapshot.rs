//! Reading one moment of the store, however often.

use std::sync::{Arc, OnceLock};

use kv_vlog::LogTime;

use super::view::View;
use super::{Found, Iter, IterOptions, Scan, ScanRange, Store, scan};
use crate::error::StoreError;
use crate::key::{Moment, Seq};
use crate::table::CacheUse;

/// The time between two installed states. Flushes and compactions keep what snapshots see, an install does
/// not: those of the time before go on with what was there last.
#[derive(Debug, Default)]
pub(crate) struct Era {
    last: OnceLock<Arc<View>>,
}

impl Era {
    /// Ends it, before reads see anything newer than `last`.
    pub(crate) fn end(&self, last: Arc<View>) {
        self.last.get_or_init(|| last);
    }

    /// What a snapshot of this time reads, where reads see `now`; taken before this is asked.
    pub(crate) fn view(&self, now: Arc<View>) -> Arc<View> {
        self.last.get().cloned().unwrap_or(now)
    }
}

/// A moment of the store, pinned until dropped.
pub struct Snapshot {
    moment: Moment,
    era: Arc<Era>,
    store: Arc<Store>,
}

impl Store {
    /// Pins what is visible now: later flushes and compactions keep what it can see.
    #[must_use]
    pub fn snapshot(self: &Arc<Self>) -> Snapshot {
        let (moment, era) = self.shared.core.pin_snapshot();
        Snapshot { moment, era, store: self.clone() }
    }

    /// Pins the state as it was once the write of this revision had taken effect.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] where it is not kept any more: [`Options::keep_versions`](crate::Options) and
    /// `keep_age` say what is. [`StoreError::Invalid`] where there is no such revision yet.
    pub fn snapshot_at(self: &Arc<Self>, revision: Seq) -> Result<Snapshot, StoreError> {
        let (moment, era) = self.shared.core.pin_snapshot_at(revision)?;
        Ok(Snapshot { moment, era, store: self.clone() })
    }
}

impl Snapshot {
    /// The newest version it sees.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.moment.seq
    }

    /// What time it was.
    #[must_use]
    pub fn time(&self) -> LogTime {
        self.moment.time
    }

    /// The value of a key as of this moment.
    pub fn get(&self, key: &[u8], range: Option<std::ops::Range<u64>>) -> Result<Option<Found>, StoreError> {
        self.store.get_in(&self.view(), key, self.moment, range)
    }

    /// Keys of a range as of this moment, in order.
    pub fn scan(&self, range: ScanRange) -> Result<Scan, StoreError> {
        scan(&self.view(), range, self.moment, CacheUse::Fill)
    }

    /// An iterator over what was there at this moment.
    #[must_use]
    pub fn iter(&self, options: IterOptions) -> Iter {
        Iter::new(&self.view(), self.moment, self.store.readers.clone(), options)
    }

    /// Values of keys as of this moment, in the order given.
    ///
    /// # Errors
    /// Damage or a failed read, of the first key that meets it.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Found>>, StoreError> {
        self.store.multi_get_in(&self.view(), keys, self.moment)
    }

    /// What a pinned version needs is in every view of its time.
    fn view(&self) -> Arc<View> {
        self.era.view(self.store.shared.core.view())
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.store.shared.core.unpin_snapshot(self.moment);
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("moment", &self.moment).finish_non_exhaustive()
    }
}
