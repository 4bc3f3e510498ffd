//! Several changes as one.

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
        self.0.ops.push(WriteOp::Put { key: key.into(), value: value.into() });
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
