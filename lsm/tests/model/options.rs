//! Option sets: everything tiny, huge, on and off.

use std::time::Duration;

use kv_lsm::Options;
use kv_vlog::Compression;

/// How many there are.
pub const SETS: usize = 25;

/// So small that a sequence flushes, rolls and compacts every few steps.
fn small() -> Options {
    Options {
        memtable_bytes_max: 8 << 10,
        memtable_entries_max: 20,
        log_flush_bytes_max: 128 << 10,
        segment_bytes: 64 << 10..=64 << 10,
        freed_bytes_max: 16 << 10,
        group_bytes_max: 8 << 10,
        manifest_rewrite_bytes_min: 8 << 10,
        tail_cache_bytes: 16 << 10,
        waiting_bytes_max: 64 << 10,
        l0_tables_max: 2,
        table_bytes: 1 << 10,
        block_bytes: 256,
        partition_bytes: 64,
        block_cache_bytes: 8 << 10,
        open_tables_max: 3,
        read_threads: 2,
        ..Options::default()
    }
}

/// The option set of a seed, with its name.
pub fn of(seed: u64) -> (&'static str, Options) {
    let off = Compression { level: None, bytes_min: 0 };
    let all: [(&'static str, Options); SETS] = [
        ("defaults", Options::default()),
        ("small", small()),
        ("a flush for each entry", Options { memtable_entries_max: 1, ..small() }),
        ("a flush for few bytes", Options { memtable_bytes_max: 1, ..small() }),
        ("a flush for the log", Options { log_flush_bytes_max: 1, memtables_waiting_max: 1, ..small() }),
        ("nothing inline", Options { separate_bytes_min: 0, ..small() }),
        ("everything inline", Options { separate_bytes_min: u64::MAX, ..small() }),
        ("no compression", Options { compression: off, table_compression_level: None, ..small() }),
        (
            "strong compression",
            Options {
                compression: Compression { level: Some(9), bytes_min: 0 },
                table_compression_level: Some(9),
                ..small()
            },
        ),
        ("tiny blocks", Options { block_bytes: 1, partition_bytes: 1, ..small() }),
        ("huge blocks", Options { block_bytes: 1 << 20, table_bytes: 1 << 30, ..small() }),
        ("one table at a time", Options { l0_tables_max: 1, table_bytes: 1, ..small() }),
        (
            "no compaction",
            Options { l0_tables_max: 1_000, l0_tables_slow: 1_001, l0_tables_stop: 1_001, ..small() },
        ),
        ("no cache", Options { block_cache_bytes: 0, open_tables_max: 1, read_threads: 0, ..small() }),
        ("a large cache", Options { block_cache_bytes: 64 << 20, open_tables_max: 1_000, ..small() }),
        ("few values in memory", Options { value_cache_bytes: 64 << 10, separate_bytes_min: 0, ..small() }),
        ("all values in memory", Options { value_cache_bytes: 256 << 20, separate_bytes_min: 0, ..small() }),
        ("many readers", Options { read_threads: 8, tail_cache_bytes: 0, ..small() }),
        ("a filter that passes half", Options { filter_false_positive: 0.5, ..small() }),
        ("a filter that passes nothing", Options { filter_false_positive: 0.000_001, ..small() }),
        ("tiny groups", Options { group_bytes_max: 1, waiting_bytes_max: 1, ..small() }),
        ("states of some revisions kept", Options { keep_versions: 30, ..small() }),
        ("states of some time kept", Options { keep_age: Some(Duration::from_secs(3)), ..small() }),
        (
            "states of either kept",
            Options { keep_versions: 10, keep_age: Some(Duration::from_secs(1)), ..small() },
        ),
        (
            "large memtables, small tables",
            Options { block_bytes: 64, table_bytes: 1 << 10, ..Options::default() },
        ),
    ];
    all[(seed % SETS as u64) as usize].clone()
}
