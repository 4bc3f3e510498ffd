//! Changes that take effect together.

use std::time::Duration;

use bytes::Bytes;
use kv_vlog::{Expect, Expiry, LogTime, Op, OpValue, StoredValue};

use crate::error::StoreError;
use crate::key::MAX_KEY;
use crate::options::Options;

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Once it is on disk. Writers that come together share a sync.
    #[default]
    Sync,
    /// Once it is in the log's memory, which is written when half a MiB has come together, when somebody waits
    /// for a sync, or [`Options::batch_delay`] later. A crash takes the newest writes alone: what came in that
    /// time and while the sync before was under way, [`Options::waiting_bytes_max`] bytes at most.
    Batched,
}

/// Changes and conditions that take effect together, or not at all.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    checks: Vec<Op>,
    changes: Vec<Change>,
    durability: Durability,
}

#[derive(Clone, Debug)]
enum Change {
    Put(Bytes, Bytes),
    /// A put that goes away after this time.
    PutFor(Bytes, Bytes, Duration),
    Delete(Bytes),
}

impl WriteBatch {
    /// Sets a key.
    pub fn put(&mut self, key: &[u8], value: impl Into<Bytes>) -> &mut Self {
        self.changes.push(Change::Put(Bytes::copy_from_slice(key), value.into()));
        self
    }

    /// Sets a key that goes away by itself, not before this time is over and about two seconds later at the latest. Time is
    /// what the log carries: that of the clock of this machine, but never earlier than before. With the time its value
    /// goes, too: compactions and value GC see to that.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let dir = tempfile::tempdir()?;
    /// # let db = kv_lsm::Db::open(dir.path(), kv_lsm::Options::default())?;
    /// let mut batch = kv_lsm::WriteBatch::default();
    /// batch.put_for(b"session/7", "ann", Duration::from_secs(3600)).put(b"user/ann", "seen");
    /// db.write(batch)?;
    /// assert!(db.get(b"session/7")?.unwrap().expires.time().is_some());
    /// # db.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_for(&mut self, key: &[u8], value: impl Into<Bytes>, time: Duration) -> &mut Self {
        self.changes.push(Change::PutFor(Bytes::copy_from_slice(key), value.into(), time));
        self
    }

    /// Removes a key.
    pub fn delete(&mut self, key: &[u8]) -> &mut Self {
        self.changes.push(Change::Delete(Bytes::copy_from_slice(key)));
        self
    }

    /// Has nothing take effect unless the key is as expected just before.
    pub fn check(&mut self, key: &[u8], expect: Expect) -> &mut Self {
        self.checks.push(Op::Check { key: Bytes::copy_from_slice(key), expect });
        self
    }

    /// Says when the write is acknowledged.
    pub fn durability(&mut self, durability: Durability) -> &mut Self {
        self.durability = durability;
        self
    }

    pub(super) fn acknowledged(&self) -> Durability {
        self.durability
    }

    pub(super) fn into_ops(
        self,
        options: &Options,
        now: impl Fn() -> LogTime,
    ) -> Result<Vec<Op>, StoreError> {
        let put = |key: Bytes, value, expires| {
            let value = StoredValue::expiring(&key, value, &options.compression, expires);
            Op::Put { key, value: OpValue::Full(value) }
        };
        let change = |change| match change {
            Change::Put(key, value) => put(key, value, Expiry::NEVER),
            Change::PutFor(key, value, time) => put(key, value, Expiry::after(now(), time)),
            Change::Delete(key) => Op::Delete { key },
        };
        let ops: Vec<Op> = self.checks.into_iter().chain(self.changes.into_iter().map(change)).collect();
        if ops.is_empty() || ops.len() > usize::from(u16::MAX) {
            return Err(StoreError::Invalid(format!("a batch of {} operations; 1 to 65,535 go", ops.len())));
        }
        if let Some(op) = ops.iter().find(|op| op.key().is_empty() || op.key().len() > MAX_KEY) {
            let len = op.key().len();
            return Err(StoreError::Invalid(format!("a key of {len} bytes; 1 to {MAX_KEY} go")));
        }
        Ok(ops)
    }
}
