//! One life of the process: a clock, an executor, options that make everything small; and what is known.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_lsm::{Environment, Options};
use kv_vfs::{ManualClock, MemVfs, SteppedExecutor, Vfs};
use parking_lot::{Mutex, MutexGuard};

/// Where the data is.
#[must_use]
pub fn dir() -> &'static Path {
    Path::new("/above/data")
}

/// So small that a workload flushes, rolls, compacts and rewrites the manifest every few steps.
#[must_use]
pub fn options() -> Options {
    Options {
        separate_bytes_min: 1 << 10,
        memtable_bytes_max: 8 << 10,
        memtable_entries_max: 12,
        log_flush_bytes_max: 96 << 10,
        memtables_waiting_max: 2,
        segment_bytes: 64 << 10..=64 << 10,
        // Some dead segments' files are written again, others go.
        recycled_bytes_max: 100 << 10,
        // ... in two pieces or more.
        freed_bytes_max: 40 << 10,
        // Several groups for one call's worth of waiting writes: the flusher gets its turn between them.
        group_bytes_max: 8 << 10,
        manifest_rewrite_bytes_min: 64 << 10,
        // So that entries which wait to be applied are read from the disk, too.
        tail_cache_bytes: 16 << 10,
        waiting_bytes_max: 64 << 10,
        l0_tables_max: 2,
        l0_tables_slow: 3,
        l0_tables_stop: 5,
        // Values count: a few of them fill a level, and the next one.
        base_bytes: 16 << 10,
        level_multiplier: 2,
        idle_after: Duration::from_millis(70),
        table_bytes: 1 << 10,
        block_bytes: 256,
        ..Options::default()
    }
}

/// The process, and what is known of its data.
#[derive(Debug)]
pub struct Life<K> {
    clock: Arc<ManualClock>,
    executor: SteppedExecutor,
    known: Mutex<K>,
    fatal: Arc<AtomicU64>,
    refused: Mutex<Option<bool>>,
    stage: Mutex<&'static str>,
}

impl<K> Life<K> {
    /// The next process, knowing this.
    pub fn new(known: K) -> Arc<Self> {
        let clock = Arc::new(ManualClock::default());
        let executor = SteppedExecutor::new(clock.clone());
        let (known, stage) = (Mutex::new(known), Mutex::new("open"));
        Arc::new(Self { clock, executor, known, fatal: Arc::default(), refused: Mutex::default(), stage })
    }

    /// The seams, on this disk.
    pub fn environment(&self, vfs: &Arc<dyn Vfs>) -> Environment {
        let executor = Arc::new(self.executor.clone());
        Environment { vfs: vfs.clone(), clock: self.clock.clone(), executor }
    }

    /// Options that count how often the process was told to end, from now on.
    pub fn options(&self) -> Options {
        let fatal = self.fatal.clone();
        fatal.store(0, Ordering::SeqCst);
        Options { on_fatal: Arc::new(move |_| _ = fatal.fetch_add(1, Ordering::SeqCst)), ..options() }
    }

    /// How often the process was told to end.
    pub fn fatal(&self) -> u64 {
        self.fatal.load(Ordering::SeqCst)
    }

    /// Notes whether a write after an error was refused.
    pub fn note_refused(&self, refused: bool) {
        *self.refused.lock() = Some(refused);
    }

    /// Whether a write after an error was refused; `None`: nothing was open.
    pub fn refused(&self) -> Option<bool> {
        *self.refused.lock()
    }

    /// What is known.
    pub fn known(&self) -> MutexGuard<'_, K> {
        self.known.lock()
    }

    /// Lets time pass and the background work go on.
    pub fn pass(&self, time: Duration) {
        self.executor.advance(time);
    }

    /// Lets the background work go on until there is none.
    pub fn settle(&self) {
        self.executor.run_until_idle();
    }

    /// Says what is being done from now on.
    pub fn enter(&self, stage: &'static str) {
        *self.stage.lock() = stage;
    }

    /// What is being done.
    pub fn stage(&self) -> &'static str {
        *self.stage.lock()
    }

    /// Who is doing it: a worker, or the caller.
    pub fn worker(&self) -> Option<String> {
        self.executor.stepping()
    }
}

/// The disk as the engine takes it.
#[must_use]
pub fn shared(vfs: &MemVfs) -> Arc<dyn Vfs> {
    Arc::new(vfs.clone())
}
