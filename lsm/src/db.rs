//! The embedded database: the engine without consensus. It decides by itself what is committed, which is
//! what is durable.
//!
//! ```no_run
//! use kv_lsm::{Db, Options, WriteBatch};
//!
//! let db = Db::open("data".as_ref(), Options::default())?;
//! let mut batch = WriteBatch::default();
//! batch.put(b"key", b"value".as_slice());
//! db.write(batch)?;
//! assert_eq!(db.get(b"key")?.map(|found| found.value), Some("value".into()));
//! db.close()?;
//! # Ok::<(), kv_lsm::StoreError>(())
//! ```

mod admin;
mod batch;
mod writer;
mod writes;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

pub use batch::{Durability, WriteBatch};
use kv_vfs::{DirLock, LockError, RealVfs, SystemClock, ThreadExecutor, Wake};
use writer::{Reclaimer, Writer};

use crate::error::StoreError;
use crate::options::Options;
use crate::store::{
    Applied, Environment, Found, Iter, IterOptions, NewStore, RangeSize, Scan, ScanRange, Snapshot, Store,
};

/// See the module.
pub struct Db {
    store: Arc<Store>,
    writer: Arc<Writer>,
    reclaimer: Arc<dyn Wake>,
    _lock: Box<dyn DirLock>,
}

impl Db {
    /// Opens the database in `dir` on the real disk, making it where there is none.
    pub fn open(dir: &Path, options: Options) -> Result<Self, StoreError> {
        let environment = Environment {
            vfs: Arc::new(RealVfs),
            clock: Arc::new(SystemClock::default()),
            executor: Arc::new(ThreadExecutor),
        };
        Self::open_in(&environment, dir, options)
    }

    /// As [`Db::open`], on other seams.
    pub fn open_in(environment: &Environment, dir: &Path, options: Options) -> Result<Self, StoreError> {
        // Not each time: somebody who may not write above the directory may still open it.
        if !environment.vfs.exists(&dir.join(kv_manifest::names::CURRENT))? {
            kv_vfs::create_dir(&*environment.vfs, dir)?;
        }
        let holder = format!("pid {}", std::process::id());
        let lock = match environment.vfs.lock(&dir.join(kv_manifest::names::LOCK), &holder) {
            Ok(lock) => lock,
            Err(LockError::Held { holder }) => {
                return Err(StoreError::Invalid(format!("{} is in use by {holder}", dir.display())));
            }
            Err(LockError::Io(error)) => return Err(error.into()),
        };
        // Nobody else reads this log.
        let options = Options { log_kept_bytes: options.log_kept_bytes.or(Some(0)), ..options };
        let store = Store::open(environment, dir, options, Some(new_store(environment)))?;
        // Alone, what is in the log is committed: whatever was not acknowledged is there whole or not.
        for entry in store.take_uncommitted() {
            store.apply(&entry)?;
        }
        if let Some(last) = store.log().state().last {
            store.log().set_committed(last.index + 1);
        }
        let Environment { executor, clock, .. } = environment.clone();
        let writer = Arc::new(Writer::new(store.clone(), executor.clone(), clock));
        let reclaimer = executor.spawn("reclaimer", Box::new(Reclaimer(writer.clone())));
        Ok(Self { store, writer, reclaimer, _lock: lock })
    }

    /// Writes a batch, and says whether its checks held.
    pub fn write(&self, batch: WriteBatch) -> Result<Applied, StoreError> {
        let durability = batch.acknowledged();
        let ops = batch.into_ops(self.store.options(), || self.writer.stamp())?;
        // Before anything is appended: what is refused must not be found in the log by the next open.
        self.store.check()?;
        self.store.log().wait_room(self.store.options().waiting_bytes_max)?;
        match durability {
            Durability::Sync => self.writer.write_durably(ops),
            Durability::Batched => self.writer.write_batched(ops),
        }
    }

    /// The newest value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Found>, StoreError> {
        self.writer.keep_time();
        self.store.get(key, None)
    }

    /// `length` bytes of a value from `offset` on, cut at its end.
    pub fn get_range(&self, key: &[u8], offset: u64, length: u64) -> Result<Option<Found>, StoreError> {
        self.writer.keep_time();
        self.store.get(key, Some(offset..offset.saturating_add(length)))
    }

    /// Keys of a range in order, as of now.
    pub fn scan(&self, range: ScanRange) -> Result<Scan, StoreError> {
        self.writer.keep_time();
        self.store.scan(range)
    }

    /// An iterator in both directions over what is there now.
    #[must_use]
    pub fn iter(&self, options: IterOptions) -> Iter {
        self.writer.keep_time();
        self.store.iter(options)
    }

    /// The newest values of keys, in the order given, all as of one moment. Values that lie apart are read by
    /// several threads.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Found>>, StoreError> {
        self.writer.keep_time();
        self.store.multi_get(keys)
    }

    /// About how much a range takes on disk.
    pub fn approximate_size(&self, range: &ScanRange) -> Result<RangeSize, StoreError> {
        self.store.approximate_size(range)
    }

    /// Pins what is there now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.writer.keep_time();
        self.store.snapshot()
    }

    /// Pins the state as it was once the write of this revision had taken effect, if that is kept:
    /// [`Options::keep_versions`] and [`Options::keep_age`] say so.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let options = kv_lsm::Options { keep_versions: 100, ..Default::default() };
    /// let db = kv_lsm::Db::open(dir.path(), options)?;
    /// let first = db.put(b"key", "old")?;
    /// db.put(b"key", "new")?;
    /// assert_eq!(db.snapshot_at(first)?.get(b"key", None)?.unwrap().value, "old");
    /// # db.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`StoreError::Compacted`] where it is not kept any more, [`StoreError::Invalid`] where there is no such revision.
    pub fn snapshot_at(&self, revision: u64) -> Result<Snapshot, StoreError> {
        self.store.snapshot_at(revision)
    }

    /// The engine below.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Writes everything out and stops. Without it nothing that was synced is lost; the next open then
    /// reads the end of the log.
    pub fn close(self) -> Result<(), StoreError> {
        self.stop_reclaimer();
        self.store.close()
    }

    fn stop_reclaimer(&self) {
        self.writer.stopping.store(true, Ordering::Release);
        self.reclaimer.wake();
        self.reclaimer.join();
    }
}

impl Drop for Db {
    /// Stops the workers: nothing may write into the directory once the lock is gone.
    fn drop(&mut self) {
        self.stop_reclaimer();
        self.store.stop();
    }
}

/// Whose a new embedded store is.
pub(crate) fn new_store(environment: &Environment) -> NewStore {
    // Two directories must not be taken for each other; nothing here needs to be secret.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let mixed = now ^ (u64::from(std::process::id()) << 40) ^ environment.clock.unix_ms();
    let mut cluster_id = [0; 16];
    let (first, second) = cluster_id.split_at_mut(8);
    first.copy_from_slice(&now.to_le_bytes());
    second.copy_from_slice(&mixed.to_le_bytes());
    NewStore { cluster_id, node_id: 0, incarnation: mixed }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("store", &self.store).finish_non_exhaustive()
    }
}
