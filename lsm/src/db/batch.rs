//! Changes that take effect together.

use bytes::Bytes;
use kv_vlog::{Expect, Op, OpValue, StoredValue};

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
    Delete(Bytes),
}

impl WriteBatch {
    /// Sets a key.
    pub fn put(&mut self, key: &[u8], value: impl Into<Bytes>) -> &mut Self {
        self.changes.push(Change::Put(Bytes::copy_from_slice(key), value.into()));
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

    pub(super) fn into_ops(self, options: &Options) -> Result<Vec<Op>, StoreError> {
        let change = |change| match change {
            Change::Put(key, value) => {
                let value = OpValue::Full(StoredValue::new(&key, value, &options.compression));
                Op::Put { key, value }
            }
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
