//! What a collection leaves: the same contents, in other files.

use std::collections::BTreeSet;

use kv_lsm::gc::{Standing, files};
use kv_lsm::{ScanRange, StoreError};

use crate::node::*;
use crate::support::*;

#[test]
fn values_are_read_where_they_were_moved() {
    let (disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 200);
    settle(&node).unwrap();
    world.pass();
    let (before, stored) = (tables(&disk), records(&node.store.export(), 1 << 20));
    let victims = complete(&node.store);
    assert!(victims.len() > 3, "{victims:?}");
    let done = collect(&node.store, &victims).unwrap();
    assert_eq!((done.runs, done.files), (1, victims.len() as u64));
    assert!(done.values > 10 && done.written_bytes < done.freed_bytes, "{done:?}");
    assert_eq!(node.store.collected(), done);
    assert!(tables(&disk) == before, "GC writes no table");
    assert!(victims.iter().all(|file| !is_there(&disk, *file)));
    assert_eq!(orphans(&disk, &node.store), [""; 0]);
    // Codec, checksum and bytes are what they were.
    assert!(records(&node.store.export(), 1 << 20) == stored);
    assert_eq!(node.contents(), model(200));
    let report = {
        node.store.close().unwrap();
        whole(&world.vfs)
    };
    drop(node);
    let node = world.open().unwrap();
    assert_eq!(node.contents(), model(200));
    assert!(records(&node.store.export(), 1 << 20) == stored);
    assert_eq!(report.keys, model(200).len() as u64);
}

/// The figures that GC decides by are those of a full scan: each value that is there once, and no other, once all
/// versions but the newest are gone.
#[test]
fn what_is_live_is_counted_exactly() {
    let (_disk, world) = memory();
    let node = world.open().unwrap();
    for round in 1..=4u64 {
        node.script(round, round * 70);
        settle(&node).unwrap();
        world.pass();
        collect_all(&node.store).unwrap();
        let (mut values, mut bytes) = (0, 0);
        for item in node.store.scan(ScanRange::default()).unwrap() {
            if let kv_lsm::key::Slot::Pointer(at, _) = item.unwrap().slot {
                (values, bytes) = (values + 1, bytes + u64::from(at.length));
            }
        }
        let files = files(&node.store.state());
        assert_eq!(files.iter().map(|found| found.live_values).sum::<u64>(), values);
        assert_eq!(files.iter().map(|found| found.live_bytes).sum::<u64>(), bytes);
    }
}

/// A file that was written by GC is collected like any other, and what had moved into it moves on directly.
#[test]
fn remaps_never_chain() {
    let (_disk, world) = memory();
    let mut node = world.open().unwrap();
    for round in 1..=6u64 {
        node.script(round, round * 60);
        settle(&node).unwrap();
        world.pass();
        collect_all(&node.store).unwrap();
        let state = node.store.state();
        let values: BTreeSet<u64> = complete(&node.store).into_iter().collect();
        assert_eq!(values.len(), 1, "one output");
        for segment in state.segments.values().filter(|segment| segment.remapped) {
            assert!(values.contains(&segment.file), "{segment:?}");
        }
        assert_eq!(node.contents(), model(round * 60));
        if round % 2 == 0 {
            node.store.close().unwrap();
            whole(&world.vfs);
        } else {
            node.store.stop();
        }
        drop(node);
        node = world.open().unwrap();
        assert_eq!(node.contents(), model(round * 60));
    }
    let remapped = node.store.state().segments.values().filter(|segment| segment.remapped).count();
    assert!(remapped > 1, "{remapped}");
}

