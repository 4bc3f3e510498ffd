//! Shared caches: what is read once, how much stays, how many files are open.

use std::sync::Arc;

use crate::cursor::Cursor;
use crate::key::Slot;
use crate::table::testing::{TestDir, Versions, collect, few, identity, inline, lookup, version};
use crate::table::{CacheUse, TableCaches, TableOptions, TableReader};

/// Many blocks in many partitions.
fn fine() -> TableOptions {
    TableOptions { block_bytes: 64, partition_bytes: 40, compression_level: None, ..Default::default() }
}

fn open(dir: &TestDir, caches: &Arc<TableCaches>, id: u64) -> Arc<TableReader> {
    let bytes = dir.bytes(id).len() as u64;
    TableReader::open_cached(caches, &dir.vfs, dir.path(), &identity(id), bytes).unwrap()
}

fn many() -> Versions {
    (0..2000u32).map(|n| (version(format!("key{n:05}").as_bytes(), 1), inline(&[7; 30]))).collect()
}

#[test]
fn a_block_is_read_once() {
    let dir = TestDir::new();
    dir.write(1, &fine(), &few());
    let caches = TableCaches::new(1 << 20, 10);
    let table = open(&dir, &caches, 1);
    assert_eq!(caches.stats().data_blocks_read, 0);
    for round in 0..3 {
        for at in few().keys() {
            assert_eq!(table.get(&at.key, at.seq).unwrap(), lookup(&few(), &at.key, at.seq));
        }
        assert_eq!(caches.stats().data_blocks_read, table.properties().blocks, "round {round}");
    }
    let stats = caches.stats();
    assert!(stats.hits > 2 * stats.misses && stats.bytes > 0 && stats.bytes <= stats.bytes_max);
}

#[test]
fn the_cache_stays_within_its_bytes() {
    let dir = TestDir::new();
    dir.write(1, &fine(), &many());
    let caches = TableCaches::new(20 << 10, 10);
    let table = open(&dir, &caches, 1);
    for at in many().keys() {
        assert!(table.get(&at.key, 1).unwrap().is_some());
        assert!(caches.stats().bytes <= 20 << 10);
    }
    assert!(caches.stats().bytes > 10 << 10);
}

#[test]
fn reads_of_very_much_leave_the_cache_as_it_is() {
    let dir = TestDir::new();
    dir.write(1, &fine(), &few());
    let caches = TableCaches::new(1 << 20, 10);
    let table = open(&dir, &caches, 1);
    let walk = |cache| {
        let mut cursor = table.cursor_with(cache);
        cursor.seek_first().unwrap();
        collect(&mut cursor).unwrap().len()
    };
    assert_eq!(walk(CacheUse::Peek), few().len());
    assert_eq!((caches.stats().bytes, caches.stats().misses), (0, 0));
    walk(CacheUse::Fill);
    let (read, filled) = (caches.stats().data_blocks_read, caches.stats().bytes);
    assert!(filled > 0);
    walk(CacheUse::Peek);
    assert_eq!(caches.stats().data_blocks_read, read, "what is there is used");
    table.verify().unwrap();
    assert_eq!(caches.stats().data_blocks_read, read + table.properties().blocks, "the disk is verified");
    assert_eq!(caches.stats().bytes, filled);
}

#[test]
fn no_more_files_are_open_than_allowed_and_all_can_be_read() {
    let dir = TestDir::new();
    let caches = TableCaches::new(0, 3);
    let tables: Vec<_> = (1..=8)
        .map(|id| {
            dir.write(id, &fine(), &Versions::from([(version(b"key", id), Slot::Tombstone)]));
            open(&dir, &caches, id)
        })
        .collect();
    for _ in 0..3 {
        for (id, table) in (1..).zip(&tables) {
            assert_eq!(table.get(b"key", u64::MAX).unwrap(), Some((id, Slot::Tombstone)));
            assert!(caches.stats().open_files <= 3);
        }
    }
    assert!(caches.stats().files_opened > 8);
    drop(tables);
    assert_eq!(caches.stats().open_files, 0, "a handle would keep the space of a file that is removed");
}

#[test]
fn a_retired_table_is_removed_with_its_last_reader() {
    let dir = TestDir::new();
    let caches = TableCaches::new(0, 1);
    for id in [1, 2] {
        dir.write(id, &fine(), &few());
    }
    let (table, other) = (open(&dir, &caches, 1), open(&dir, &caches, 2));
    let mut cursor = table.cursor();
    table.retire();
    drop(table);
    other.verify().unwrap(); // closes the file of the first one
    cursor.seek_first().unwrap();
    assert_eq!(collect(&mut cursor).unwrap().len(), few().len());
    assert_eq!(dir.names().len(), 2);
    drop(cursor);
    assert_eq!(dir.names(), ["00000002.sst"]);
}

#[test]
fn a_large_table_is_opened_without_its_indexes() {
    let dir = TestDir::new();
    dir.write(1, &fine(), &many());
    dir.write(2, &TableOptions { partition_bytes: 1 << 20, ..fine() }, &many());
    let opened = |id| {
        let caches = TableCaches::new(1 << 20, 10);
        let table = open(&dir, &caches, id);
        assert_eq!(table.get(b"key00700", 1).unwrap(), Some((1, inline(&[7; 30]))));
        (caches.stats().bytes_read, table)
    };
    let (partition, table) = opened(1);
    let (_, whole) = opened(2);
    assert!(partition < 2000, "{partition} bytes for one key");
    assert!(table.properties().blocks == whole.properties().blocks && table.properties().blocks > 400);
    table.verify().unwrap();
}
