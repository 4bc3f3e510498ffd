//! Giving up the log's beginning.

use kv_lsm::StoreError;
use kv_vlog::VlogError;

use crate::node::*;

#[test]
fn only_what_is_in_tables_can_be_purged() {
    let (_disk, world) = memory();
    let node = world.open().unwrap();
    assert_eq!(node.store.purge_candidate(0), None);
    let refused = node.store.purge(at(1, 1)).unwrap_err();
    assert!(matches!(refused, StoreError::NotFlushed { index: 1, flushed: None }), "{refused}");
    node.script(1, 50);
    node.store.flush().unwrap();
    node.write(1, &[change(51)]).unwrap();
    let refused = node.store.purge(at(1, 51)).unwrap_err();
    assert!(matches!(refused, StoreError::NotFlushed { index: 51, flushed: Some(50) }), "{refused}");
    assert!(refused.to_string().contains("up to 50"), "{refused}");
    assert!(matches!(node.store.purge(at(2, 30)), Err(StoreError::Invalid(_))), "of another term");
    node.store.purge(at(1, 30)).unwrap();
    node.store.purge(at(1, 20)).unwrap();
    assert_eq!(node.store.log().state().purged, Some(at(1, 30)));
    assert_eq!(node.store.state().purge_floor.map(|at| at.index), Some(30));
    for index in [1, 30] {
        let read = node.store.log().entries(index..index + 1, 0, true);
        assert!(matches!(read, Err(VlogError::Purged { index: i }) if i == index), "{read:?}");
    }
    assert_eq!(node.store.log().entries(31..32, 0, true).unwrap().len(), 1);
    assert_eq!(node.contents(), model(51));
}

#[test]
fn a_candidate_keeps_what_is_asked_for() {
    let (_disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 200);
    node.store.flush().unwrap();
    let log_bytes = |after: u64| {
        let segments = node.store.segments().unwrap();
        let behind = segments.iter().filter(|s| s.indexes.is_none_or(|(first, _)| first > after));
        behind.map(|s| s.bytes).sum::<u64>()
    };
    let mut last = u64::MAX;
    for keep_bytes in [0, 1, 64 << 10, 200 << 10, 500 << 10] {
        let candidate = node.store.purge_candidate(keep_bytes).unwrap();
        let ends =
            node.store.segments().unwrap().iter().any(|s| s.indexes.map(|i| i.1) == Some(candidate.index));
        assert!(ends && candidate.index <= last, "{candidate:?}");
        assert!(log_bytes(candidate.index) >= keep_bytes, "{keep_bytes}");
        last = candidate.index;
    }
    assert_eq!(node.store.purge_candidate(1 << 30), None);
    let candidate = node.store.purge_candidate(0).unwrap();
    node.store.purge(candidate).unwrap();
    assert_eq!(node.store.purge_candidate(0), None);
    node.script(1, 240);
    assert!(node.store.purge_candidate(0).is_none_or(|next| next.index > candidate.index));
}

#[test]
fn a_purged_store_restarts() {
    let (_disk, world) = memory();
    let mut node = world.open().unwrap();
    for round in 1..=5u64 {
        node.script(round, round * 60);
        node.store.flush().unwrap();
        let at = if round == 3 { node.store.applied() } else { node.store.purge_candidate(64 << 10) };
        node.store.purge(at.unwrap()).unwrap();
        if round % 2 == 0 {
            node.store.close().unwrap()
        } else {
            node.store.stop()
        }
        drop(node);
        if round % 2 == 0 {
            whole(&world.vfs);
        }
        node = world.open().unwrap();
        assert_eq!(node.contents(), model(round * 60), "round {round}");
        assert_eq!(node.store.log().state().purged, at);
        assert_eq!(orphans(&*world.vfs, &node.store), [""; 0]);
    }
}

fn segment_files(world: &World) -> usize {
    let names = world.vfs.list(dir()).unwrap();
    names.iter().filter(|entry| entry.name.ends_with(".seg")).count()
}

/// Overwrites the same keys until most segments hold nothing that is there.
fn overwritten() -> (World, Node) {
    let (_disk, world) = memory();
    let node = world.open().unwrap();
    for round in 0..60u64 {
        let changes: Vec<_> = (0..4).map(|n| (key(n), Some(value(round * 4 + n, 9_000)))).collect();
        node.write(1, &changes).unwrap();
    }
    node.store.flush().unwrap();
    world.pass();
    (world, node)
}

#[test]
fn segments_that_nobody_needs_go() {
    let (world, node) = overwritten();
    let (before, expected) = (segment_files(&world), node.contents());
    assert!(before > 10);
    node.store.purge(node.store.purge_candidate(0).unwrap()).unwrap();
    let state = node.store.state();
    assert!(segment_files(&world) <= 4, "{} of {before} segments", segment_files(&world));
    assert_eq!(segment_files(&world), state.segments.len());
    assert_eq!(node.contents(), expected);
    for round in 0..2 {
        node.store.flush().unwrap();
        if round == 0 { node.store.stop() } else { node.store.close().unwrap() }
    }
    drop(node);
    let node = world.open().unwrap();
    assert_eq!(node.contents(), expected);
    node.write(1, &[(key(9), Some("more".into()))]).unwrap();
    node.store.close().unwrap();
    drop(node);
    whole(&world.vfs);
}

#[test]
fn segments_that_somebody_reads_stay_until_then() {
    let (world, node) = overwritten();
    let export = node.store.export();
    let exported = records(&export, 1 << 20);
    let scan = node.store.scan(kv_lsm::ScanRange::default()).unwrap();
    let item = node.store.scan(kv_lsm::ScanRange::default()).unwrap().next().unwrap().unwrap();
    let expected = node.contents();
    let before = segment_files(&world);
    // Now nothing of that is there any more.
    for round in 100..140u64 {
        let changes: Vec<_> = (0..4).map(|n| (key(n), Some(value(round * 4 + n, 9_000)))).collect();
        node.write(1, &changes).unwrap();
        if round % 10 == 9 {
            node.store.flush().unwrap();
            world.pass();
            node.store.purge(node.store.purge_candidate(0).unwrap()).unwrap();
        }
    }
    assert!(segment_files(&world) > before, "pinned");
    assert!(node.store.state().segments.len() < 8);
    assert!(records(&export, 1 << 20) == exported);
    assert!(contents(&node.store, scan) == expected);
    drop(export);
    let read = node.store.value(&item.key, item.revision, &item.slot, None).unwrap();
    assert_eq!(Some(&read.value), expected.get(&item.key));
    assert!(segment_files(&world) > before, "an item pins what it leads to");
    drop(item);
    assert_eq!(segment_files(&world), node.store.state().segments.len());
    assert_eq!(orphans(&*world.vfs, &node.store), [""; 0]);
}

#[test]
fn an_install_leaves_nothing_of_the_old_state() {
    let (world, node) = overwritten();
    let scan = node.store.scan(kv_lsm::ScanRange::default()).unwrap();
    let expected = node.contents();
    let (_disk, other) = memory();
    let source = other.open().unwrap();
    source.script(2, 100);
    assert!(install(&source.store.export(), &node).unwrap());
    assert_eq!(node.contents(), source.contents());
    assert!(segment_files(&world) > 10);
    assert!(contents(&node.store, scan) == expected);
    assert_eq!(segment_files(&world), node.store.state().segments.len());
    let logs = node.store.state();
    let logs = logs.segments.values().filter(|s| s.kind == kv_manifest::SegmentKind::Log);
    assert_eq!(logs.count(), 1, "the one that is open");
    assert_eq!(orphans(&*world.vfs, &node.store), [""; 0]);
}
