//! Damage is noticed and named; it never becomes a wrong answer, and never a panic.

use std::sync::Arc;

use bytes::Bytes;
use kv_vfs::fault::{Fault, Rule, Times};
use kv_vfs::{AlignedBuf, OpKind};
use proptest::prelude::*;

use crate::cursor::Cursor;
use crate::key::{Slot, compare};
use crate::table::block::{Block, BlockBuilder, BlockCursor, Malformed};
use crate::table::format::{BlockHandle, FOOTER_BYTES, FOOTER_CRC_AT, Footer};
use crate::table::stored::BlockEncoder;
use crate::table::testing::{
    TestDir, Versions, any_slot, collect, few, identity, inline, lookup, pointer, version,
};
use crate::table::{TableError, TableIdentity, TableOptions, TableReader};

/// Everything that a table answers is an error or right.
fn check_answers(table: &Arc<TableReader>, versions: &Versions) {
    for key in versions.keys() {
        if let Ok(found) = table.get(&key.key, key.seq) {
            assert_eq!(found, lookup(versions, &key.key, key.seq));
        }
        if let Ok(found) = table.get(&[&key.key[..], b"?"].concat(), u64::MAX) {
            assert_eq!(found, None);
        }
    }
    let mut cursor = table.cursor();
    let mut expected = versions.iter();
    let mut stepped = cursor.seek_first();
    while stepped.is_ok() {
        let found = cursor.valid().then(|| (version(cursor.key(), cursor.seq()), cursor.slot()));
        assert_eq!(found, expected.next().map(|(key, slot)| (key.clone(), slot.clone())));
        if !cursor.valid() {
            break;
        }
        stepped = cursor.next();
    }
    assert!(stepped.is_ok() || !cursor.valid());
}

/// zstd with entropy coding, where there is most to be damaged.
const PACKED: Option<i32> = Some(1);

fn small(compression_level: Option<i32>) -> TableOptions {
    TableOptions { block_bytes: 200, compression_level, ..Default::default() }
}

#[test]
fn any_flipped_byte_is_noticed() {
    for (level, partition_bytes) in [(None, 1), (None, 16 << 10), (PACKED, 16 << 10)] {
        let dir = TestDir::new();
        let options = TableOptions { partition_bytes, ..small(level) };
        let summary = dir.write(1, &options, &few());
        let refs = dir.open(&summary).refs().unwrap();
        let good = dir.bytes(1);
        for at in 0..good.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= mask;
                dir.put(1, &bad);
                let Ok(table) = dir.try_open(1, summary.bytes) else { continue };
                check_answers(&table, &few());
                if let Ok(found) = table.refs() {
                    assert_eq!(found, refs);
                }
                let error = table.verify().expect_err("damage that nothing notices");
                let TableError::Corruption { offset, .. } = error else { panic!("{error}") };
                assert!(offset <= at as u64, "byte {at}: {error}");
            }
        }
    }
}

#[test]
fn every_truncation_is_noticed() {
    let dir = TestDir::new();
    let summary = dir.write(1, &small(PACKED), &few());
    let good = dir.bytes(1);
    for len in 0..good.len() {
        dir.put(1, &good[..len]);
        assert!(matches!(dir.try_open(1, summary.bytes), Err(TableError::Corruption { .. })));
        assert!(matches!(dir.try_open(1, len as u64), Err(TableError::Corruption { .. })));
    }
    dir.put(1, &good);
    let error = dir.try_open(1, summary.bytes + 1).unwrap_err().to_string();
    assert!(error.contains("the manifest says"), "{error}");
    for more in [1, 100, 5000] {
        let longer = [&good[..], &vec![0; more]].concat();
        dir.put(1, &longer);
        assert!(matches!(dir.try_open(1, summary.bytes), Err(TableError::Corruption { .. })));
        assert!(matches!(dir.try_open(1, longer.len() as u64), Err(TableError::Corruption { .. })));
    }
}

#[test]
fn a_table_that_is_cut_while_open_is_damaged_not_absent() {
    let dir = TestDir::new();
    let summary = dir.write(1, &small(None), &few());
    let table = dir.open(&summary);
    dir.put(1, &dir.bytes(1)[..10]);
    assert!(matches!(table.get(b"key020", u64::MAX), Err(TableError::Corruption { .. })));
    assert!(matches!(table.verify(), Err(TableError::Corruption { .. })));
    assert_eq!(table.get(b"not there", u64::MAX).unwrap(), None);
}

