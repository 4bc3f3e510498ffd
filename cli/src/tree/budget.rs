//! Bounds on what is under way at once.

use tokio::sync::{Semaphore, SemaphorePermit};

/// At most so many requests, and at most so many bytes of values, in flight.
///
/// A value larger than all the bytes allowed goes alone.
pub struct Budget {
    requests: Semaphore,
    requests_max: usize,
    bytes: Semaphore,
    bytes_max: u32,
}

/// What one request holds; given back when dropped.
pub struct Share<'a> {
    _bytes: SemaphorePermit<'a>,
    _request: SemaphorePermit<'a>,
}

/// Bytes of values in flight, for import and export.
pub const BYTES_MAX: u32 = 64 << 20;

impl Budget {
    /// A budget of so many requests, at least one, and so many bytes.
    pub fn new(requests_max: usize, bytes_max: u32) -> Self {
        let requests_max = requests_max.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            requests: Semaphore::new(requests_max),
            requests_max,
            bytes: Semaphore::new(bytes_max as usize),
            bytes_max,
        }
    }

    /// How many requests may be in flight at once.
    pub fn requests_max(&self) -> usize {
        self.requests_max
    }

    /// Waits until a request with so many bytes may start. `None` cannot happen: nobody closes the budget.
    pub async fn take(&self, bytes: u64) -> Option<Share<'_>> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max);
        // Whoever waits for bytes holds no bytes, so those who hold some finish.
        let request = self.requests.acquire().await.ok()?;
        let bytes = self.bytes.acquire_many(bytes).await.ok()?;
        Some(Share { _bytes: bytes, _request: request })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_and_bytes_are_both_bounded() {
        use futures::FutureExt as _;
        let budget = Budget::new(2, 100);
        let small = budget.take(10).await;
        let all = budget.take(u64::MAX);
        tokio::pin!(all);
        assert!(all.as_mut().now_or_never().is_none(), "10 bytes are taken");
        drop(small);
        let all = all.await;
        assert!(budget.take(1).now_or_never().is_none(), "no byte is left");
        let empty = budget.take(0).now_or_never();
        assert!(empty.is_some(), "one request is left, and it needs no byte");
        assert!(budget.take(0).now_or_never().is_none(), "no request is left");
        drop((all, empty));
        assert!(budget.take(100).now_or_never().is_some());
    }
}
