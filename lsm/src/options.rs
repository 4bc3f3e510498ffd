//! Settings of the engine. Behaviour first, then what only changes speed.

use std::sync::Arc;
use std::time::Duration;

use kv_vfs::Space;
use kv_vlog::{Compression, OnFatal};

use crate::compaction::{Limits, PickOptions};
use crate::gc::{Bounds, GcOptions};

/// Settings of a [`Store`](crate::Store). None of them changes what is on disk already.
#[derive(Clone)]
pub struct Options {
    /// Told once when a write or sync has failed for good, before anybody is told of the failure. A server
    /// ends its process here. Default: nothing; every later call fails with
    /// [`StoreError::Poisoned`](crate::StoreError::Poisoned).
    pub on_fatal: OnFatal,
    /// Values of this many bytes and more stay in the segments, only a pointer goes into tables. Default
    /// 1 KiB.
    pub separate_bytes_min: u64,
    /// Whether and when values are compressed.
    pub compression: Compression,
    /// When values that nobody can read any more are given up.
    pub gc: GcOptions,
    /// Bytes of log that are kept, where the store is to purge by itself what is in tables; `None`: whoever
    /// drives the store purges. Default `None`; 0 for a [`Db`](crate::Db), whose log nobody reads.
    pub log_kept_bytes: Option<u64>,
    /// A memtable is flushed at this many bytes. Bounds memory. Default 64 MiB.
    pub memtable_bytes_max: u64,
    /// ... or at this many entries. Bounds the time of recovery. Default 1,000,000.
    pub memtable_entries_max: u64,
    /// ... or when this many bytes of log came in since the last flush. Bounds the time of recovery.
    /// Default 128 MiB.
    pub log_flush_bytes_max: u64,
    /// Memtables that may wait for their flush before writes wait too. Default 2.
    pub memtables_waiting_max: usize,
    /// Smallest and largest segment; between them it is a 32nd of what is stored. Default 8 and 128 MiB.
    pub segment_bytes: std::ops::RangeInclusive<u64>,
    /// Bytes of dead segment files that are kept to be written again, or a 16th of what is stored (two segments' worth), if
    /// that is more: a sync of what was written before takes half the time. Room that is short is given back. 0: none.
    /// Default 32 MiB.
    pub recycled_bytes_max: u64,
    /// Bytes that one sync makes durable at most, unless one entry is longer. Default 4 MiB.
    pub group_bytes_max: u32,
    /// A manifest that is mostly history is rewritten when it is longer than this many bytes. Default 1 MiB.
    pub manifest_rewrite_bytes_min: u64,
    /// Newest entries kept in memory. Default 16 MiB.
    pub tail_cache_bytes: usize,
    /// Bytes appended and not yet durable before an embedded writer waits. Default 16 MiB.
    pub waiting_bytes_max: u64,
    /// Time after which writes that are acknowledged before they are durable are given to the disk at the latest,
    /// unless it is busy with earlier ones. Default 5 ms.
    pub batch_delay: Duration,
    /// With nothing written for this long, the memtable is flushed and compaction brings what is shadowed
    /// below `garbage_percent`. Default 10 s.
    pub idle_after: Duration,
    /// Percent of what is stored that may be shadowed, and so unknown to be garbage, in an idle store; and
    /// percent of the entries of a table for which it is rewritten once no snapshot needs them. Default 10.
    pub garbage_percent: u64,
    /// What was deleted is gone from the tables by then, unless a snapshot sees it. Default: no bound.
    pub erase_within: Option<Duration>,
    /// Compactions, and parts of a large one, that run at once; each on a thread. Default 2.
    pub compactions_max: usize,
    /// Tables of level 0 that start a compaction. Default 4.
    pub l0_tables_max: usize,
    /// Tables of level 0 from which on writes are slowed down. Default 12.
    pub l0_tables_slow: usize,
    /// Tables of level 0 at which writes wait. Default 24.
    pub l0_tables_stop: usize,
    /// Bytes that compaction has yet to rewrite from which on, and up to which, writes are slowed down ever
    /// more. Default 64 to 256 GiB.
    pub pending_bytes_slow: std::ops::Range<u64>,
    /// Bytes, with values, that the highest level below level 0 holds before another one comes above it.
    /// Default 256 MiB.
    pub base_bytes: u64,
    /// How many times as much a level holds as the one above it. Default 10.
    pub level_multiplier: u64,
    /// Length of tables that compaction writes. Default 64 MiB.
    pub table_bytes: u64,
    /// Length of a data block before compression. Default 4 KiB.
    pub block_bytes: usize,
    /// zstd for data blocks. Default on.
    pub table_compression: bool,
    /// Share of absent keys that the filter of a table lets through. Default 0.01.
    pub filter_false_positive: f64,
    /// Length in bytes from which on the index of a table is cut into partitions, each with its filter, that
    /// are loaded, and cached, when they are needed. Default 16 KiB.
    pub partition_bytes: usize,
    /// Bytes of table blocks, unpacked, that are kept in memory, partitions among them. 0: none. Default 32 MiB.
    pub block_cache_bytes: u64,
    /// Files of tables that are open at once; others are opened when they are read. Default 512.
    pub open_tables_max: usize,
    /// Threads that read values ahead of iterators and for reads of many keys; started when first needed.
    /// 0: each read is done by who asks. Default 4.
    pub read_threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            on_fatal: Arc::new(|_| {}),
            separate_bytes_min: 1 << 10,
            compression: Compression::default(),
            gc: GcOptions::default(),
            log_kept_bytes: None,
            memtable_bytes_max: 64 * MIB,
            memtable_entries_max: 1_000_000,
            log_flush_bytes_max: 128 * MIB,
            memtables_waiting_max: 2,
            segment_bytes: 8 * MIB..=128 * MIB,
            recycled_bytes_max: 32 * MIB,
            group_bytes_max: 4 << 20,
            manifest_rewrite_bytes_min: MIB,
            tail_cache_bytes: 16 << 20,
            waiting_bytes_max: 16 * MIB,
            batch_delay: Duration::from_millis(5),
            idle_after: Duration::from_secs(10),
            garbage_percent: 10,
            erase_within: None,
            compactions_max: 2,
            l0_tables_max: 4,
            l0_tables_slow: 12,
            l0_tables_stop: 24,
            pending_bytes_slow: 64 << 30..256 << 30,
            base_bytes: 256 * MIB,
            level_multiplier: 10,
            table_bytes: 64 * MIB,
            block_bytes: 4 << 10,
            table_compression: true,
            filter_false_positive: 0.01,
            partition_bytes: 16 << 10,
            block_cache_bytes: 32 * MIB,
            open_tables_max: 512,
            read_threads: 4,
        }
    }
}

