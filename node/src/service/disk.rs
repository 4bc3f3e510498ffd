//! A nearly full disk: writes stop early, reads and deletes go on, and writes resume by themselves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_api::KvError;
use kv_vfs::Vfs;

/// Knows how much room is left.
#[derive(Clone, Debug)]
pub struct DiskGuard {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    /// Bytes kept free for segments under way, tables and the manifest.
    reserve_bytes: u64,
    available: Arc<AtomicU64>,
}

impl DiskGuard {
    /// Watches the file system of `dir`; refuses puts when fewer than `reserve_bytes` are available.
    #[must_use]
    pub fn new(vfs: Arc<dyn Vfs>, dir: PathBuf, reserve_bytes: u64) -> Self {
        let guard = Self { vfs, dir, reserve_bytes, available: Arc::new(AtomicU64::new(u64::MAX)) };
        guard.look();
        guard
    }

    /// Asks the file system.
    pub fn look(&self) {
        match self.vfs.space(&self.dir) {
            Ok(space) => self.available.store(space.available, Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "cannot tell how much room the disk has"),
        }
    }

    /// The file system, and the data directory on it.
    pub(super) fn place(&self) -> (&dyn Vfs, &Path) {
        (&*self.vfs, &self.dir)
    }

    /// Refuses a put where there is too little room.
    pub fn check(&self) -> Result<(), KvError> {
        let available = self.available.load(Ordering::Relaxed);
        if available >= self.reserve_bytes {
            return Ok(());
        }
        Err(KvError::Unavailable(format!(
            "the disk is nearly full: {} MiB left, puts need {} MiB; make room, they resume by themselves",
            available >> 20,
            self.reserve_bytes >> 20
        )))
    }
}
