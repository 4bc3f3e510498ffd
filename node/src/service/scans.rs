//! Snapshots of scans that have more pages to come, bounded in number and in time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kv_api::KvError;
use kv_lsm::Snapshot;
use parking_lot::Mutex;

/// Scans under way at once.
const OPEN_MAX: usize = 1024;
/// How long a client may take for the next page.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(super) struct OpenScans {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    open: BTreeMap<u64, (Arc<Snapshot>, Instant)>,
    next: u64,
}

impl Default for OpenScans {
    /// Numbers begin at the time, so that a cursor from before a restart finds nothing.
    fn default() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { inner: Mutex::new(Inner { open: BTreeMap::new(), next: now.as_nanos() as u64 }) }
    }
}

impl OpenScans {
    /// Takes the snapshot out for the next page. A page that is asked for twice at once starts anew.
    pub(super) fn take(&self, number: u64) -> Result<Arc<Snapshot>, KvError> {
        let found = self.inner.lock().open.remove(&number);
        found.map(|(snapshot, _)| snapshot).ok_or(KvError::SnapshotExpired)
    }

    /// Lets go of those whose client took too long.
    pub(super) fn prune(&self) {
        let now = Instant::now();
        self.inner.lock().open.retain(|_, (_, since)| now.duration_since(*since) < IDLE_MAX);
    }

    /// Keeps a snapshot for the next page.
    pub(super) fn keep(&self, snapshot: Arc<Snapshot>) -> Result<u64, KvError> {
        self.prune();
        let mut inner = self.inner.lock();
        if inner.open.len() >= OPEN_MAX {
            return Err(KvError::Busy { retry_after_ms: 1000 });
        }
        let number = inner.next;
        inner.next += 1;
        inner.open.insert(number, (snapshot, Instant::now()));
        Ok(number)
    }
}
