//! What is exported is what is received.

use bytes::Bytes;
use kv_lsm::{ExportRecord, ExportValue, ScanRange, StoreError};
use kv_vlog::{Codec, Compression, StoredValue};

use crate::node::*;

#[test]
fn a_state_goes_from_store_to_store() {
    let (_disk, world) = memory();
    let source = world.open().unwrap();
    source.script(1, 150);
    assert_eq!(source.contents(), model(150));
    let export = source.store.export();
    assert_eq!((export.at(), export.membership()), (Some(at(1, 150)), None));
    for bytes_max in [1, 5_000, 64 << 10, usize::MAX] {
        let records = records(&export, bytes_max);
        assert!(records.iter().map(|r| &r.key).eq(model(150).keys()), "in order, without tombstones");
    }
    let stored = |r: &ExportRecord| match &r.value {
        ExportValue::Stored(value) => Some(value.codec),
        ExportValue::Inline(..) => None,
    };
    let kinds: Vec<_> = records(&export, 1 << 20).iter().map(stored).collect();
    for kind in [None, Some(Codec::Raw), Some(Codec::Zstd), Some(Codec::Chunked)] {
        assert!(kinds.contains(&kind), "no value is {kind:?}");
    }

    let (_disk, other) = memory();
    let target = other.open().unwrap();
    assert!(install(&export, &target).unwrap());
    assert_eq!(target.contents(), model(150));
    assert_eq!((target.store.applied(), target.store.flushed()), (Some(at(1, 150)), Some(at(1, 150))));
    let state = target.store.state();
    assert!(state.tables.len() > 1 && state.tables.values().all(|table| table.level > 0));
    let values = state.segments.values().filter(|s| s.kind == kv_manifest::SegmentKind::Values);
    assert!(values.count() > 1, "values roll over several segments");
    // A second hop: what was received can be sent on.
    let again = target.store.export();
    assert_eq!(records(&again, 1 << 20), records(&export, 1 << 20));
    source.store.close().unwrap();
    target.store.close().unwrap();
    let (first, second) = (whole(&world.vfs), whole(&other.vfs));
    assert_eq!(first.content_hash, second.content_hash);
    assert_eq!((first.applied, first.keys), (second.applied, second.keys));
}

#[test]
fn an_export_stays_as_it_is() {
    let (_disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 60);
    // Something in each place: tables of both levels, frozen and active memtables.
    let export = node.store.export();
    let before = records(&export, 1 << 20);
    let first_half = export.page(None, 300 << 10).unwrap();
    for to in (80..=240).step_by(20) {
        node.script(1, to);
        world.pass();
        assert_eq!(export.at(), Some(at(1, 60)));
        assert!(records(&export, 100 << 10) == before, "at {to}");
    }
    let rest = export.page(first_half.last().map(|last| &last.key), usize::MAX).unwrap();
    assert!([first_half, rest].concat() == before);
    assert!(node.store.tables().iter().any(|table| table.level > 0));
    let now = node.store.export();
    assert!(records(&now, 1 << 20) != before);
    let (_disk, other) = memory();
    let target = other.open().unwrap();
    assert!(install(&export, &target).unwrap());
    assert_eq!(target.contents(), model(60));
}

