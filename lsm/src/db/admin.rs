//! Looking after a database.

use std::ops::Range;
use std::path::Path;

use kv_manifest::TableMeta;

use super::Db;
use crate::error::StoreError;
use crate::gc::Priority;
use crate::options::Options;
use crate::store::{Found, GcReport, GcRun, ScanItem, ScanRange, SegmentLine, Stats, Verification};

impl Db {
    /// Waits until everything is durable that was written before, batched writes among it.
    ///
    /// # Errors
    /// A write or a sync has failed: what was acknowledged before it was durable may be lost.
    pub fn sync(&self) -> Result<(), StoreError> {
        Ok(self.store.log().wait_durable()?)
    }

    /// Writes everything that is in memory into tables; durable on return.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`]: it is done later, and the log keeps it until then.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.store.flush()
    }

    /// The value of a key that a scan has given, or a part of it (cut at its end).
    ///
    /// # Errors
    /// Damage or a failed read.
    pub fn value(&self, item: &ScanItem, range: Option<Range<u64>>) -> Result<Found, StoreError> {
        self.store.value(&item.key, item.revision, &item.slot, range)
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
    /// overwritten there is gone from the tables, unless a snapshot sees it. Its values are garbage then, which
    /// [`Db::gc_run`] gives back.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = kv_lsm::Db::open(dir.path(), kv_lsm::Options::default())?;
    /// use kv_lsm::ScanRange;
    ///
    /// (0..100u8).try_for_each(|n| db.put(&[n], vec![n; 2000]).map(drop))?;
    /// db.delete_range(ScanRange { from: vec![10].into(), to: None })?;
    /// db.compact_range(&ScanRange::default())?;
    /// let stats = db.stats()?;
    /// assert_eq!(stats.levels.iter().map(|level| level.entries).sum::<u64>(), 10);
    /// assert_eq!(stats.levels.iter().map(|level| level.tombstones).sum::<u64>(), 0);
    /// # db.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Db::flush`], also where the compaction has no room.
    pub fn compact_range(&self, range: &ScanRange) -> Result<(), StoreError> {
        self.writer.keep_time();
        self.store.compact_range(range)
    }

    /// Reads and checks everything that is on disk, past all caches.
    ///
    /// # Errors
    /// The first damage; a failed read.
    pub fn verify(&self) -> Result<Verification, StoreError> {
        self.store.verify()
    }

    /// Sizes and counters.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let db = kv_lsm::Db::open(dir.path(), kv_lsm::Options::default())?;
    /// db.put(b"key", vec![1; 100_000])?;
    /// db.flush()?;
    /// db.get(b"key")?;
    /// let stats = db.stats()?;
    /// assert_eq!((stats.written.user_bytes, stats.reads.gets), (100_003, 1));
    /// // How many bytes were written for each, reads made for each key, bytes taken for each that is needed.
    /// assert!(stats.written.amplification().unwrap() > 0.0);
    /// assert_eq!(stats.reads.amplification(), Some(2.0));
    /// assert!(stats.space_amplification().unwrap() > 1.0);
    /// # db.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        self.store.stats()
    }

    /// Gives the room of values that nobody can read any more back now, whatever their age; until nothing is gained. By
    /// itself value GC does so once it pays: [`GcOptions`](crate::gc::GcOptions).
    ///
    /// # Errors
    /// Damage or a failed read or write; what was collected before stays so.
    pub fn gc_run(&self) -> Result<Vec<GcRun>, StoreError> {
        self.store.gc_run()
    }

    /// Has value GC not run by itself until [`Db::gc_resume`].
    pub fn gc_pause(&self) {
        self.store.gc_pause();
    }

    /// Lets value GC run by itself again.
    pub fn gc_resume(&self) {
        self.store.gc_resume();
    }

    /// What value GC would do now, and of each file why, or why not.
    ///
    /// # Errors
    /// The room on the file system cannot be asked for.
    pub fn gc_report(&self, at_least: Priority) -> Result<GcReport, StoreError> {
        self.store.gc_report(at_least)
    }

    /// The tables: level, keys, bytes and references of each.
    #[must_use]
    pub fn tables(&self) -> Vec<TableMeta> {
        self.store.tables()
    }

    /// The segments, and the files that wait to be written again.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn segments(&self) -> Result<Vec<SegmentLine>, StoreError> {
        self.store.segments()
    }

    /// The options it was opened with.
    #[must_use]
    pub fn options(&self) -> &Options {
        self.store.options()
    }

    /// What was cut from the end of the log when the database was opened: a write that was never acknowledged.
    #[must_use]
    pub fn torn_tail(&self) -> Option<&str> {
        self.store.torn_tail()
    }
}
