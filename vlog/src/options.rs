//! Settings of the log, and who is told of what it does.

use std::sync::Arc;
use std::time::Duration;

use crate::error::VlogError;
use crate::pool::FilePool;

/// Told when a record is durable, or that it never will be; from the writer's thread, in log order.
pub type Callback = Box<dyn FnOnce(Result<(), VlogError>) + Send>;

/// Told once, before any callback, that the log has stopped for good. A server ends its process here.
pub type OnFatal = Arc<dyn Fn(&str) + Send + Sync>;

/// Settings of the log.
#[derive(Clone)]
pub struct VlogOptions {
    /// Cluster the data belongs to.
    pub cluster_id: [u8; 16],
    /// Incarnation of the data directory.
    pub incarnation: u64,
    /// Raft group.
    pub group_id: u64,
    /// Which open of the directory this is; larger than all before.
    pub epoch: u64,
    /// A group takes no further entry beyond this many bytes; a larger entry has one of its own. Bounds
    /// what one sync makes heartbeats wait for. Default 4 MiB.
    pub group_bytes_max: u32,
    /// Bytes of written entries kept in memory. Default 16 MiB.
    pub tail_cache_bytes: usize,
    /// Values shorter than this many bytes are handed to apply whole. Default 1 KiB.
    pub inline_below: u64,
    /// Quiet time after which the last group is named by an empty one. Default 50 ms.
    pub idle: Duration,
    /// Time after which entries that nobody waits for are written, where no group has become large or urgent
    /// before. Default 5 ms.
    pub lazy: Duration,
    /// Files to begin segments in, and where those of segments go that are given up. Default: each segment has
    /// a new file, and those given up are removed.
    pub pool: Option<Arc<FilePool>>,
    /// See [`OnFatal`]. Default: nothing; every later call fails with [`VlogError::Poisoned`].
    pub on_fatal: OnFatal,
}

impl Default for VlogOptions {
    fn default() -> Self {
        Self {
            cluster_id: [0; 16],
            incarnation: 0,
            group_id: 0,
            epoch: 1,
            group_bytes_max: 4 << 20,
            tail_cache_bytes: 16 << 20,
            inline_below: 1 << 10,
            idle: Duration::from_millis(50),
            lazy: Duration::from_millis(5),
            pool: None,
            on_fatal: Arc::new(|_| {}),
        }
    }
}
