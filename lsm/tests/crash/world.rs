//! One life of the process: an executor, a clock, options that make everything small; and the database.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kv_lsm::{Db, Environment, Options, StoreError};
use kv_vfs::{ManualClock, SteppedExecutor, Vfs};

/// What the database runs on. The disk outlives it.
pub struct World {
    environment: Environment,
    executor: SteppedExecutor,
}

pub fn dir() -> &'static Path {
    Path::new("/above/data")
}

/// So small that the script flushes, rolls and compacts every few steps.
fn options() -> Options {
    Options {
        separate_bytes_min: 1 << 10,
        memtable_bytes_max: 8 << 10,
        memtable_entries_max: 12,
        log_flush_bytes_max: 96 << 10,
        memtables_waiting_max: 2,
        segment_bytes: 64 << 10..=64 << 10,
        // Several groups for one call's worth of waiting writes: the flusher gets its turn between them.
        group_bytes_max: 8 << 10,
        // So that entries which wait to be applied are read from the disk, too.
        tail_cache_bytes: 16 << 10,
        waiting_bytes_max: 64 << 10,
        l0_tables_max: 2,
        table_bytes: 1 << 10,
        block_bytes: 256,
        ..Options::default()
    }
}

impl World {
    pub fn new(vfs: &Arc<dyn Vfs>) -> Self {
        let clock = Arc::new(ManualClock::default());
        let executor = SteppedExecutor::new(clock.clone());
        let environment = Environment { vfs: vfs.clone(), clock, executor: Arc::new(executor.clone()) };
        Self { environment, executor }
    }

    pub fn open(&self) -> Result<Db, StoreError> {
        Db::open_in(&self.environment, dir(), options())
    }

    /// Lets time pass and the background work go on.
    pub fn pass(&self, time: Duration) {
        self.executor.advance(time);
    }
}

/// Opens the database in a world of its own.
pub fn open(vfs: &Arc<dyn Vfs>) -> Result<Db, StoreError> {
    World::new(vfs).open()
}
