//! Another state takes the place of what is there, whatever that is.

use kv_lsm::{ScanRange, StoreError};
use kv_vlog::{LogState, Payload};

use crate::node::*;

/// A source whose state at 120 has a membership.
fn source() -> (World, Node) {
    let (_disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 70);
    let at = node.append(2, Payload::Membership("1,2,3".into())).unwrap();
    node.apply(at.index).unwrap();
    while node.last() < 120 {
        node.write(2, &[change(node.last() + 1)]).unwrap();
    }
    (world, node)
}

/// The target goes on after an install, restarts each way, and is whole.
fn goes_on(world: &World, node: Node, source: &Node) {
    assert_eq!(node.store.membership(), source.store.membership());
    assert!(orphans(&*world.vfs, &node.store).is_empty(), "{:?}", orphans(&*world.vfs, &node.store));
    for index in source.last() + 1..source.last() + 30 {
        assert_eq!(source.write(3, &[change(index)]).unwrap(), node.write(3, &[change(index)]).unwrap());
    }
    assert_eq!(node.contents(), source.contents());
    node.store.stop();
    drop(node);
    let node = world.open().unwrap();
    assert_eq!(node.contents(), source.contents(), "after a stop");
    assert_eq!(node.store.membership(), source.store.membership());
    source.write(3, &[change(500)]).unwrap();
    node.write(3, &[change(500)]).unwrap();
    node.store.close().unwrap();
    drop(node);
    let report = whole(&world.vfs);
    let node = world.open().unwrap();
    assert_eq!(node.contents(), source.contents(), "after a close");
    assert_eq!(report.applied, source.store.applied());
    assert_eq!(orphans(&*world.vfs, &node.store), [""; 0]);
}

#[test]
fn over_an_empty_store() {
    let (_world, source) = source();
    let (_disk, world) = memory();
    let node = world.open().unwrap();
    assert!(install(&source.store.export(), &node).unwrap());
    let floor = Some(at(2, 120));
    assert_eq!(node.store.log().state(), LogState { purged: floor, last: floor });
    assert!(!install(&source.store.export(), &node).unwrap(), "not twice");
    goes_on(&world, node, &source);
}

#[test]
fn over_an_empty_store_that_restarts_at_once() {
    let (_world, source) = source();
    for closed in [false, true] {
        let (_disk, world) = memory();
        let node = world.open().unwrap();
        assert!(install(&source.store.export(), &node).unwrap());
        if closed {
            node.store.close().unwrap()
        } else {
            node.store.stop()
        }
        drop(node);
        let node = world.open().unwrap();
        let floor = Some(at(2, 120));
        assert_eq!((node.store.applied(), node.contents()), (floor, source.contents()));
        assert_eq!(node.store.log().state(), LogState { purged: floor, last: floor });
        assert_eq!(node.store.log().committed_next(), 121);
        assert_eq!(node.store.log().term_starts(120, 120), [at(2, 120)]);
    }
}

#[test]
fn over_an_older_state() {
    let (_world, source) = source();
    let (_disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 60);
    node.store.flush().unwrap();
    world.pass();
    assert!(!node.store.tables().is_empty());
    assert!(install(&source.store.export(), &node).unwrap());
    assert_eq!(node.contents(), source.contents());
    goes_on(&world, node, &source);
}

#[test]
fn over_unflushed_memtables_and_unapplied_entries() {
    let (_world, source) = source();
    let (_disk, world) = memory();
    let options = kv_lsm::Options { memtable_bytes_max: 1 << 20, memtable_entries_max: 1000, ..options() };
    let node = world.open_with(options).unwrap();
    node.script(1, 40);
    for index in 41..=55 {
        node.append(1, ops(&[change(index)])).unwrap();
    }
    assert_eq!(node.store.flushed(), None);
    let (scan, snapshot) = (node.store.scan(ScanRange::default()).unwrap(), node.store.snapshot());
    assert!(install(&source.store.export(), &node).unwrap());
    assert_eq!(node.contents(), source.contents());
    assert!(contents(&node.store, scan) == model(40), "a scan of the old state");
    for _ in 0..2 {
        let scan = snapshot.scan(ScanRange::default()).unwrap();
        assert!(contents(&node.store, scan) == model(40), "a snapshot of the old state");
        world.pass();
    }
    let (there, value) = model(40).into_iter().next().unwrap();
    assert_eq!(snapshot.get(&there, None).unwrap().unwrap().value, value);
    let newer = node.store.snapshot();
    assert!(contents(&node.store, newer.scan(ScanRange::default()).unwrap()) == source.contents());
    drop((snapshot, newer));
    goes_on(&world, node, &source);
}

/// Entries behind the snapshot that the log holds already stay; the floor is within the log.
#[test]
fn within_the_log() {
    let (_world, source) = source();
    let (_disk, world) = memory();
    let node = world.open().unwrap();
    let export = source.store.export();
    for index in 121..=125 {
        source.write(2, &[change(index)]).unwrap();
    }
    for index in 1..=125 {
        let entry = source.store.log().entries(index..index + 1, 0, true).unwrap().remove(0);
        node.append(entry.at.term, entry.payload).unwrap();
    }
    node.apply(30).unwrap();
    assert!(install(&export, &node).unwrap());
    assert_eq!(node.store.log().state(), LogState { purged: export.at(), last: Some(at(2, 125)) });
    node.apply(125).unwrap();
    assert_eq!(node.contents(), source.contents());
    goes_on(&world, node, &source);
}

#[test]
fn a_log_of_another_history_is_refused() {
    let (_world, source) = source();
    let (_disk, world) = memory();
    let other = world.open().unwrap();
    while other.last() < 125 {
        other.append(1, ops(&[change(other.last() + 1)])).unwrap();
    }
    let refused = install(&source.store.export(), &other).unwrap_err();
    assert!(matches!(&refused, StoreError::Invalid(why) if why.contains("truncated")), "{refused}");
    other.store.log().truncate(120, Box::new(|_| {})).unwrap();
    assert!(install(&source.store.export(), &other).unwrap());
    assert_eq!(other.contents(), source.contents());
}

#[test]
fn once_more_and_not_backwards() {
    let (_world, source) = source();
    let (_disk, world) = memory();
    let node = world.open().unwrap();
    let first = source.store.export();
    assert!(install(&first, &node).unwrap());
    for index in 121..=160 {
        source.write(3, &[change(index)]).unwrap();
    }
    node.write(2, &[change(121)]).unwrap();
    assert!(!install(&first, &node).unwrap());
    let files = world.vfs.list(dir()).unwrap().len();
    assert!(install(&source.store.export(), &node).unwrap());
    assert_eq!(node.contents(), source.contents());
    assert!(world.vfs.list(dir()).unwrap().len() < files * 2);
    goes_on(&world, node, &source);
}
