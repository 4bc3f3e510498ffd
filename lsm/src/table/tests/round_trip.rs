//! What is written comes back, whatever the options.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use kv_vfs::Survival;
use proptest::prelude::*;

use crate::cursor::{Cursor, TwoWayCursor};
use crate::key::{InternalKey, MAX_KEY, Seq, Slot};
use crate::table::testing::{
    TestDir, Versions, any_versions, collect, collect_back, few, identity, inline, lookup, pointer, version,
};
use crate::table::{LevelCursor, TableOptions, TableReader, TableWriter};

fn all_options() -> Vec<TableOptions> {
    let with = |block_bytes, compression_level| TableOptions {
        block_bytes,
        compression_level,
        ..Default::default()
    };
    let sizes = [0, 64, 200, 4096, usize::MAX];
    sizes.into_iter().flat_map(|size| [None, Some(-1), Some(1)].map(|level| with(size, level))).collect()
}

fn check(table: &Arc<TableReader>, versions: &Versions) {
    let expected: Vec<(InternalKey, Slot)> =
        versions.iter().map(|(key, slot)| (key.clone(), slot.clone())).collect();
    let mut cursor = table.cursor();
    assert!(!cursor.valid());
    cursor.seek_first().unwrap();
    assert_eq!(collect(&mut cursor).unwrap(), expected);
    cursor.seek_last().unwrap();
    assert!(collect_back(&mut cursor).unwrap().iter().eq(expected.iter().rev()));
    for at in versions.keys() {
        for seq in [0, at.seq.saturating_sub(1), at.seq, at.seq.saturating_add(1), u64::MAX] {
            assert_eq!(table.get(&at.key, seq).unwrap(), lookup(versions, &at.key, seq));
            check_seek(&mut cursor, versions, &at.key, seq);
        }
        let absent = [&at.key[..], b"\0"].concat();
        assert_eq!(table.get(&absent, u64::MAX).unwrap(), lookup(versions, &absent, u64::MAX));
        check_seek(&mut cursor, versions, &absent, u64::MAX);
    }
    table.verify().unwrap();
}

fn check_seek(cursor: &mut dyn TwoWayCursor, versions: &Versions, key: &[u8], seq: Seq) {
    cursor.seek(key, seq).unwrap();
    let expected = versions.range(version(key, seq)..).next();
    assert_eq!(cursor.valid(), expected.is_some());
    if let Some((at, slot)) = expected {
        assert_eq!((cursor.key(), cursor.seq(), cursor.slot()), (&at.key[..], at.seq, slot.clone()));
    } else {
        assert_eq!((cursor.key(), cursor.seq(), cursor.slot()), (&b""[..], 0, Slot::Tombstone));
        cursor.next().unwrap();
        assert!(!cursor.valid());
    }
    let mut before = versions.range(..version(key, seq)).rev().take(20);
    cursor.seek_before(key, seq).unwrap();
    for (at, slot) in before.by_ref() {
        assert_eq!((cursor.key(), cursor.seq(), cursor.slot()), (&at.key[..], at.seq, slot.clone()));
        // To and fro, over the bounds of blocks and partitions.
        cursor.next().unwrap();
        let next = versions.range::<InternalKey, _>((Bound::Excluded(at), Bound::Unbounded)).next();
        assert_eq!(
            cursor.valid().then(|| (cursor.key(), cursor.seq())),
            next.map(|(at, _)| (&at.key[..], at.seq))
        );
        cursor.seek_before(&at.key, at.seq).unwrap();
    }
    assert_eq!(cursor.valid(), versions.range(..version(key, seq)).nth(20).is_some());
}

#[test]
fn with_every_block_size_and_compression() {
    let dir = TestDir::new();
    for (id, options) in (1..).zip(all_options()) {
        let summary = dir.write(id, &options, &few());
        assert_eq!(summary.bytes, dir.bytes(id).len() as u64);
        check(&dir.open(&summary), &few());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..Default::default() })]

    #[test]
    fn with_any_versions(
        versions in any_versions(1..120),
        block_bytes in prop_oneof![64usize..300, Just(4096)],
        compression_level in prop_oneof![Just(None), Just(Some(-1)), Just(Some(1))],
        filter_false_positive in 0.001f64..0.5,
        partition_bytes in prop_oneof![1usize..100, Just(16 << 10)],
    ) {
        let dir = TestDir::new();
        let options = TableOptions { block_bytes, compression_level, filter_false_positive, partition_bytes };
        check(&dir.table(1, &options, &versions), &versions);
    }
}

#[test]
fn a_table_of_one_version() {
    let dir = TestDir::new();
    for (id, slot) in [(1, Slot::Tombstone), (2, inline(b"")), (3, pointer(u64::MAX, u32::MAX, u32::MAX))] {
        let versions = Versions::from([(version(b"", 0), slot)]);
        check(&dir.table(id, &TableOptions::default(), &versions), &versions);
    }
}

#[test]
fn the_longest_keys() {
    let dir = TestDir::new();
    let mut versions = Versions::new();
    for n in 0..40u8 {
        let mut key = vec![b'k'; MAX_KEY];
        key[MAX_KEY - 1] = n;
        versions.insert(version(&key, 1), pointer(1, u32::from(n), 1));
        versions.insert(version(&key[..MAX_KEY - usize::from(n) * 1000], 2), Slot::Tombstone);
    }
    for (id, options) in (1..).zip(all_options()) {
        check(&dir.table(id, &options, &versions), &versions);
    }
}