#[test]
fn a_file_without_live_values_is_dropped_unread() {
    let (disk, world) = memory();
    let node = world.open().unwrap();
    let keys: Vec<u64> = (0..40).collect();
    for _ in 0..3 {
        let put = |number: &u64| (key(*number), Some(value(*number, 9_000)));
        keys.iter().map(put).for_each(|change| assert!(node.write(1, &[change]).is_ok()));
        node.store.flush().unwrap();
        world.pass();
    }
    keys.iter().for_each(|number| assert!(node.write(1, &[(key(*number), None)]).is_ok()));
    node.store.flush().unwrap();
    world.pass();
    // The purge drops what it finds dead.
    let before = files(&node.store.state()).len();
    settle(&node).unwrap();
    assert!(files(&node.store.state()).len() < before);
    assert!(node.contents().is_empty());
    let done = collect_all(&node.store);
    // Nothing is left to collect, or what is left is dropped without a read.
    assert!(done.as_ref().is_ok_and(|done| done.read_bytes == 0) || done.is_err(), "{done:?}");
    assert_eq!(orphans(&disk, &node.store), [""; 0]);
}

#[test]
fn what_the_log_needs_is_not_collected() {
    let (_disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 120);
    node.store.flush().unwrap();
    let refused = |file: u64| {
        let error = collect(&node.store, &[file]).unwrap_err();
        assert!(matches!(error, StoreError::Invalid(_)), "{error}");
        error.to_string()
    };
    let found = files(&node.store.state());
    assert!(refused(found[0].file).contains("AboveFloor"), "{found:?}");
    assert!(refused(found.last().unwrap().file).contains("Active"), "{found:?}");
    assert!(refused(7_000).contains("no such file"));
    node.store.purge(node.store.flushed().unwrap()).unwrap();
    let victims = complete(&node.store);
    collect(&node.store, &victims).unwrap();
    assert!(refused(victims[0]).contains("no such file"), "it is gone");
    assert!(files(&node.store.state()).iter().any(|found| found.standing != Standing::Complete));
}

/// Badger #2286: GC judges a value live, the key is deleted, compaction drops tombstone and value, GC writes it
/// back. Here nothing is written back: what died meanwhile is dead in the new file.
#[test]
fn what_dies_during_a_collection_stays_dead() {
    let (disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 160);
    settle(&node).unwrap();
    world.pass();
    let mut collection = node.store.begin_collection(&complete(&node.store)).unwrap();
    while collection.step(1).unwrap() {
        assert!(node.last() < 400, "it ends");
    }
    let mut expected = model(160);
    let keys: Vec<_> = expected.keys().cloned().collect();
    for (number, key) in keys.into_iter().enumerate() {
        let new = (number % 3 == 0).then(|| value(number as u64, 4_000));
        match (number % 3, &new) {
            (0, Some(new)) => drop(expected.insert(key.clone(), new.clone())),
            (1, _) => drop(expected.remove(&key)),
            _ => continue,
        }
        node.write(1, &[(key, new)]).unwrap();
    }
    node.store.flush().unwrap();
    world.pass();
    collection.finish().unwrap();
    assert_eq!(node.contents(), expected);
    node.store.close().unwrap();
    drop(node);
    whole(&world.vfs);
    let node = world.open().unwrap();
    assert_eq!(node.contents(), expected);
    settle(&node).unwrap();
    collect_all(&node.store).unwrap();
    assert_eq!(node.contents(), expected);
    assert_eq!(orphans(&disk, &node.store), [""; 0]);
}

#[test]
fn a_collection_that_is_given_up_leaves_no_trace() {
    let (disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 160);
    settle(&node).unwrap();
    world.pass();
    let (before, victims) = (disk.files(), complete(&node.store));
    let mut collection = node.store.begin_collection(&victims).unwrap();
    let other = collect(&node.store, &victims[..1]).unwrap_err();
    assert!(matches!(other, StoreError::Cancelled(_)), "one at a time: {other}");
    while collection.step(1 << 10).unwrap() {
        if disk.files().len() > before.len() {
            break;
        }
    }
    assert!(disk.files().len() > before.len(), "it has begun a file");
    drop(collection);
    assert_eq!(disk.files(), before);
    collect(&node.store, &victims).unwrap();
    assert_eq!(node.contents(), model(160));
}