fn fail(dir: &TestDir, nth: u64, times: Times) {
    let (op, path_contains) = (OpKind::Read, String::new());
    dir.faults.fail(Rule { op, path_contains, nth, times, error: Fault::Eio });
}

#[test]
fn a_failed_read_is_an_error_and_passes() {
    let dir = TestDir::new();
    let table = dir.table(1, &small(PACKED), &few());
    fail(&dir, 1, Times::Once);
    assert!(matches!(table.get(b"key020", u64::MAX), Err(TableError::Io(_))));
    assert!(table.get(b"key020", u64::MAX).unwrap().is_some());
}

/// Broken by: a failed read that ends a walk early, or that fails a step which does not need what cannot be read.
#[test]
fn a_walk_reads_ahead_and_fails_only_for_what_it_needs() {
    let dir = TestDir::new();
    let versions: Versions =
        (0..4000u32).map(|n| (version(format!("key{n:05}").as_bytes(), 1), inline(&[7; 50]))).collect();
    let table = dir.table(1, &small(None), &versions);
    let blocks = table.properties().blocks;
    let before = dir.faults.count(OpKind::Read);
    let walk = || {
        let mut cursor = table.cursor();
        let walked = cursor.seek_first().and_then(|()| collect(&mut cursor).map(|found| found.len()));
        assert!(!cursor.valid());
        walked
    };
    assert_eq!(walk().unwrap(), versions.len());
    let reads = dir.faults.count(OpKind::Read) - before;
    assert!(blocks >= 1000 && (4..10).contains(&reads), "{reads} reads for {blocks} blocks");
    for nth in 1..=reads {
        fail(&dir, nth, Times::Once);
        match walk() {
            Ok(walked) => assert_eq!(walked, versions.len(), "read {nth}"),
            Err(error) => assert!(
                nth == 1 && matches!(error, TableError::Io(_)),
                "read {nth}, the block itself can be read: {error}"
            ),
        }
        fail(&dir, nth, Times::Forever);
        assert!(matches!(walk(), Err(TableError::Io(_))), "read {nth}");
        assert!(matches!(table.verify(), Err(TableError::Io(_))), "read {nth}");
        dir.faults.clear();
    }
    table.verify().unwrap();
}

#[test]
fn a_restart_point_comes_every_sixteen_entries() {
    for entries in [1, 15, 16, 17, 32, 33, 100u32] {
        let mut builder = BlockBuilder::default();
        for n in 0..entries {
            builder.add(format!("key{n:03}").as_bytes(), 1, &Slot::Tombstone);
        }
        let length = builder.len();
        let bytes = builder.finish();
        assert_eq!(bytes.len(), length);
        assert_eq!(bytes.last_chunk::<4>().unwrap(), &entries.div_ceil(16).to_le_bytes());
        let bytes = Bytes::copy_from_slice(bytes);
        for n in 0..entries {
            let key = format!("key{n:03}");
            let mut cursor = BlockCursor::new(Block::parse(bytes.clone()).unwrap());
            cursor.seek(key.as_bytes(), 1).unwrap();
            assert_eq!(cursor.key(), key.as_bytes());
        }
    }
}

#[test]
fn blocks_that_swapped_places_are_noticed() {
    let dir = TestDir::new();
    let versions: Versions = (0..20u8).map(|n| (version(&[n], 1), inline(&[n; 60]))).collect();
    let summary = dir.write(1, &TableOptions { block_bytes: 64, ..small(None) }, &versions);
    let mut bytes = dir.bytes(1);
    let block = bytes.iter().skip(1).position(|b| *b == 0).unwrap();
    assert!(block > 0);
    let len = (1..200).find(|len| bytes[*len] == 0 && bytes[len + 1] == bytes[1]).unwrap();
    let (first, second) = bytes.split_at_mut(len);
    first.swap_with_slice(&mut second[..len]);
    dir.put(1, &bytes);
    let table = dir.open(&summary);
    assert!(table.get(&[0], 1).unwrap_err().to_string().contains("checksum"));
    assert!(table.get(&[1], 1).unwrap_err().to_string().contains("checksum"));
}

