//! A nearly full disk: writes stop early, reads and deletes go on, and writes resume by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_api::KvError;
use kv_lsm::{Room, Store};

/// Knows how much room is left.
#[derive(Clone, Debug)]
pub struct DiskGuard(Arc<Seen>);

#[derive(Debug)]
struct Seen {
    /// Bytes, as they were seen last, less what was written since.
    available: AtomicU64,
    /// Bytes to be kept free.
    reserve: AtomicU64,
}

impl Default for DiskGuard {
    /// Refuses nothing before it has looked.
    fn default() -> Self {
        Self(Arc::new(Seen { available: u64::MAX.into(), reserve: 0.into() }))
    }
}

impl DiskGuard {
    /// Asks the file system of the store.
    pub fn look(&self, store: &Store) {
        match store.room() {
            Ok(room) => self.saw(room),
            Err(error) => tracing::warn!(%error, "cannot tell how much room the disk has"),
        }
    }

    fn saw(&self, room: Room) {
        self.0.available.store(room.available_bytes, Ordering::Relaxed);
        self.0.reserve.store(room.reserve_bytes, Ordering::Relaxed);
    }

    /// Refuses a put of so many bytes where there is too little room; takes note of it where there is enough, so that many in a
    /// short time do not take more than was seen.
    pub fn check(&self, bytes: u64) -> Result<(), KvError> {
        let Seen { available, reserve } = &*self.0;
        let (seen, reserve) = (available.load(Ordering::Relaxed), reserve.load(Ordering::Relaxed));
        if seen >= reserve {
            let less = |seen: u64| Some(seen.saturating_sub(bytes));
            let _ = available.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            return Ok(());
        }
        Err(KvError::Unavailable(format!(
            "the disk is nearly full: {} MiB left, puts need {} MiB; make room, they resume by themselves",
            seen >> 20,
            reserve >> 20
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_between_two_looks_counts() {
        let guard = DiskGuard::default();
        assert!(guard.check(u64::MAX).is_ok(), "nothing was seen yet");
        let room = Room { available_bytes: 100 << 20, reserve_bytes: 90 << 20 };
        guard.saw(room);
        (0..2).for_each(|_| guard.check(6 << 20).unwrap());
        let refused = guard.check(1).unwrap_err().to_string();
        assert!(refused.contains("88 MiB left, puts need 90 MiB"), "{refused}");
        guard.saw(room);
        assert!(guard.check(1).is_ok(), "they resume by themselves");
        guard.saw(Room { available_bytes: 0, ..room });
        assert!(guard.check(1).is_err());
    }
}
