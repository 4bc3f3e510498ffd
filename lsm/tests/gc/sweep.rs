//! Long files that nothing needs any more go piece by piece, and only they.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kv_lsm::{Options, StoreError};
use kv_manifest::names::{self, FileName};
use kv_vfs::fault::{Fault, Rule, Times};
use kv_vfs::{FaultVfs, MemVfs, OpKind, Survival, Vfs};
use parking_lot::Mutex;

use crate::node::*;
use crate::support::*;

/// An eighth of a segment.
const PIECE_BYTES: u64 = 8 << 10;
const LAST: u64 = 150;

fn pieces() -> Options {
    Options { freed_bytes_max: PIECE_BYTES, recycled_bytes_max: 0, ..options() }
}

/// The files of a kind, with their lengths.
fn lengths(disk: &MemVfs, kind: impl Fn(FileName) -> bool) -> BTreeMap<PathBuf, u64> {
    let is_wanted = |name: &str| names::parse(name).is_some_and(&kind);
    let entries = disk.list(dir()).unwrap().into_iter().filter(|entry| is_wanted(&entry.name));
    entries.map(|entry| (dir().join(entry.name), entry.len)).collect()
}

fn going(disk: &MemVfs) -> BTreeMap<PathBuf, u64> {
    lengths(disk, |name| matches!(name, FileName::Gone(_)))
}

fn segments(disk: &MemVfs) -> BTreeMap<PathBuf, u64> {
    lengths(disk, |name| matches!(name, FileName::Segment(_)))
}

fn sum(files: &BTreeMap<PathBuf, u64>) -> u64 {
    files.values().sum()
}

/// A store with files that can be collected.
fn written() -> (MemVfs, World, Node) {
    let disk = MemVfs::new();
    let (world, node) = written_on(Arc::new(disk.clone()));
    (disk, world, node)
}

fn written_on(vfs: Arc<dyn Vfs>) -> (World, Node) {
    let world = World::stepped(vfs);
    let node = world.open_with(pieces()).unwrap();
    node.script(1, LAST);
    settle(&node).unwrap();
    world.pass();
    (world, node)
}

/// Gives the time in which one piece goes, or so many.
fn let_go(world: &World, pieces: u32) {
    world.executor.as_ref().unwrap().advance(Duration::from_millis(5) * pieces);
}

/// Broken by: a file that is removed at once, or never.
#[test]
fn a_long_file_goes_piece_by_piece() {
    let (disk, world, node) = written();
    let before = segments(&disk);
    collect_all(&node.store).unwrap();
    world.executor.as_ref().unwrap().run_until_idle();
    let given_up: u64 =
        before.iter().filter(|(path, _)| !disk.exists(path).unwrap()).map(|(_, bytes)| bytes).sum();
    let mut last = sum(&going(&disk));
    assert!(last > 4 * PIECE_BYTES && last <= given_up, "{last} of {given_up}");
    while last > 0 {
        let_go(&world, 1);
        let now = sum(&going(&disk));
        assert!(now < last, "{now} after {last}");
        assert!(last - now <= 2 * PIECE_BYTES, "{now} after {last}");
        last = now;
    }
    assert_eq!(orphans(&disk, &node.store), [""; 0]);
    assert_eq!(node.contents(), model(LAST));
}

/// Broken by: a file that is cut though a checkpoint has linked it.
#[test]
fn a_file_with_another_name_is_not_cut() {
    let (disk, world, node) = written();
    let copy = Path::new("/copies/one");
    node.store.checkpoint(copy).unwrap();
    collect_all(&node.store).unwrap();
    let_go(&world, 1_000);
    assert_eq!(going(&disk), BTreeMap::new());
    let copy = crate::recycle::open(&disk, copy);
    assert_eq!(copy.contents(), model(LAST));
    copy.store.verify().unwrap();
}