#[test]
fn many_versions_of_one_key_span_blocks() {
    let dir = TestDir::new();
    let mut versions: Versions = (0..500).map(|n| (version(b"key", n * 2), inline(b"0123456789"))).collect();
    versions.insert(version(b"kez", 1), Slot::Tombstone);
    let options = TableOptions { block_bytes: 64, ..Default::default() };
    let table = dir.table(1, &options, &versions);
    assert!(table.properties().blocks > 100);
    assert_eq!(table.properties().keys, 2);
    check(&table, &versions);
}

#[test]
fn more_than_one_write() {
    let dir = TestDir::new();
    let noise = |n: u64| inline(&xxhash_rust::xxh3::xxh3_128(&n.to_le_bytes()).to_le_bytes().repeat(64));
    let versions: Versions = (0..1000).map(|n| (version(&u64::to_be_bytes(n), n), noise(n))).collect();
    let mut writer =
        TableWriter::create(&dir.vfs, dir.path(), &identity(1), &TableOptions::default()).unwrap();
    let mut bytes = 0;
    for (key, slot) in &versions {
        writer.add(&key.key, key.seq, slot).unwrap();
        assert!(writer.bytes_written() > bytes);
        bytes = writer.bytes_written().min(bytes + 1);
    }
    let summary = writer.finish().unwrap();
    check(&dir.open(&summary), &versions);
}

#[test]
fn the_summary_is_what_the_manifest_needs() {
    let dir = TestDir::new();
    let summary = dir.write(7, &TableOptions::default(), &few());
    let meta = summary.to_meta(1);
    assert_eq!((meta.id, meta.level, meta.bytes), (7, 1, dir.bytes(7).len() as u64));
    assert_eq!((&*meta.smallest, &*meta.largest), (&b""[..], &b"zebra"[..]));
    assert_eq!((meta.seq_min, meta.seq_max), (5, u64::MAX));
    assert_eq!((meta.entries, meta.tombstones), (few().len() as u64, 1));
    let refs: Vec<_> = meta.refs.iter().map(|r| (r.segment, r.count, r.bytes)).collect();
    assert_eq!(refs, [(2, 1, 9), (4, 40, 4000)]);
    let stored = dir.open(&summary).refs().unwrap();
    assert_eq!(stored.iter().map(|r| (r.segment, r.count, r.bytes)).collect::<Vec<_>>(), refs);
    let offsets: Vec<u32> = stored.iter().flat_map(|r| r.offsets()).collect();
    assert_eq!(offsets[..3], [0, 4096, 4196]);
}

#[test]
fn what_is_finished_survives_a_loss_of_power_once_the_directory_is_synced() {
    let dir = TestDir::new();
    dir.vfs.sync_dir(Path::new("/")).unwrap();
    let summary = dir.write(1, &TableOptions::default(), &few());
    let lost = TestDir::on(dir.memory.crash_clone(&Survival::Synced));
    assert!(lost.names().is_empty());
    dir.vfs.sync_dir(dir.path()).unwrap();
    let kept = TestDir::on(dir.memory.crash_clone(&Survival::Synced));
    check(&kept.open(&summary), &few());
}

#[test]
fn an_abandoned_table_leaves_no_file_and_a_taken_name_is_refused() {
    let dir = TestDir::new();
    let create = || TableWriter::create(&dir.vfs, dir.path(), &identity(1), &TableOptions::default());
    let mut writer = create().unwrap();
    writer.add(b"key", 1, &Slot::Tombstone).unwrap();
    assert!(create().is_err());
    assert_eq!(dir.names(), ["00000001.sst"]);
    writer.abandon().unwrap();
    assert!(dir.names().is_empty());
}

#[test]
#[should_panic(expected = "out of order")]
fn versions_out_of_order_are_a_bug() {
    let dir = TestDir::new();
    let mut writer =
        TableWriter::create(&dir.vfs, dir.path(), &identity(1), &TableOptions::default()).unwrap();
    writer.add(b"key", 1, &Slot::Tombstone).unwrap();
    let _ = writer.add(b"key", 1, &Slot::Tombstone);
}

#[test]
fn a_level_reads_as_one_table() {
    let dir = TestDir::new();
    let all = few();
    let options = TableOptions { block_bytes: 64, ..Default::default() };
    let parts = [&b""[..], b"b", b"key010", b"key020", b"zz"];
    let mut tables = Vec::new();
    for (id, ends) in (1..).zip(parts.windows(2)) {
        let part: Versions = all
            .range(version(ends[0], u64::MAX)..version(ends[1], u64::MAX))
            .map(|(key, slot)| (key.clone(), slot.clone()))
            .collect();
        tables.push(dir.table(id, &options, &part));
    }
    let mut cursor = LevelCursor::new(tables.clone());
    assert!(!cursor.valid());
    cursor.seek_first().unwrap();
    let expected: Vec<_> = all.iter().map(|(key, slot)| (key.clone(), slot.clone())).collect();
    assert_eq!(collect(&mut cursor).unwrap(), expected);
    for at in all.keys() {
        for seq in [0, at.seq, u64::MAX] {
            check_seek(&mut cursor, &all, &at.key, seq);
            check_seek(&mut cursor, &all, &[&at.key[..], b"~"].concat(), seq);
        }
    }
    let mut none = LevelCursor::new(Vec::new());
    none.seek_first().unwrap();
    assert!(!none.valid());

    tables.swap(1, 2);
    let mut disordered = LevelCursor::new(tables);
    disordered.seek_first().unwrap();
    assert!(collect(&mut disordered).unwrap_err().to_string().contains("overlap"));
}
