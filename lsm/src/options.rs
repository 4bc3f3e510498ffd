//! Settings of the engine. Behaviour first, then what only changes speed.

use std::sync::Arc;
use std::time::Duration;

use kv_vfs::Space;
use kv_vlog::{Compression, OnFatal};

use crate::compaction::{Limits, PickOptions};
use crate::gc::{Bounds, GcOptions};

/// Bounds what is remembered of the time that the log carries: 8 bytes in the manifest and 16 in memory for each second.
const KEEP_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Longest time that makes sense: a century and more.
const TIME_MAX: Duration = Duration::from_secs(1 << 32);
/// Longest block of a table that is asked for; one entry may be longer.
const BLOCK_BYTES_MAX: usize = 16 << 20;

/// Settings of a [`Store`](crate::Store). None of them changes what is on disk already, and a directory may be opened
/// with others each time, `base_bytes` and `level_multiplier` excepted.
///
/// First what changes behaviour (who is told of a failure, what is refused, kept, lost in a crash), then, from
/// `memtable_bytes_max` on, what only changes speed, memory and room. [`Options::validate`] says what cannot work; opening
/// asks it.
///
/// ```
/// use kv_lsm::Options;
///
/// let options = Options { block_cache_bytes: 256 << 20, value_cache_bytes: 64 << 20, ..Options::default() };
/// options.validate()?;
/// let wrong = Options { l0_tables_stop: 3, ..options };
/// assert!(wrong.validate().unwrap_err().contains("l0_tables_stop"));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone)]
pub struct Options {
    /// Told once when a write or sync has failed for good, before anybody is told of the failure. A server
    /// ends its process here. Default: nothing; every later call fails with
    /// [`StoreError::Poisoned`](crate::StoreError::Poisoned).
    pub on_fatal: OnFatal,
    /// Whether the directory may be opened with another `base_bytes` or `level_multiplier` than is recorded in it (and by a
    /// program with another number of levels): these are recorded from then on, and compaction brings the tables
    /// into that shape, which may rewrite most of them. Without it such an open is refused. Default false.
    pub accept_level_options: bool,
    /// Values of this many bytes and more stay in the segments, only a pointer goes into tables. Default
    /// 1 KiB.
    pub separate_bytes_min: u64,
    /// Whether and when values are compressed. Default: zstd level 1 from 512 bytes on, where it pays.
    pub compression: Compression,
    /// When values that nobody can read any more are given up. Default: by itself, once a quarter of a file is garbage.
    pub gc: GcOptions,
    /// The state as of each of so many last revisions can be read: entries of the log, of which each write is one. What
    /// they need is kept by flushes and compactions, and its values by value GC. Default 0: only the newest state can.
    pub keep_versions: u64,
    /// ... and the state as of any moment of this time, in seconds, by the time that the log carries. With both, what either
    /// wants is kept. At most 7 days. Default: none.
    pub keep_age: Option<Duration>,
    /// Bytes of log that are kept, where the store is to purge by itself what is in tables; `None`: whoever
    /// drives the store purges. Default `None`; 0 for a [`Db`](crate::Db), whose log nobody reads.
    pub log_kept_bytes: Option<u64>,
    /// Time after which writes that are acknowledged before they are durable ([`Durability::Batched`](crate::Durability)) are
    /// given to the disk at the latest, unless it is busy with earlier ones. What a crash may lose. Default 5 ms.
    pub batch_delay: Duration,
    /// What was deleted is gone from the tables by then, unless a snapshot sees it. Not meant for what has expired, which goes
    /// once it is a good part of a table. Default: no bound.
    pub erase_within: Option<Duration>,
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
    /// Bytes of a file that nothing needs any more that the disk gets back at once: a longer one goes in pieces of so many
    /// (more when very much waits), 5 ms apart. More at once keep a disk that discards what is freed from syncing the log
    /// meanwhile, about 1 ms for each MiB. Default 4 MiB.
    pub freed_bytes_max: u64,
    /// Bytes that one sync makes durable at most, unless one entry is longer. Default 4 MiB.
    pub group_bytes_max: u32,
    /// A manifest that is mostly history is rewritten when it is longer than this many bytes. Default 1 MiB.
    pub manifest_rewrite_bytes_min: u64,
    /// Newest entries kept in memory. Default 16 MiB.
    pub tail_cache_bytes: usize,
    /// Bytes appended and not yet durable before an embedded writer waits. Default 16 MiB.
    pub waiting_bytes_max: u64,
    /// With nothing written for this long, the memtable is flushed and compaction brings what is shadowed
    /// below `garbage_percent`. Default 10 s.
    pub idle_after: Duration,
    /// Percent of what is stored that may be shadowed, and so unknown to be garbage, in an idle store; and
    /// percent of the entries of a table for which it is rewritten once no snapshot needs them. Default 10.
    pub garbage_percent: u64,
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
    /// Bytes, with values, that the highest level below level 0 holds before another one comes above it. Recorded in the
    /// directory; see `accept_level_options`. Default 256 MiB.
    pub base_bytes: u64,
    /// How many times as much a level holds as the one above it. Recorded in the directory; see
    /// `accept_level_options`. Default 10.
    pub level_multiplier: u64,
    /// Length of tables that compaction writes. Default 64 MiB.
    pub table_bytes: u64,
    /// Length of a data block before compression. Default 4 KiB.
    pub block_bytes: usize,
    /// zstd level of blocks of tables; `None`: never compress. Default -1: a negative one does without entropy coding, whose
    /// tables cost more than they save in a block of 4 KiB. Against 1, blocks of keys and pointers are unpacked in half the
    /// time and 8 % longer, such of small JSON documents in three quarters of it and 33 % longer.
    pub table_compression_level: Option<i32>,
    /// Share of absent keys that the filter of a table lets through. Default 0.01.
    pub filter_false_positive: f64,
    /// Length in bytes from which on the index of a table is cut into partitions, each with its filter, that
    /// are loaded, and cached, when they are needed. Default 16 KiB.
    pub partition_bytes: usize,
    /// Bytes of table blocks, unpacked, that are kept in memory, partitions among them. 0: none. Default 32 MiB.
    pub block_cache_bytes: u64,
    /// Bytes of values, of those in segments, that are kept in memory, unpacked, once they are read by `get`, `multi_get` or
    /// an iterator that fills caches; none that is longer than a 64th of it, or than 1 MiB. 0: none. Default 0.
    pub value_cache_bytes: u64,
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
            accept_level_options: false,
            separate_bytes_min: 1 << 10,
            compression: Compression::default(),
            gc: GcOptions::default(),
            keep_versions: 0,
            keep_age: None,
            log_kept_bytes: None,
            batch_delay: Duration::from_millis(5),
            erase_within: None,
            memtable_bytes_max: 64 * MIB,
            memtable_entries_max: 1_000_000,
            log_flush_bytes_max: 128 * MIB,
            memtables_waiting_max: 2,
            segment_bytes: 8 * MIB..=128 * MIB,
            recycled_bytes_max: 32 * MIB,
            freed_bytes_max: 4 * MIB,
            group_bytes_max: 4 << 20,
            manifest_rewrite_bytes_min: MIB,
            tail_cache_bytes: 16 << 20,
            waiting_bytes_max: 16 * MIB,
            idle_after: Duration::from_secs(10),
            garbage_percent: 10,
            compactions_max: 2,
            l0_tables_max: 4,
            l0_tables_slow: 12,
            l0_tables_stop: 24,
            pending_bytes_slow: 64 << 30..256 << 30,
            base_bytes: 256 * MIB,
            level_multiplier: 10,
            table_bytes: 64 * MIB,
            block_bytes: 4 << 10,
            table_compression_level: Some(-1),
            filter_false_positive: 0.01,
            partition_bytes: 16 << 10,
            block_cache_bytes: 32 * MIB,
            value_cache_bytes: 0,
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
            ("freed_bytes_max", self.freed_bytes_max),
            ("group_bytes_max", u64::from(self.group_bytes_max)),
            ("table_bytes", self.table_bytes),
            ("block_bytes", self.block_bytes as u64),
            ("partition_bytes", self.partition_bytes as u64),
            ("open_tables_max", self.open_tables_max as u64),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} must be larger than 0"));
        }
        self.bounded()?;
        self.timed()?;
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
        if self.keep_age.is_some_and(|age| age < Duration::from_secs(1) || age > KEEP_AGE_MAX) {
            return Err("keep_age must lie between 1 s and 7 days".into());
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

    /// What could be too large.
    fn bounded(&self) -> Result<(), String> {
        let bounds = [
            ("memtables_waiting_max", self.memtables_waiting_max, 64),
            ("read_threads", self.read_threads, 256),
            ("block_bytes", self.block_bytes, BLOCK_BYTES_MAX),
            ("partition_bytes", self.partition_bytes, BLOCK_BYTES_MAX),
        ];
        if let Some((name, _, max)) = bounds.iter().find(|(_, value, max)| value > max) {
            return Err(format!("{name} must be {max} at most"));
        }
        if self.pending_bytes_slow.start > self.pending_bytes_slow.end {
            return Err("pending_bytes_slow must not end before it begins".into());
        }
        let levels = zstd::compression_level_range();
        for (name, level) in [
            ("compression.level", self.compression.level),
            ("table_compression_level", self.table_compression_level),
        ] {
            if level.is_some_and(|level| !levels.contains(&level)) {
                let (least, most) = (levels.start(), levels.end());
                return Err(format!("{name} must lie between {least} and {most}"));
            }
        }
        Ok(())
    }

    /// Times are added to what clocks say, which must not overflow.
    fn timed(&self) -> Result<(), String> {
        if self.idle_after.is_zero() {
            return Err("idle_after must be larger than 0".into());
        }
        let times = [
            ("idle_after", self.idle_after),
            ("batch_delay", self.batch_delay),
            ("erase_within", self.erase_within.unwrap_or_default()),
            ("gc.age_min", self.gc.age_min),
            ("gc.interval", self.gc.interval),
        ];
        match times.iter().find(|(_, time)| *time > TIME_MAX) {
            Some((name, _)) => Err(format!("{name} must be {} s at most", TIME_MAX.as_secs())),
            None => Ok(()),
        }
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

#[cfg(test)]
mod tests {
    use std::ops::{Range, RangeInclusive};

    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Options::default().validate(), Ok(()));
        assert_eq!(
            Options { read_threads: 0, batch_delay: Duration::ZERO, ..Options::default() }.validate(),
            Ok(())
        );
    }

    /// Broken by: a setting that cannot work and that opening accepts.
    #[test]
    fn what_cannot_work_is_refused_by_its_name() {
        type Change = fn(&mut Options);
        let wrong: [(&str, Change); 41] = [
            ("memtable_bytes_max", |o| o.memtable_bytes_max = 0),
            ("memtable_entries_max", |o| o.memtable_entries_max = 0),
            ("log_flush_bytes_max", |o| o.log_flush_bytes_max = 0),
            ("memtables_waiting_max", |o| o.memtables_waiting_max = 0),
            ("memtables_waiting_max", |o| o.memtables_waiting_max = 65),
            ("freed_bytes_max", |o| o.freed_bytes_max = 0),
            ("group_bytes_max", |o| o.group_bytes_max = 0),
            ("waiting_bytes_max", |o| o.waiting_bytes_max = 0),
            ("batch_delay", |o| o.batch_delay = Duration::MAX),
            ("compactions_max", |o| o.compactions_max = 0),
            ("compactions_max", |o| o.compactions_max = 65),
            ("l0_tables_max", |o| o.l0_tables_max = 0),
            ("l0_tables_stop", |o| o.l0_tables_stop = 4),
            ("l0_tables_slow", |o| o.l0_tables_slow = 25),
            ("pending_bytes_slow", |o| o.pending_bytes_slow = Range { start: 5, end: 4 }),
            ("base_bytes", |o| o.base_bytes = 0),
            ("level_multiplier", |o| o.level_multiplier = 1),
            ("garbage_percent", |o| o.garbage_percent = 101),
            ("idle_after", |o| o.idle_after = Duration::ZERO),
            ("idle_after", |o| o.idle_after = Duration::MAX),
            ("erase_within", |o| o.erase_within = Some(Duration::ZERO)),
            ("erase_within", |o| o.erase_within = Some(Duration::MAX)),
            ("table_bytes", |o| o.table_bytes = 0),
            ("block_bytes", |o| o.block_bytes = 0),
            ("block_bytes", |o| o.block_bytes = 17 << 20),
            ("partition_bytes", |o| o.partition_bytes = 0),
            ("partition_bytes", |o| o.partition_bytes = 17 << 20),
            ("open_tables_max", |o| o.open_tables_max = 0),
            ("read_threads", |o| o.read_threads = 257),
            ("filter_false_positive", |o| o.filter_false_positive = f64::NAN),
            ("filter_false_positive", |o| o.filter_false_positive = 0.0),
            ("segment_bytes", |o| o.segment_bytes = RangeInclusive::new(8 << 20, 4 << 20)),
            ("segment_bytes", |o| o.segment_bytes = 1..=8 << 20),
            ("compression.level", |o| o.compression.level = Some(23)),
            ("table_compression_level", |o| o.table_compression_level = Some(23)),
            ("gc.garbage_ratio_min", |o| o.gc.garbage_ratio_min = f64::NAN),
            ("gc.space_amplification_goal", |o| o.gc.space_amplification_goal = 0.9),
            ("gc.space_amplification_max", |o| o.gc.space_amplification_max = 1.0),
            ("gc.interval", |o| o.gc.interval = Duration::ZERO),
            ("gc.interval", |o| o.gc.interval = Duration::MAX),
            ("gc.age_min", |o| o.gc.age_min = Duration::MAX),
        ];
        for (name, change) in wrong {
            let mut options = Options::default();
            change(&mut options);
            let why = options.validate().unwrap_err();
            assert!(why.contains(name), "{name}: {why}");
        }
    }
}
