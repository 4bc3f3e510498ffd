//! Compactions write pointers to where values are now, so that remaps are not needed for ever.

use kv_lsm::ScanRange;
use kv_lsm::key::Slot;

use crate::node::*;
use crate::support::*;

#[test]
fn a_compaction_follows_the_values() {
    let (disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 200);
    settle(&node).unwrap();
    node.store.compact_range(&ScanRange::default()).unwrap();
    collect_all(&node.store).unwrap();
    let moved = |node: &Node| node.store.state().segments.values().filter(|segment| segment.remapped).count();
    assert!(moved(&node) > 0, "tables still name the old segments");
    // Something new in each range of keys, so that all tables are merged again.
    node.script(1, 400);
    settle(&node).unwrap();
    node.store.compact_range(&ScanRange::default()).unwrap();
    settle(&node).unwrap();
    assert_eq!(node.contents(), model(400));
    let state = node.store.state();
    for item in node.store.scan(ScanRange::default()).unwrap() {
        if let Slot::Pointer(at, _) = item.unwrap().slot {
            assert!(!state.segments[&at.segment].remapped, "{at:?} is not where the value is");
        }
    }
    // Nothing leads there any more.
    assert_eq!(moved(&node), 0);
    node.store.close().unwrap();
    drop(node);
    whole(&world.vfs);
    let node = world.open().unwrap();
    assert_eq!(node.contents(), model(400));
    assert_eq!(orphans(&disk, &node.store), [""; 0]);
}