impl Options {
    /// Refuses settings that cannot work, naming the field and what it must be.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("memtable_bytes_max", self.memtable_bytes_max),
            ("memtable_entries_max", self.memtable_entries_max),
            ("log_flush_bytes_max", self.log_flush_bytes_max),
            ("memtables_waiting_max", self.memtables_waiting_max as u64),
            ("waiting_bytes_max", self.waiting_bytes_max),
            ("compactions_max", self.compactions_max as u64),
            ("l0_tables_max", self.l0_tables_max as u64),
            ("base_bytes", self.base_bytes),
            ("idle_after", self.idle_after.as_nanos() as u64),
            ("table_bytes", self.table_bytes),
            ("block_bytes", self.block_bytes as u64),
            ("partition_bytes", self.partition_bytes as u64),
            ("open_tables_max", self.open_tables_max as u64),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} must be larger than 0"));
        }
        if self.l0_tables_stop <= self.l0_tables_max || self.l0_tables_slow > self.l0_tables_stop {
            return Err("l0_tables_stop must be above l0_tables_max, and l0_tables_slow not above it".into());
        }
        if self.level_multiplier < 2 || self.garbage_percent > 100 || self.compactions_max > 64 {
            return Err(
                "level_multiplier must be 2 at least, garbage_percent 100 and compactions_max 64 at most"
                    .into(),
            );
        }
        if self.erase_within.is_some_and(|within| within < Duration::from_secs(1)) {
            return Err("erase_within must be 1 s at least".into());
        }
        let (min, max) = (*self.segment_bytes.start(), *self.segment_bytes.end());
        if min < 64 << 10 || max < min || max > 1 << 31 {
            return Err("segment_bytes must lie between 64 KiB and 2 GiB, the smaller first".into());
        }
        if !(0.000_001..=0.5).contains(&self.filter_false_positive) {
            return Err("filter_false_positive must lie between 0.000001 and 0.5".into());
        }
        self.gc.validate()
    }

    /// When to compact.
    pub(crate) fn pick(&self) -> PickOptions {
        PickOptions {
            l0_tables_max: self.l0_tables_max,
            base_bytes: self.base_bytes,
            level_multiplier: self.level_multiplier,
            table_bytes: self.table_bytes,
            garbage_percent: self.garbage_percent,
        }
    }

    /// When to slow writes down.
    pub(crate) fn limits(&self) -> Limits {
        let pending = &self.pending_bytes_slow;
        Limits {
            l0_tables: (self.l0_tables_slow, self.l0_tables_stop),
            pending_bytes: (pending.start, pending.end),
        }
    }

    /// Bytes of files that are kept to be written again, given what is stored.
    pub(crate) fn recycled_bytes_for(&self, live_bytes: u64) -> u64 {
        if self.recycled_bytes_max == 0 { 0 } else { self.recycled_bytes_max.max(live_bytes / 16) }
    }

    /// What collections have to fit into; a new file is as long as a segment of the log.
    pub(crate) fn gc_bounds(&self, live_bytes: u64, space: Space) -> Bounds {
        Bounds {
            available_bytes: space.available,
            total_bytes: space.total,
            output_bytes_max: self.segment_bytes_for(live_bytes, space.available),
            group_bytes_max: u64::from(self.group_bytes_max),
        }
    }

    /// When a segment is full, given what is stored and what room there is: where that is short, in smaller pieces, which are
    /// garbage as a whole sooner, and which value GC needs less room beside to collect.
    pub(crate) fn segment_bytes_for(&self, live_bytes: u64, available_bytes: u64) -> u64 {
        let fitting = (live_bytes / 32).min(available_bytes / 16);
        fitting.clamp(*self.segment_bytes.start(), *self.segment_bytes.end())
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("separate_bytes_min", &self.separate_bytes_min)
            .field("memtable_bytes_max", &self.memtable_bytes_max)
            .field("log_flush_bytes_max", &self.log_flush_bytes_max)
            .field("segment_bytes", &self.segment_bytes)
            .finish_non_exhaustive()
    }
}
