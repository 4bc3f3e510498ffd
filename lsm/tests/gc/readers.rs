//! Readers that are older than a collection, and what else changes meanwhile.

use kv_lsm::gc::Priority;
use kv_lsm::key::Slot;
use kv_lsm::{Holder, ScanRange, StoreError};
use kv_manifest::names;

use crate::node::*;
use crate::support::*;

/// A reader stands between the lookup of a pointer and the read of its value, while all that it may read is overwritten,
/// compacted away and collected.
#[test]
fn a_pointer_that_was_looked_up_is_read_whatever_is_collected() {
    let (disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 150);
    settle(&node).unwrap();
    world.pass();
    let expected = model(150);
    let mut scan = node.store.scan(ScanRange::default()).unwrap();
    let looked_up: Vec<_> = scan.by_ref().take(20).map(Result::unwrap).collect();
    let (snapshot, export) = (node.store.snapshot(), node.store.export());
    let first = complete(&node.store);
    collect_all(&node.store).unwrap();
    // Now the values die, and are left out by the next two.
    for key in expected.keys() {
        node.write(1, &[(key.clone(), None)]).unwrap();
    }
    drop(snapshot);
    for _ in 0..2 {
        settle(&node).unwrap();
        world.pass();
        collect_all(&node.store).unwrap();
        node.write(1, &[(key(1), Some(value(1, 2_000)))]).unwrap();
    }
    assert!(first.iter().all(|file| is_there(&disk, *file)), "somebody reads them");
    let held = node.store.gc_report(Priority::Normal).unwrap().held;
    for file in &first {
        let held = held.iter().find(|held| held.file == *file).unwrap();
        assert_eq!(held.by, [(Holder::Iterator, 1), (Holder::Export, 1)], "{}", held.why());
    }
    for item in looked_up.into_iter().chain(scan.map(Result::unwrap)) {
        let found = node.store.value(&item.key, item.revision, &item.slot, None).unwrap();
        assert_eq!(found.value, expected[&item.key]);
        let part = node.store.value(&item.key, item.revision, &item.slot, Some(3..50)).unwrap();
        assert!(expected[&item.key].get(3..).is_none_or(|rest| rest.starts_with(&part.value)));
    }
    assert_eq!(records(&export, 1 << 20).len(), expected.len());
    drop(export);
    assert!(first.iter().all(|file| !is_there(&disk, *file)), "nobody reads them any more");
    assert_eq!(orphans(&disk, &node.store), [""; 0]);
    assert_eq!(node.contents().len(), 1);
}

/// What an open snapshot sees is in tables, and so is live.
#[test]
fn a_snapshot_reads_the_same_after_collections() {
    let (_disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 150);
    let snapshot = node.store.snapshot();
    for round in 1..=3u64 {
        node.script(1, 150 + round * 80);
        settle(&node).unwrap();
        world.pass();
        collect_all(&node.store).unwrap();
        assert_eq!(contents(&node.store, snapshot.scan(ScanRange::default()).unwrap()), model(150));
        assert_eq!(node.contents(), model(150 + round * 80));
    }
}

/// An install takes the files away from under a collection.
#[test]
fn a_collection_of_files_that_are_gone_is_given_up() {
    let (_disk, world) = memory();
    let source = world.open().unwrap();
    source.script(1, 300);
    let (disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 150);
    settle(&node).unwrap();
    world.pass();
    let mut collection = node.store.begin_collection(&complete(&node.store)).unwrap();
    while collection.step(64 << 10).unwrap() {}
    assert!(install(&source.store.export(), &node).unwrap());
    let error = collection.finish().unwrap_err();
    assert!(matches!(error, StoreError::Cancelled(_)), "{error}");
    assert_eq!(node.contents(), model(300));
    assert_eq!(orphans(&disk, &node.store), [""; 0]);
    node.write(1, &[change(301)]).unwrap();
    settle(&node).unwrap();
    collect_all(&node.store).unwrap();
    assert_eq!(node.contents(), model(301));
}

/// A damaged value is not carried into a new file, where it would look as if it was written so; nothing is lost, and
/// the store goes on.
#[test]
fn damage_ends_a_collection_and_nothing_else() {
    let (disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 150);
    settle(&node).unwrap();
    world.pass();
    let before = disk.files();
    let victim = complete(&node.store)[1];
    let path = dir().join(names::segment_name(victim));
    let length = disk.read_file(&path).unwrap().len() as u64;
    // All over the file: some of it hits a value that is live.
    (5_000..length).step_by(1_000).for_each(|at| disk.corrupt(&path, at, 0x10).unwrap());
    let error = collect_all(&node.store).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains(&names::segment_name(victim)), "{error}");
    assert_eq!(disk.files(), before);
    node.write(1, &[change(151)]).unwrap();
    let others: Vec<u64> = complete(&node.store).into_iter().filter(|file| *file != victim).collect();
    collect(&node.store, &others).unwrap();
}

/// What a compaction does with the pointers that pass through it: they lead to where the values are now, and that does
/// not change until it is recorded.
#[test]
fn pointers_are_rewritten_to_where_values_are() {
    let (_disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 150);
    settle(&node).unwrap();
    world.pass();
    let pointers = |node: &Node| -> Vec<_> {
        let items = node.store.scan(ScanRange::default()).unwrap().map(Result::unwrap);
        let pointer = |item: kv_lsm::ScanItem| match item.slot {
            Slot::Pointer(at, _) => Some((item.key, item.revision, at)),
            _ => None,
        };
        items.filter_map(pointer).collect()
    };
    let before = pointers(&node);
    let early = node.store.resolver();
    assert!(before.iter().all(|(_, _, at)| early.resolve(at) == *at), "nothing has moved");
    collect(&node.store, &complete(&node.store)).unwrap();
    let output = complete(&node.store);
    let resolver = node.store.resolver();
    let mut moved = 0;
    for (key, seq, at) in pointers(&node) {
        let to = resolver.resolve(&at);
        moved += u64::from(to != at);
        assert_eq!(resolver.resolve(&to), to, "and no further");
        let read = |at| node.store.value(&key, seq, &Slot::Pointer(at, kv_lsm::Expiry::NEVER), None).unwrap();
        assert_eq!(read(to), read(at));
    }
    // Besides these there are versions that are not the newest of their keys.
    assert!(moved > 20 && moved <= node.store.collected().values, "{moved}");
    // One that is under way keeps the file; the next ones leave it alone.
    let error = collect(&node.store, &output).unwrap_err();
    assert!(error.to_string().contains("rewrite pointers"), "{error}");
    drop((early, resolver));
    let later = node.store.resolver();
    assert!(pointers(&node).iter().all(|(_, _, at)| later.resolve(at) == *at));
    collect(&node.store, &output).unwrap();
    assert_eq!(node.contents(), model(150));
}
