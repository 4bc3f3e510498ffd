//! Looking after a database.

use std::path::Path;

use super::Db;
use crate::error::StoreError;
use crate::store::{ScanRange, Stats, Verification};

impl Db {
    /// Writes everything that is in memory into tables; durable on return.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.store.flush()
    }

    /// Makes a copy of the database in a new directory, as of some moment between call and return, while
    /// writing goes on. See [`Store::checkpoint`](crate::Store::checkpoint).
    ///
    /// ```
    /// # let base = tempfile::tempdir()?;
    /// # let (dir, copy) = (base.path().join("data"), base.path().join("copy"));
    /// # let db = kv_lsm::Db::open(&dir, kv_lsm::Options::default())?;
    /// db.put(b"key", "old")?;
    /// db.checkpoint(&copy)?;
    /// db.put(b"key", "new")?;
    /// let copied = kv_lsm::Db::open(&copy, kv_lsm::Options::default())?;
    /// assert_eq!(copied.get(b"key")?.unwrap().value, "old");
    /// # copied.close()?;
    /// # db.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn checkpoint(&self, dir: &Path) -> Result<(), StoreError> {
        self.store.checkpoint(dir)
    }

    /// Compacts what tables hold of a range down to one level, and writes what is in memory out before: what was deleted or
    /// overwritten there is gone from the tables, unless a snapshot sees it. See
    /// [`Store::compact_range`](crate::Store::compact_range).
    pub fn compact_range(&self, range: &ScanRange) -> Result<(), StoreError> {
        self.store.compact_range(range)
    }

    /// Reads and checks everything that is on disk.
    pub fn verify(&self) -> Result<Verification, StoreError> {
        self.store.verify()
    }

    /// Sizes and counters.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        self.store.stats()
    }
}