/// Broken by: a cut before the new name is durable. The old one, which comes back, would look as if it were whole.
#[test]
fn what_has_the_name_of_a_segment_is_whole_after_a_loss_of_power() {
    let (disk, world, node) = written();
    let before = segments(&disk);
    let (seeds, clones) = (Mutex::new(0..), Arc::new(Mutex::new(Vec::new())));
    let kept = clones.clone();
    disk.before_each(move |moment| {
        let seed = seeds.lock().next().unwrap();
        kept.lock().push(moment.crash_clone(&Survival::NamesLost { seed }));
    });
    collect_all(&node.store).unwrap();
    let_go(&world, 1_000);
    disk.unwatch();
    let mut seen_going = 0;
    for clone in clones.lock().iter() {
        for (path, bytes) in segments(clone) {
            assert!(before.get(&path).is_none_or(|before| *before <= bytes), "{path:?}: {bytes} bytes");
        }
        seen_going += going(clone).len();
        let node = World::stepped(Arc::new(clone.clone())).open_with(pieces()).unwrap();
        assert_eq!(node.contents(), model(LAST));
    }
    assert!(seen_going > 0, "no crash between");
}

/// Broken by: a file that is left half gone for ever.
#[test]
fn the_next_process_goes_on_and_a_close_waits_for_none() {
    let (disk, world, node) = written();
    collect_all(&node.store).unwrap();
    let_go(&world, 1);
    let left = disk.kill_clone();
    assert!(sum(&going(&left)) > 2 * PIECE_BYTES);
    let world = World::stepped(Arc::new(left.clone()));
    let next = world.open_with(pieces()).unwrap();
    assert!(sum(&going(&left)) > 0, "opening has to wait for it");
    let_go(&world, 1_000);
    assert_eq!(going(&left), BTreeMap::new());
    assert_eq!(next.contents(), model(LAST));

    node.store.close().unwrap();
    assert_eq!(going(&disk), BTreeMap::new());
}

/// Broken by: gigabytes that wait to go where the room is wanted.
#[test]
fn files_go_at_once_where_room_is_short() {
    let (disk, world, node) = written();
    collect_all(&node.store).unwrap();
    let_go(&world, 1);
    let files = going(&disk).len();
    disk.set_space(512 << 20);
    let_go(&world, 2);
    assert!(going(&disk).len() < files, "a file is still cut");
    node.script(LAST + 1, 2 * LAST);
    settle(&node).unwrap();
    let_go(&world, 1_000);
    collect_all(&node.store).unwrap();
    assert_eq!(going(&disk), BTreeMap::new());
    assert_eq!(node.contents(), model(2 * LAST));
}

/// Broken by: a failure that leaves a file for ever or takes one that is needed; a failed sync that nobody hears of.
#[test]
fn whatever_fails_the_files_go() {
    for op in [OpKind::Rename, OpKind::SyncDir, OpKind::Open, OpKind::SetLen, OpKind::Remove, OpKind::Stat] {
        let disk = MemVfs::new();
        let vfs = FaultVfs::new(Arc::new(disk.clone()));
        let (world, node) = written_on(Arc::new(vfs.clone()));
        collect_all(&node.store).unwrap();
        // The first file waits, the others have yet to be renamed, or go as a whole where that fails.
        let path_contains = String::new();
        vfs.fail(Rule { op, path_contains, nth: 1, times: Times::Once, error: Fault::Eio });
        let_go(&world, 1_000);
        let failed = vfs.failed() > 0;
        vfs.clear();
        assert!(failed || op == OpKind::Rename, "{op:?}: never reached");
        assert_eq!(going(&disk).len(), usize::from(op == OpKind::Remove), "{op:?}");
        let more = node.write(1, &[change(LAST + 1)]);
        match op {
            OpKind::SyncDir => assert!(matches!(more, Err(StoreError::Poisoned { .. })), "{more:?}"),
            _ => assert!(more.is_ok(), "{op:?}: {more:?}"),
        }
        node.store.stop();
        drop(node);
        let node = World::stepped(Arc::new(disk.clone())).open_with(pieces()).unwrap();
        let written = LAST + u64::from(op != OpKind::SyncDir);
        assert_eq!(node.contents(), model(written));
    }
}