#[test]
fn foreign_misplaced_and_newer_tables_are_refused_by_name() {
    let dir = TestDir::new();
    let summary = dir.write(1, &small(PACKED), &few());
    let open =
        |identity: TableIdentity| TableReader::open(&dir.vfs, dir.path(), &identity, summary.bytes).map(drop);
    let own = identity(1);
    for (identity, name) in [
        (TableIdentity { cluster_id: [1; 16], ..own }, "cluster id is 636c7573"),
        (TableIdentity { incarnation: 4, ..own }, "incarnation is 3, expected 4"),
        (TableIdentity { group_id: 1, ..own }, "group id is 0, expected 1"),
    ] {
        let error = open(identity).unwrap_err();
        assert!(matches!(error, TableError::Foreign { .. }));
        assert!(error.to_string().contains(name), "{error}");
    }
    dir.put(2, &dir.bytes(1));
    let error = dir.try_open(2, summary.bytes).unwrap_err().to_string();
    assert!(error.contains("00000002.sst is foreign or misplaced: its table id is 1, expected 2"), "{error}");

    let mut newer = dir.bytes(1);
    let footer = newer.len() - FOOTER_BYTES;
    newer[footer + FOOTER_CRC_AT - 4] = 2;
    let crc = crc32fast::hash(&newer[footer..footer + FOOTER_CRC_AT]);
    newer[footer + FOOTER_CRC_AT..][..4].copy_from_slice(&crc.to_le_bytes());
    dir.put(1, &newer);
    let error = open(own).unwrap_err();
    assert!(matches!(error, TableError::Newer { version: 2, known: 1, .. }), "{error}");

    assert!(matches!(dir.try_open(9, 1), Err(TableError::Io(_))));
    let any = TableReader::open_any(&dir.vfs, &dir.path().join("00000002.sst")).unwrap();
    assert_eq!(any.identity().table_id, 1);
    any.verify().unwrap();
}

#[test]
fn sections_that_lie_behind_right_checksums_are_refused() {
    let dir = TestDir::new();
    let summary = dir.write(1, &small(None), &few());
    let good = dir.bytes(1);
    let at = good.len() - FOOTER_BYTES;
    let footer = Footer::decode(&good[at..]).unwrap();
    let far = BlockHandle { offset: u64::MAX - 3, len: 3 };
    let overlap = BlockHandle { offset: 0, ..footer.filter };
    let short = BlockHandle { len: footer.index.len - 1, ..footer.index };
    for bad in [
        Footer { filter: far, ..footer },
        Footer { filter: overlap, ..footer },
        Footer { index: short, ..footer },
        Footer { refs: footer.properties, properties: footer.refs, ..footer },
        Footer { index: BlockHandle { offset: at as u64, len: u32::MAX }, ..footer },
    ] {
        dir.put(1, &[&good[..at], &bad.encode()].concat());
        assert!(matches!(dir.try_open(1, summary.bytes), Err(TableError::Corruption { .. })));
    }
}