#[test]
fn what_is_wrong_is_refused_and_leaves_nothing() {
    let (_disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 5);
    let there = world.vfs.list(dir()).unwrap();
    let value = StoredValue::new(b"b", value(2, 5_000), &Compression::default());
    let good = ExportRecord { key: "b".into(), seq: 9 << 16, value: ExportValue::Stored(value.clone()) };
    let chunks = StoredValue::new(b"b", vec![7; 600_000].into(), &Compression::default());
    let chunked = |head: Bytes, body: Bytes| {
        let value = ExportValue::Stored(StoredValue { head, body, ..chunks.clone() });
        ExportRecord { value, ..good.clone() }
    };
    let split = chunked(chunks.head.slice(..8), [&chunks.head[8..], &chunks.body[..]].concat().into());
    let stored = |value| ExportRecord { value: ExportValue::Stored(value), ..good.clone() };
    let wrong = [
        ExportRecord { key: "a".into(), ..good.clone() },
        ExportRecord { key: "".into(), ..good.clone() },
        ExportRecord { key: vec![b'z'; 65_537].into(), ..good.clone() },
        // The checksum covers the key.
        ExportRecord { key: "c".into(), ..good.clone() },
        stored(StoredValue { crc: value.crc ^ 1, ..value.clone() }),
        stored(StoredValue { codec: Codec::Zstd, ..value.clone() }),
        stored(StoredValue { value_bytes: 4_999, ..value.clone() }),
        stored(StoredValue { head: "x".into(), ..value.clone() }),
        chunked(chunks.head.clone(), vec![0; chunks.body.len()].into()),
        split,
        ExportRecord { key: "aa".into(), ..good.clone() },
    ];
    for record in wrong {
        let mut receiver = node.store.receive().unwrap();
        let first = ExportRecord {
            key: "aa".into(),
            seq: 1,
            value: ExportValue::Inline("x".into(), kv_lsm::Expiry::NEVER),
        };
        receiver.add(first).unwrap();
        let refused = receiver.add(record);
        assert!(matches!(refused, Err(StoreError::Received(_))), "{refused:?}");
        assert!(matches!(receiver.add(good.clone()), Err(StoreError::Received(_))), "after a refusal");
        let installed = node.store.install(receiver, at(1, 9), 0, None);
        assert!(matches!(installed, Err(StoreError::Received(_))), "{installed:?}");
    }
    // Versions newer than the entry that it is said to end at.
    let receiver = receive(&node.store, std::slice::from_ref(&good)).unwrap();
    assert!(receiver.bytes() > 5_000);
    assert!(matches!(node.store.install(receiver, at(1, 8), 0, None), Err(StoreError::Received(_))));
    // Another store's.
    let (_disk, other) = memory();
    let stranger = other.open().unwrap();
    let receiver = receive(&stranger.store, &[good]).unwrap();
    assert!(matches!(node.store.install(receiver, at(1, 9), 0, None), Err(StoreError::Invalid(_))));
    let names = |list: Vec<kv_vfs::DirEntry>| list.into_iter().map(|e| e.name).collect::<Vec<_>>();
    assert_eq!(names(world.vfs.list(dir()).unwrap()), names(there));
    assert_eq!(node.contents(), model(5));
    node.write(1, &[(key(1), Some("on".into()))]).unwrap();
}

#[test]
fn a_receiver_that_is_dropped_leaves_nothing() {
    let (_disk, world) = memory();
    let source = world.open().unwrap();
    source.script(1, 100);
    let records = records(&source.store.export(), 1 << 20);
    let (_disk, other) = memory();
    let target = other.open().unwrap();
    let before = other.vfs.list(dir()).unwrap().len();
    let receiver = receive(&target.store, &records).unwrap();
    assert!(other.vfs.list(dir()).unwrap().len() > before + 3);
    assert_eq!(target.store.scan(ScanRange::default()).unwrap().count(), 0);
    drop(receiver);
    assert_eq!(other.vfs.list(dir()).unwrap().len(), before);
    // And one that a crash ended: the next open removes its files.
    std::mem::forget(receive(&target.store, &records).unwrap());
    drop(target);
    let target = other.open().unwrap();
    assert_eq!(orphans(&*other.vfs, &target.store), [""; 0]);
    assert!(install(&source.store.export(), &target).unwrap());
    assert_eq!(target.contents(), model(100));
}

#[test]
fn an_empty_state_can_be_installed() {
    let (_disk, world) = memory();
    let source = world.open().unwrap();
    assert_eq!(source.store.export().at(), None);
    source.write(2, &[(key(1), Some("x".into()))]).unwrap();
    source.write(2, &[(key(1), None)]).unwrap();
    let export = source.store.export();
    assert_eq!(export.page(None, 1 << 20).unwrap(), []);
    let (_disk, other) = memory();
    let target = other.open().unwrap();
    target.script(1, 1);
    assert!(install(&export, &target).unwrap());
    assert_eq!((target.contents(), target.store.tables()), (Contents::new(), vec![]));
    target.store.close().unwrap();
    assert_eq!(whole(&other.vfs).keys, 0);
}

#[test]
fn both_ends_may_go_to_another_thread() {
    fn may_go<T: Send>() {}
    may_go::<kv_lsm::Export>();
    may_go::<kv_lsm::Receiver>();
}
