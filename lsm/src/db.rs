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
mod writes;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub use batch::{Durability, WriteBatch};
use kv_vfs::{DirLock, Executor, Gate, LockError, RealVfs, SystemClock, ThreadExecutor};
use kv_vlog::{Appended, Op};
use parking_lot::Mutex;

use crate::error::StoreError;
use crate::options::Options;
use crate::store::{
    Applied, Environment, Found, Iter, IterOptions, NewStore, RangeSize, Scan, ScanRange, Snapshot, Store,
};

/// The term of all entries of an embedded database.
const TERM: u64 = 1;

/// A write that waits for its turn to be applied.
struct Waiting {
    entry: Appended,
    result: Arc<Mutex<Option<Result<Applied, StoreError>>>>,
}

/// See the module.
pub struct Db {
    store: Arc<Store>,
    executor: Arc<dyn Executor>,
    /// Writes in log order, not yet applied.
    waiting: Mutex<VecDeque<Waiting>>,
    /// One thread applies at a time, in order. Taken before `waiting`.
    applying: Mutex<()>,
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
        Ok(Self {
            store,
            executor: environment.executor.clone(),
            waiting: Mutex::default(),
            applying: Mutex::new(()),
            _lock: lock,
        })
    }

    /// Writes a batch, and says whether its checks held.
    pub fn write(&self, batch: WriteBatch) -> Result<Applied, StoreError> {
        let durability = batch.acknowledged();
        let ops = batch.into_ops(self.store.options())?;
        // Before anything is appended: what is refused must not be found in the log by the next open.
        self.store.check()?;
        self.store.log().wait_room(self.store.options().waiting_bytes_max)?;
        match durability {
            Durability::Sync => self.write_durably(ops),
            Durability::Batched => self.write_batched(ops),
        }
    }

    fn write_durably(&self, ops: Vec<Op>) -> Result<Applied, StoreError> {
        let log = self.store.log();
        let (gate, result) = (Arc::new(Gate::default()), Arc::new(Mutex::new(None)));
        let opens = gate.clone();
        let index = {
            // Appending and queueing under one lock: entries are applied in log order.
            let mut waiting = self.waiting.lock();
            let entry = log.append_next(TERM, ops, Some(Box::new(move |_| opens.open())))?;
            let index = entry.at.index;
            waiting.push_back(Waiting { entry, result: result.clone() });
            index
        };
        self.executor.wait(&gate);
        if log.durable_next() <= index {
            log.wait_durable()?; // says why the write failed
        }
        {
            let _one = self.applying.lock();
            self.apply_waiting(index);
            log.set_committed(index + 1);
        }
        let result = result.lock().take();
        result.unwrap_or_else(|| Err(StoreError::Invalid("a write was not applied".into())))
    }

    fn write_batched(&self, ops: Vec<Op>) -> Result<Applied, StoreError> {
        let log = self.store.log();
        // From before it has its place until it is applied: nobody else can, so it need not be queued.
        let _one = self.applying.lock();
        let entry = {
            let _in_order = self.waiting.lock();
            log.append_next(TERM, ops, None)?
        };
        self.apply_waiting(entry.at.index);
        let applied = self.store.apply(&entry);
        log.set_committed(entry.at.index + 1);
        applied
    }

    /// Applies what waits, in order, up to and including `index`. The caller is the one who applies.
    fn apply_waiting(&self, index: u64) {
        loop {
            let next = {
                let mut waiting = self.waiting.lock();
                let due = waiting.front().is_some_and(|front| front.entry.at.index <= index);
                due.then(|| waiting.pop_front()).flatten()
            };
            let Some(next) = next else { break };
            *next.result.lock() = Some(self.store.apply(&next.entry));
        }
    }

    /// The newest value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Found>, StoreError> {
        self.store.get(key, None)
    }

    /// `length` bytes of a value from `offset` on, cut at its end.
    pub fn get_range(&self, key: &[u8], offset: u64, length: u64) -> Result<Option<Found>, StoreError> {
        self.store.get(key, Some(offset..offset.saturating_add(length)))
    }

    /// Keys of a range in order, as of now.
    pub fn scan(&self, range: ScanRange) -> Result<Scan, StoreError> {
        self.store.scan(range)
    }

    /// An iterator in both directions over what is there now.
    #[must_use]
    pub fn iter(&self, options: IterOptions) -> Iter {
        self.store.iter(options)
    }

    /// The newest values of keys, in the order given, all as of one moment. Values that lie apart are read by
    /// several threads.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Found>>, StoreError> {
        self.store.multi_get(keys)
    }

    /// About how much a range takes on disk.
    pub fn approximate_size(&self, range: &ScanRange) -> Result<RangeSize, StoreError> {
        self.store.approximate_size(range)
    }

    /// Pins what is there now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.store.snapshot()
    }

    /// The engine below.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Writes everything out and stops. Without it nothing that was synced is lost; the next open then
    /// reads the end of the log.
    pub fn close(self) -> Result<(), StoreError> {
        self.store.close()
    }
}

impl Drop for Db {
    /// Stops the workers: nothing may write into the directory once the lock is gone.
    fn drop(&mut self) {
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
