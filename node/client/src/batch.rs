//! Several changes as one.

use std::time::Duration;

use bytes::Bytes;
use kv_api::kv::{Check, Expect, WriteOp, WriteRequest};

/// An atomic write: if all checks hold, all changes happen, in order; else none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch(WriteRequest);

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds: set a key.
    #[must_use]
    pub fn put(mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.push_put(key, value);
        self
    }

    /// Adds: set a key that goes away by itself, see [`Client::put_for`](crate::Client::put_for).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use kv_client::{Batch, Expect};
    /// // A lock that is free again if its holder is gone: who finds the key absent has it.
    /// let lock = Batch::new().check("lock", Expect::Absent).put_for("lock", "me", Duration::from_secs(30));
    /// # assert_eq!(lock.ops_count(), 2);
    /// ```
    #[must_use]
    pub fn put_for(mut self, key: impl Into<Bytes>, value: impl Into<Bytes>, time: Duration) -> Self {
        self.push_put_for(key, value, time);
        self
    }

    /// Adds: remove a key.
    #[must_use]
    pub fn delete(mut self, key: impl Into<Bytes>) -> Self {
        self.push_delete(key);
        self
    }

    /// Adds a condition. A conditional batch is never repeated after an unknown outcome.
    #[must_use]
    pub fn check(mut self, key: impl Into<Bytes>, expect: Expect) -> Self {
        self.0.checks.push(Check { key: key.into(), expect });
        self
    }

    /// [`put`](Self::put) for loops.
    pub fn push_put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.0.ops.push(WriteOp::Put { key: key.into(), value: value.into(), ttl_ms: None });
    }

    /// [`put_for`](Self::put_for) for loops.
    pub fn push_put_for(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>, time: Duration) {
        // Not sooner than asked for.
        let ms = u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        self.0.ops.push(WriteOp::Put { key: key.into(), value: value.into(), ttl_ms: Some(ms) });
    }

    /// [`delete`](Self::delete) for loops.
    pub fn push_delete(&mut self, key: impl Into<Bytes>) {
        self.0.ops.push(WriteOp::Delete { key: key.into() });
    }

    /// Changes and conditions so far: what [`Limits::batch_ops_max`](crate::Limits) bounds.
    pub fn ops_count(&self) -> u64 {
        self.0.ops_count()
    }

    /// Bytes of keys and values so far: what [`Limits::batch_bytes_max`](crate::Limits) bounds.
    pub fn payload_bytes(&self) -> u64 {
        self.0.payload_bytes()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.ops_count() == 0
    }

    pub(crate) fn into_request(self) -> WriteRequest {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_is_not_shortened() {
        let ttl = |time| Batch::new().put_for("k", "v", time).into_request().ops[0].ttl_ms();
        assert_eq!(ttl(Duration::from_nanos(1_500_000_001)), Some(1_501));
        assert_eq!(ttl(Duration::from_secs(2)), Some(2_000));
        assert_eq!(ttl(Duration::MAX), Some(u64::MAX));
        assert_eq!(Batch::new().put("k", "v").into_request().ops[0].ttl_ms(), None);
    }
}