/// Replaces a data block of a table by another one, with right checksums all over.
#[test]
fn verify_finds_what_checksums_do_not() {
    let dir = TestDir::new();
    let versions = Versions::from([(version(b"a", 4), pointer(1, 10, 5)), (version(b"c", 3), inline(b"x"))]);
    let summary = dir.write(1, &small(None), &versions);
    let good = dir.bytes(1);
    let replaced = |entries: &[(&[u8], u64, Slot)]| {
        let mut block = BlockBuilder::default();
        entries.iter().for_each(|(key, seq, slot)| block.add(key, *seq, slot));
        let mut bytes = AlignedBuf::new();
        BlockEncoder::new(1, None).unwrap().encode(block.finish(), 0, &mut bytes).unwrap();
        let old = Footer::decode(&good[good.len() - FOOTER_BYTES..]).unwrap().filter.offset as usize;
        assert_eq!(bytes.len(), old, "choose entries of the same length");
        bytes.extend_from_slice(&good[old..]);
        dir.put(1, &bytes);
        dir.open(&summary).verify().map_err(|error| error.to_string())
    };
    let (p, x) = (pointer(1, 10, 5), inline(b"x"));
    replaced(&[(b"a", 4, p.clone()), (b"c", 3, x.clone())]).unwrap();
    for (entries, why) in [
        ([(&b"a"[..], 4, pointer(1, 11, 5)), (b"c", 3, x.clone())], "references"),
        ([(b"a", 4, pointer(1, 10, 6)), (b"c", 3, x.clone())], "references"),
        ([(b"a", 5, p.clone()), (b"c", 3, x.clone())], "properties"),
        ([(b"a", 4, p.clone()), (b"b", 3, x.clone())], "filter"),
        ([(b"a", 4, p.clone()), (b"d", 3, x.clone())], "index"),
        ([(b"c", 4, p.clone()), (b"a", 3, x.clone())], "out of order"),
    ] {
        let error = replaced(&entries).unwrap_err();
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn keys_beyond_what_the_properties_say_are_refused() {
    let dir = TestDir::new();
    let summary = dir.write(1, &small(None), &Versions::from([(version(b"a", 4), Slot::Tombstone)]));
    let (mut bytes, mut said) = (dir.bytes(1), dir.open(&summary).properties().clone());
    (said.smallest, said.largest) = (b"Z".to_vec(), b"Z".to_vec());
    let at = Footer::decode(&bytes[bytes.len() - FOOTER_BYTES..]).unwrap().properties;
    let mut section = AlignedBuf::new();
    BlockEncoder::new(1, None).unwrap().encode(&said.encode(), at.offset, &mut section).unwrap();
    bytes[at.offset as usize..][..at.len as usize].copy_from_slice(&section);
    dir.put(1, &bytes);
    let mut cursor = dir.open(&summary).cursor();
    cursor.seek_first().unwrap();
    assert!(cursor.next().unwrap_err().to_string().contains("largest"));
}

/// Walks over any bytes as a block: the versions found, in order, or what is wrong.
fn walk(bytes: Bytes, seek: &[u8]) -> Result<usize, Malformed> {
    let mut cursor = BlockCursor::new(Block::parse(bytes)?);
    let _ = cursor.seek(seek, 5);
    cursor.seek_first()?;
    let mut found = 0;
    let mut last: Option<(Vec<u8>, u64)> = None;
    while cursor.valid() {
        if let Some((key, seq)) = &last {
            assert!(compare((key, *seq), (cursor.key(), cursor.seq())).is_lt());
        }
        last = Some((cursor.key().to_vec(), cursor.seq()));
        found += 1;
        cursor.next()?;
    }
    Ok(found)
}

proptest! {
    #[test]
    fn random_bytes_as_a_block_never_panic(mut bytes: Vec<u8>, seek: Vec<u8>, restarts in 0u32..4) {
        let _ = walk(bytes.clone().into(), &seek);
        bytes.extend_from_slice(&vec![0; restarts as usize * 4]);
        bytes.extend_from_slice(&restarts.to_le_bytes());
        let _ = walk(bytes.into(), &seek);
    }

    #[test]
    fn a_damaged_block_never_panics(
        slots in prop::collection::vec(any_slot(), 1..40),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        seek: Vec<u8>,
    ) {
        let mut builder = BlockBuilder::default();
        for (n, slot) in slots.iter().enumerate() {
            builder.add(format!("key{n:03}").as_bytes(), 7, slot);
        }
        let mut bytes = builder.finish().to_vec();
        prop_assert_eq!(walk(bytes.clone().into(), &seek), Ok(slots.len()));
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = walk(bytes.into(), &seek);
    }

    #[test]
    fn random_bytes_as_a_footer_never_panic(mut bytes in prop::collection::vec(any::<u8>(), FOOTER_BYTES)) {
        prop_assert!(Footer::decode(&bytes).is_err());
        bytes[FOOTER_CRC_AT + 4..].copy_from_slice(b"KVTABLE\n");
        let crc = crc32fast::hash(&bytes[..FOOTER_CRC_AT]);
        bytes[FOOTER_CRC_AT..FOOTER_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        if let Ok(footer) = Footer::decode(&bytes) {
            prop_assert_eq!(footer.encode(), bytes);
        }
    }
}
