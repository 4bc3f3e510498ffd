//! Files of dead segments are written again, and nobody who has them under another name sees that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kv_lsm::{Environment, SegmentLine, Store};
use kv_manifest::names;
use kv_vfs::{ManualClock, MemVfs, SteppedExecutor, Vfs};

use crate::node::*;
use crate::support::*;

const COPY: &str = "/copies/one";

/// Numbers of the files that wait.
fn free(node: &Node) -> Vec<u64> {
    let lines = node.store.segments().unwrap();
    lines.iter().filter(|line| line.free).map(|line: &SegmentLine| line.file).collect()
}

/// The highest generation of a segment that is there.
fn generation(node: &Node) -> u32 {
    node.store.state().segments.values().map(|segment| segment.generation).max().unwrap()
}

pub fn open(disk: &MemVfs, dir: &Path) -> Node {
    let clock = Arc::new(ManualClock::default());
    let executor = Arc::new(SteppedExecutor::new(clock.clone()));
    let environment = Environment { vfs: Arc::new(disk.clone()), clock, executor };
    Node { store: Store::open(&environment, dir, options(), None).unwrap() }
}

/// Has files be given up.
fn collect(node: &Node, world: &World) {
    settle(node).unwrap();
    world.pass();
    collect_all(&node.store).unwrap();
}

/// Writes until a file was written again.
fn write_again(node: &Node, from: u64) -> u64 {
    let before = generation(node);
    let mut last = from;
    while generation(node) == before {
        last += 20;
        assert!(last < from + 2_000, "no file was written again");
        node.script(1, last);
    }
    last
}

/// Broken by: a file that is written again though a checkpoint has linked it.
#[test]
fn a_checkpoint_stays_what_it_was() {
    let (disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 150);
    node.store.flush().unwrap();
    node.store.checkpoint(Path::new(COPY)).unwrap();
    collect(&node, &world);
    // These were made after the checkpoint.
    node.script(1, 300);
    collect(&node, &world);
    let last = write_again(&node, 300);
    assert_eq!(node.contents(), model(last));
    node.store.verify().unwrap();
    let copy = open(&disk, Path::new(COPY));
    assert_eq!(copy.contents(), model(150));
    copy.store.verify().unwrap();
}

/// What waits is counted, and found again by the next process.
#[test]
fn files_wait_over_a_restart() {
    let (disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 150);
    collect(&node, &world);
    let waiting = free(&node);
    assert!(!waiting.is_empty());
    let paths: Vec<PathBuf> = waiting.iter().map(|file| dir().join(names::free_name(*file))).collect();
    assert!(paths.iter().all(|path| disk.exists(path).unwrap()));
    let bytes: u64 = paths.iter().map(|path| disk.read_file(path).unwrap().len() as u64).sum();
    assert_eq!(node.store.stats().unwrap().recycled_bytes, bytes);
    node.store.close().unwrap();
    drop(node);
    let node = world.open().unwrap();
    // One of them has become the first segment of this process.
    let still = free(&node);
    assert!(still.len() + 1 == waiting.len() && still.iter().all(|file| waiting.contains(file)));
    assert_eq!(generation(&node), 1);
    assert_eq!(orphans(&disk, &node.store), [""; 0]);
    assert_eq!(node.contents(), model(150));
}

#[test]
fn files_that_wait_go_when_room_is_short() {
    let (disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 150);
    collect(&node, &world);
    assert!(!free(&node).is_empty());
    disk.set_space(64 << 20);
    world.executor.as_ref().unwrap().advance(Duration::from_secs(2));
    assert_eq!(free(&node), [0; 0]);
    node.script(1, 200);
    collect(&node, &world);
    assert_eq!(free(&node), [0; 0], "kept though room is short");
    assert_eq!(node.contents(), model(200));
}

/// A crash between the renaming of a file and its first use: what it held is no sign that the manifest has lost its end.
#[test]
fn an_unfinished_file_is_an_orphan_like_any_other() {
    let (disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 150);
    collect(&node, &world);
    let waiting = free(&node)[0];
    node.store.stop();
    drop(node);
    let left: MemVfs = disk.kill_clone();
    let later = dir().join(names::segment_name(waiting + 1_000));
    left.rename(&dir().join(names::free_name(waiting)), &later).unwrap();
    let node = World::stepped(Arc::new(left.clone())).open().unwrap();
    assert!(!left.exists(&later).unwrap());
    assert_eq!(node.contents(), model(150));
}
