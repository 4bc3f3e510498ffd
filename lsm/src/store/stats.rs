//! Sizes, counters and a look at everything, of the running store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::view::{LEVELS, Table, Tables};
use super::{Collected, CompactionStats, Shared, StallStats, Store, ValueCacheStats};
use crate::compaction::value_bytes;
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
    /// Values in segments that they point to.
    pub values: u64,
    /// Bytes of these, as stored.
    pub value_bytes: u64,
}

/// What was written into the data directory since the store was opened, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteStats {
    /// Keys and values of operations that were applied, before compression. What an installed state brings is not in it.
    pub user_bytes: u64,
    /// Files of segments: the log, and what value GC and installed states write.
    pub segment_bytes: u64,
    /// Value GC's share of these.
    pub gc_bytes: u64,
    /// Tables: flushes, compactions, installed states.
    pub table_bytes: u64,
    /// The manifest, and copies that recovery makes.
    pub other_bytes: u64,
}

/// What reads of keys took since the store was opened; of iterators and scans nothing is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadStats {
    /// Keys asked for.
    pub gets: u64,
    /// Data blocks of tables read from the disk for them.
    pub blocks: u64,
    /// Values, or parts of values, read from segments for them.
    pub values: u64,
}

/// Sizes and counters of a store. Counters begin when it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The levels of tables, from the newest on.
    pub levels: Vec<LevelStats>,
    /// Memory of all memtables, in bytes; estimated.
    pub memtable_bytes: u64,
    /// Memtables that wait for their flush.
    pub memtables_waiting: u64,
    /// Bytes of log that are in no table yet: a restart reads them again.
    pub unflushed_bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes in use in their files.
    pub segment_bytes: u64,
    /// Bytes in them that tables point to.
    pub live_bytes: u64,
    /// Files that held segments and wait to be written again.
    pub recycled_files: u64,
    /// Bytes of these.
    pub recycled_bytes: u64,
    /// Bytes of files that are given up, but that somebody still reads.
    pub held_bytes: u64,
    /// What the data directory takes on the disk, in bytes: all its files, room that is reserved for the open segment among it.
    pub disk_bytes: u64,
    /// Bytes appended to the log and not yet durable.
    pub waiting_bytes: u64,
    /// Open snapshots of different moments.
    pub snapshots: u64,
    /// What was written.
    pub written: WriteStats,
    /// What reads took.
    pub reads: ReadStats,
    /// Caches of tables.
    pub caches: CacheStats,
    /// The cache of values.
    pub value_cache: ValueCacheStats,
    /// What writes have waited for background work, and how long.
    pub stalls: StallStats,
    /// Memtables written out as tables.
    pub flushes: u64,
    /// Whether one is being written out.
    pub is_flushing: bool,
    /// What compactions did.
    pub compactions: CompactionStats,
    /// Compactions that run.
    pub compactions_running: u64,
    /// What value GC did.
    pub collected: Collected,
}

impl WriteStats {
    /// All that was written, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segment_bytes + self.table_bytes + self.other_bytes
    }

    /// Bytes written for each that a user wrote; `None`: nothing was written by one.
    #[must_use]
    pub fn amplification(&self) -> Option<f64> {
        ratio(self.bytes(), self.user_bytes)
    }
}

impl ReadStats {
    /// Blocks and values read for each key asked for; `None`: nothing was asked for.
    #[must_use]
    pub fn amplification(&self) -> Option<f64> {
        ratio(self.blocks + self.values, self.gets)
    }
}

impl Stats {
    /// Bytes in segments that no table points to: garbage, framing, and what is in no table yet.
    #[must_use]
    pub fn garbage_bytes(&self) -> u64 {
        self.segment_bytes.saturating_sub(self.live_bytes)
    }

    /// Bytes that the store cannot do without, as far as is known: tables, the values they point to, and what the log alone
    /// holds. What newer versions shadow counts until a compaction has found it.
    #[must_use]
    pub fn needed_bytes(&self) -> u64 {
        let tables: u64 = self.levels.iter().map(|level| level.bytes).sum();
        tables + self.live_bytes + self.unflushed_bytes
    }

    /// How many times as much the data directory takes as it has to; `None`: there is nothing in it.
    #[must_use]
    pub fn space_amplification(&self) -> Option<f64> {
        ratio(self.disk_bytes, self.needed_bytes())
    }
}

