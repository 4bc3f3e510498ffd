//! How many bytes may be in flight, over all connections of a node.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Frames up to this size draw from a share of their own: they do not wait behind bulk ones.
pub const SMALL_BYTES: u32 = 64 << 10;

/// Bounds the bytes of frames that are being received, worked on or sent. Cheap to clone; clones share it.
///
/// Whoever finds it used up waits, first come first served, and does not read on meanwhile: the sender
/// feels it through TCP. An eighth is set aside for frames of at most [`SMALL_BYTES`].
#[derive(Clone, Debug)]
pub struct ByteBudget {
    bulk: Share,
    small: Share,
}

#[derive(Clone, Debug)]
struct Share {
    semaphore: Arc<Semaphore>,
    bytes: u32,
}

/// Bytes drawn from a budget; they return when it is dropped.
#[derive(Debug, Default)]
pub struct Permit {
    _held: Option<OwnedSemaphorePermit>,
}

impl ByteBudget {
    /// A budget of this many bytes.
    pub fn new(bytes: u32) -> Self {
        let small = bytes / 8;
        Self { bulk: Share::new(bytes - small), small: Share::new(small) }
    }

    /// Waits until `bytes` are free. A frame longer than the whole budget takes all of it.
    pub async fn take(&self, bytes: u32) -> Permit {
        let share = if bytes <= SMALL_BYTES { &self.small } else { &self.bulk };
        let permit = Arc::clone(&share.semaphore).acquire_many_owned(bytes.min(share.bytes)).await;
        // The semaphore is never closed.
        Permit { _held: permit.ok() }
    }

    /// Bytes that are free now, both shares together.
    pub fn free_bytes(&self) -> u64 {
        (self.bulk.semaphore.available_permits() + self.small.semaphore.available_permits()) as u64
    }
}

impl Share {
    fn new(bytes: u32) -> Self {
        Self { semaphore: Arc::new(Semaphore::new(bytes as usize)), bytes }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_bulk_frame_waits_for_bytes_and_a_small_one_does_not() {
        let budget = ByteBudget::new(8 << 20);
        let held = budget.take(u32::MAX).await;
        assert!(budget.take(SMALL_BYTES + 1).now_or_never().is_none());
        assert!(budget.take(SMALL_BYTES).now_or_never().is_some());
        drop(held);
        assert!(budget.take(SMALL_BYTES + 1).now_or_never().is_some());
        assert_eq!(budget.free_bytes(), 8 << 20);
    }
}
