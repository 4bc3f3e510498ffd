//! Sizes, counters and a look at everything, of the running store.

use super::view::LEVELS;
use super::{Shared, Store};
use crate::error::StoreError;
use crate::table::CacheStats;

/// The tables of one level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelStats {
    /// How many.
    pub tables: u64,
    /// Their length in bytes.
    pub bytes: u64,
    /// Versions in them.
    pub entries: u64,
    /// Tombstones among these.
    pub tombstones: u64,
}

/// Sizes and counters of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The levels of tables, from the newest on.
    pub levels: Vec<LevelStats>,
    /// Memory of all memtables, in bytes; estimated.
    pub memtable_bytes: u64,
    /// Memtables that wait for their flush.
    pub memtables_waiting: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes in use in them.
    pub segment_bytes: u64,
    /// Bytes in them that tables point to.
    pub live_bytes: u64,
    /// Bytes of files that held segments and wait to be written again.
    pub recycled_bytes: u64,
    /// Bytes appended to the log and not yet durable.
    pub waiting_bytes: u64,
    /// Open snapshots of different moments.
    pub snapshots: u64,
    /// Caches of tables.
    pub caches: CacheStats,
}

/// Room on the file system, for a server that has to say when it takes no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// What there is, in bytes.
    pub available_bytes: u64,
    /// With less than this no more should be written, in bytes: a log that has no room ends the process. It follows the
    /// length of segments, which follows what is stored and what room there is.
    pub reserve_bytes: u64,
}

/// What [`Store::verify`] read and found whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Tables.
    pub tables: u64,
    /// Segments, the open one up to what was written.
    pub segments: u64,
}

impl Store {
    /// Bytes in segments that tables point to. What is not flushed yet is not counted, what was overwritten
    /// is, until compaction has seen it.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.shared.changes.live_bytes()
    }

    /// Room on the file system now.
    ///
    /// # Errors
    /// It cannot be asked for.
    pub fn room(&self) -> Result<Room, StoreError> {
        let Shared { core, changes, .. } = &*self.shared;
        let space = core.vfs.space(&core.dir)?;
        let bounds = core.options.gc_bounds(changes.live_bytes(), space);
        let reserve_bytes = bounds.write_reserve_bytes(&core.options.gc);
        Ok(Room { available_bytes: space.available, reserve_bytes })
    }

    /// Sizes and counters now.
    ///
    /// # Errors
    /// Where the length of the open segment cannot be read.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let Shared { core, log, .. } = &*self.shared;
        let view = core.view();
        let mut levels = vec![LevelStats::default(); LEVELS];
        for table in view.tables.iter() {
            if let Some(level) = levels.get_mut(usize::from(table.meta.level)) {
                level.tables += 1;
                level.bytes += table.meta.bytes;
                level.entries += table.meta.entries;
                level.tombstones += table.meta.tombstones;
            }
        }
        let frozen: usize = view.frozen.iter().map(|frozen| frozen.memtable.approximate_bytes()).sum();
        let (free, segments): (Vec<_>, Vec<_>) = self.segments()?.into_iter().partition(|line| line.free);
        Ok(Stats {
            levels,
            memtable_bytes: (view.active.approximate_bytes() + frozen) as u64,
            memtables_waiting: view.frozen.len() as u64,
            segments: segments.len() as u64,
            segment_bytes: segments.iter().map(|segment| segment.bytes).sum(),
            live_bytes: segments.iter().map(|segment| segment.live_bytes).sum(),
            recycled_bytes: free.iter().map(|file| file.bytes).sum(),
            waiting_bytes: log.waiting_bytes(),
            snapshots: core.open_snapshots().len() as u64,
            caches: core.caches.stats(),
        })
    }

    /// Reads and checks all tables and segments, past all caches, while the store is in use. What is between
    /// them, whether each pointer leads to its value, a check of the closed directory finds out.
    ///
    /// # Errors
    /// The first damage; a failed read.
    pub fn verify(&self) -> Result<Verification, StoreError> {
        // The view keeps all files that it and the state of now name.
        let view = self.shared.core.view();
        let mut verified = Verification::default();
        for table in view.tables.iter() {
            table.reader.verify()?;
            verified.tables += 1;
        }
        for segment in self.state().segments.values() {
            self.verify_segment(segment)?;
            verified.segments += 1;
        }
        Ok(verified)
    }
}
