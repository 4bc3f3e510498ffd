//! Sizes and counters of the store, as operators are shown them.

use kv_api::stats::{
    BlockCache, Compactions, Disk, Flushes, Level, Memory, Reads, Segments, Stalls, Stats, ValueCache, Waits,
    Written,
};

use super::gc::totals;

/// What the store says of itself, in the words of the wire.
#[must_use]
pub fn of(node_id: u64, stats: &kv_lsm::Stats) -> Stats {
    let kv_lsm::Stats { caches, value_cache, compactions, .. } = stats;
    Stats {
        node_id,
        levels: (0..).zip(&stats.levels).map(level).collect(),
        memory: Memory {
            memtable_bytes: stats.memtable_bytes,
            memtables_waiting: stats.memtables_waiting,
            unflushed_bytes: stats.unflushed_bytes,
            waiting_bytes: stats.waiting_bytes,
            snapshots: stats.snapshots,
        },
        segments: Segments {
            count: stats.segments,
            bytes: stats.segment_bytes,
            live_bytes: stats.live_bytes,
            garbage_bytes: stats.garbage_bytes(),
            recycled_files: stats.recycled_files,
            recycled_bytes: stats.recycled_bytes,
            held_bytes: stats.held_bytes,
        },
        disk: Disk {
            bytes: stats.disk_bytes,
            needed_bytes: stats.needed_bytes(),
            amplification: stats.space_amplification(),
        },
        written: written(&stats.written),
        reads: reads(&stats.reads),
        block_cache: BlockCache {
            hits: caches.hits,
            misses: caches.misses,
            bytes: caches.bytes,
            bytes_max: caches.bytes_max,
            blocks_read: caches.data_blocks_read,
            bytes_read: caches.bytes_read,
            open_files: caches.open_files,
            files_opened: caches.files_opened,
        },
        value_cache: ValueCache {
            hits: value_cache.hits,
            misses: value_cache.misses,
            values: value_cache.values,
            bytes: value_cache.bytes,
            bytes_max: value_cache.bytes_max,
        },
        stalls: stalls(&stats.stalls),
        flushes: Flushes { done: stats.flushes, running: stats.is_flushing },
        compactions: Compactions {
            running: stats.compactions_running,
            running_max: compactions.running_max,
            merges: compactions.merges,
            moves: compactions.moves,
            read_bytes: compactions.read_bytes,
            written_bytes: compactions.written_bytes,
        },
        gc: totals(stats.collected),
    }
}

fn level((number, level): (u64, &kv_lsm::LevelStats)) -> Level {
    let kv_lsm::LevelStats { tables, bytes, entries, tombstones, values, value_bytes } = *level;
    Level { level: number, tables, bytes, entries, tombstones, values, value_bytes }
}

fn written(written: &kv_lsm::WriteStats) -> Written {
    let amplification = written.amplification();
    let kv_lsm::WriteStats { user_bytes, segment_bytes, gc_bytes, table_bytes, other_bytes } = *written;
    Written { user_bytes, segment_bytes, gc_bytes, table_bytes, other_bytes, amplification }
}

fn reads(reads: &kv_lsm::ReadStats) -> Reads {
    let kv_lsm::ReadStats { gets, blocks, values } = *reads;
    Reads { gets, blocks, values, amplification: reads.amplification() }
}

fn stalls(stalls: &kv_lsm::StallStats) -> Stalls {
    let waits = |(bits, count): (u32, &u64)| Waits { below_micros: 1 << bits, count: *count };
    Stalls {
        slowed: stalls.slowed,
        slowed_for_space: stalls.slowed_for_space,
        stopped: stalls.stopped,
        micros_sum: stalls.micros_sum,
        space_micros_sum: stalls.space_micros_sum,
        micros_max: stalls.micros_max,
        waits: (0..).zip(&stalls.micros).filter(|(_, count)| **count > 0).map(waits).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_that_did_not_occur_are_left_out() {
        let mut found = kv_lsm::StallStats::default();
        (found.micros[0], found.micros[3], found.slowed) = (2, 5, 7);
        let shown = stalls(&found);
        let waits = [Waits { below_micros: 1, count: 2 }, Waits { below_micros: 8, count: 5 }];
        assert_eq!((shown.waits.as_slice(), shown.slowed), (&waits[..], 7));
    }

    #[test]
    fn levels_are_numbered_from_the_newest_on() {
        let levels = vec![kv_lsm::LevelStats { tables: 3, ..Default::default() }, Default::default()];
        let shown = of(5, &kv_lsm::Stats { levels, ..Default::default() });
        assert_eq!(shown.node_id, 5);
        let levels: Vec<_> = shown.levels.iter().map(|level| (level.level, level.tables)).collect();
        assert_eq!(levels, [(0, 3), (1, 0)]);
    }
}
