//! Writes of one key, conditional ones, and deletes of ranges.

use std::time::Duration;

use bytes::Bytes;
use kv_vlog::Expect;

use super::{Db, Durability, WriteBatch};
use crate::error::StoreError;
use crate::store::{Applied, Found, Iter, IterOptions, ScanRange};

/// A delete of a range takes so many keys in one entry of the log, or
const RANGE_KEYS_MAX: usize = 4096;
/// ... so many bytes of them.
const RANGE_BYTES_MAX: usize = 1 << 20;

impl Db {
    /// Sets a key; returns its version. Durable on return.
    pub fn put(&self, key: &[u8], value: impl Into<Bytes>) -> Result<u64, StoreError> {
        let mut batch = WriteBatch::default();
        batch.put(key, value);
        self.write_unchecked(batch)
    }

    /// Sets a key that goes away by itself, see [`WriteBatch::put_for`]; returns its version. Durable on return.
    pub fn put_for(&self, key: &[u8], value: impl Into<Bytes>, time: Duration) -> Result<u64, StoreError> {
        let mut batch = WriteBatch::default();
        batch.put_for(key, value, time);
        self.write_unchecked(batch)
    }

    /// Removes a key; returns the version of its removal. Durable on return.
    pub fn delete(&self, key: &[u8]) -> Result<u64, StoreError> {
        let mut batch = WriteBatch::default();
        batch.delete(key);
        self.write_unchecked(batch)
    }

    fn write_unchecked(&self, batch: WriteBatch) -> Result<u64, StoreError> {
        match self.write(batch)? {
            Applied::Done { revision } => Ok(revision),
            other => Err(StoreError::Invalid(format!("a write without checks ended as {other:?}"))),
        }
    }

    /// Sets a key if it is as expected; says whether it was. Durable on return.
    ///
    /// ```
    /// use kv_lsm::{Applied, Expect};
    /// # let dir = tempfile::tempdir()?;
    /// # let db = kv_lsm::Db::open(dir.path(), kv_lsm::Options::default())?;
    /// let Applied::Done { revision } = db.put_if(b"lock", "me", Expect::Absent)? else { unreachable!() };
    /// assert_eq!(
    ///     db.put_if(b"lock", "you", Expect::Absent)?,
    ///     Applied::Refused { check: 0, current: Some(revision) }
    /// );
    /// db.delete_if(b"lock", Expect::Seq(revision))?;
    /// assert_eq!(db.get(b"lock")?, None);
    /// # db.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_if(&self, key: &[u8], value: impl Into<Bytes>, expect: Expect) -> Result<Applied, StoreError> {
        let mut batch = WriteBatch::default();
        batch.check(key, expect).put(key, value);
        self.write(batch)
    }

    /// Removes a key if it is as expected; says whether it was. Durable on return.
    pub fn delete_if(&self, key: &[u8], expect: Expect) -> Result<Applied, StoreError> {
        let mut batch = WriteBatch::default();
        batch.check(key, expect).delete(key);
        self.write(batch)
    }

    /// Removes a key and gives what it was: of several who ask at once, one gets it. Durable on return.
    pub fn get_and_delete(&self, key: &[u8]) -> Result<Option<Found>, StoreError> {
        loop {
            let Some(found) = self.get(key)? else { return Ok(None) };
            // Refused: somebody else wrote it in between, and so made progress.
            if let Applied::Done { .. } = self.delete_if(key, Expect::Seq(found.revision))? {
                return Ok(Some(found));
            }
        }
    }

    /// Removes the keys of a range that were there when this began; returns how many. Durable on return.
    ///
    /// Not atomic: keys are removed in order, some thousand at a time, each time atomically. A key that is
    /// written meanwhile may be there afterwards, or not; after an error or a crash the first keys are gone.
    pub fn delete_range(&self, range: ScanRange) -> Result<u64, StoreError> {
        let mut keys = self.iter(IterOptions { range, fill_cache: false, ..IterOptions::default() });
        let mut deleted = 0;
        while let Some((batch, count)) = next_deletes(&mut keys)? {
            self.write_unchecked(batch)?;
            deleted += count;
        }
        self.store.log().wait_durable()?;
        Ok(deleted)
    }

    /// Removes all keys, as [`Db::delete_range`] does; returns how many.
    pub fn clear(&self) -> Result<u64, StoreError> {
        self.delete_range(ScanRange::default())
    }
}

/// Deletes of the keys that come next, as many as go into one entry; `None` where there are no more.
fn next_deletes(keys: &mut Iter) -> Result<Option<(WriteBatch, u64)>, StoreError> {
    let mut batch = WriteBatch::default();
    // The caller waits once for all of them.
    batch.durability(Durability::Batched);
    let (mut count, mut bytes) = (0, 0);
    while count < RANGE_KEYS_MAX && bytes < RANGE_BYTES_MAX && keys.next()? {
        let key = keys.key().unwrap_or_default();
        (count, bytes) = (count + 1, bytes + key.len());
        batch.delete(key);
    }
    Ok((count > 0).then_some((batch, count as u64)))
}