fn ratio(of: u64, to: u64) -> Option<f64> {
    (to > 0).then(|| of as f64 / to as f64)
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

    /// Sizes and counters now. Looks at the names in the data directory, and reads no file.
    ///
    /// # Errors
    /// Where the data directory cannot be listed.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let Shared { core, log, counters, .. } = &*self.shared;
        let view = core.view();
        let frozen: usize = view.frozen.iter().map(|frozen| frozen.memtable.approximate_bytes()).sum();
        let (free, segments): (Vec<_>, Vec<_>) = self.segments()?.into_iter().partition(|line| line.free);
        let files = core.vfs.list(&core.dir)?;
        let (compactions, compactions_running) = {
            let compactions = self.shared.compactions.lock();
            (compactions.stats, compactions.running())
        };
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Stats {
            levels: levels(&view.tables),
            memtable_bytes: (view.active.approximate_bytes() + frozen) as u64,
            memtables_waiting: view.frozen.len() as u64,
            unflushed_bytes: core.unflushed_bytes(),
            segments: segments.len() as u64,
            segment_bytes: segments.iter().map(|segment| segment.bytes).sum(),
            live_bytes: segments.iter().map(|segment| segment.live_bytes).sum(),
            recycled_files: free.len() as u64,
            recycled_bytes: free.iter().map(|file| file.bytes).sum(),
            held_bytes: self.shared.collecting.held.bytes(),
            disk_bytes: files.iter().map(|file| file.disk_bytes).sum(),
            waiting_bytes: log.waiting_bytes(),
            snapshots: core.open_snapshots() as u64,
            written: self.write_stats(),
            reads: ReadStats {
                gets: count(&counters.gets),
                blocks: count(&counters.get_blocks),
                values: self.values.got(),
            },
            caches: core.caches.stats(),
            value_cache: self.values.cache_stats(),
            stalls: self.stall_stats(),
            flushes: count(&counters.flushes),
            is_flushing: counters.is_flushing.load(Ordering::Relaxed),
            compactions,
            compactions_running,
            collected: self.collected(),
        })
    }

    fn write_stats(&self) -> WriteStats {
        let Shared { counters, written, .. } = &*self.shared;
        WriteStats {
            user_bytes: counters.user_bytes.load(Ordering::Relaxed),
            segment_bytes: written.segments.load(Ordering::Relaxed),
            gc_bytes: self.collected().written_bytes,
            table_bytes: written.tables.load(Ordering::Relaxed),
            other_bytes: written.others.load(Ordering::Relaxed),
        }
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

    /// Reads and checks all tables, past all caches; goes on after damage. Gives the length in bytes of each, and what was
    /// found.
    pub fn verify_tables(&self) -> Vec<(u64, Result<(), StoreError>)> {
        let view = self.shared.core.view();
        let verified =
            |table: &Arc<Table>| (table.meta.bytes, table.reader.verify().map_err(StoreError::from));
        view.tables.iter().map(verified).collect()
    }
}

fn levels(tables: &Tables) -> Vec<LevelStats> {
    let mut levels = vec![LevelStats::default(); LEVELS];
    for table in tables.iter() {
        if let Some(level) = levels.get_mut(usize::from(table.meta.level)) {
            level.tables += 1;
            level.bytes += table.meta.bytes;
            level.entries += table.meta.entries;
            level.tombstones += table.meta.tombstones;
            level.values += table.meta.refs.iter().map(|refs| refs.count).sum::<u64>();
            level.value_bytes += value_bytes(&table.meta);
        }
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amplification_is_what_it_took_by_what_was_asked() {
        let written = WriteStats {
            user_bytes: 100,
            segment_bytes: 120,
            table_bytes: 25,
            other_bytes: 5,
            ..WriteStats::default()
        };
        assert_eq!((written.bytes(), written.amplification()), (150, Some(1.5)));
        let reads = ReadStats { gets: 4, blocks: 3, values: 2 };
        assert_eq!(reads.amplification(), Some(1.25));
        let level = LevelStats { bytes: 30, ..LevelStats::default() };
        let stats = Stats {
            levels: vec![level; 2],
            live_bytes: 100,
            unflushed_bytes: 40,
            disk_bytes: 300,
            segment_bytes: 150,
            ..Stats::default()
        };
        assert_eq!((stats.garbage_bytes(), stats.needed_bytes()), (50, 200));
        assert_eq!(stats.space_amplification(), Some(1.5));
    }

    #[test]
    fn of_nothing_there_is_no_amplification() {
        let stats = Stats { disk_bytes: 4096, ..Stats::default() };
        let all = [stats.written.amplification(), stats.reads.amplification(), stats.space_amplification()];
        assert_eq!(all, [None; 3]);
    }
}
