//! A disk without room for what background work writes, and remaps that cannot be read: the store goes on.

use std::sync::Arc;
use std::time::Duration;

use kv_lsm::gc::{GcOptions, files};
use kv_lsm::{Options, ScanRange, StoreError};
use kv_manifest::names;
use kv_vfs::fault::{Fault, Rule, Times};
use kv_vfs::{FaultVfs, MemVfs, OpKind, Vfs};

use crate::node::*;
use crate::support::*;

fn pass(world: &World, seconds: u64) {
    for _ in 0..seconds {
        world.executor.as_ref().unwrap().advance(Duration::from_secs(1));
    }
}

/// No room for tables, from the n-th create or write of one on.
fn no_room(op: OpKind, nth: u64) -> Rule {
    Rule { op, path_contains: ".sst".into(), nth, times: Times::Forever, error: Fault::Enospc }
}

/// What cannot be written is given up or waits; nothing relies on it, and all of it is done when there is room.
#[test]
fn tables_that_have_no_room_are_written_later() {
    for (op, nth) in
        [(OpKind::Create, 1), (OpKind::Write, 1), (OpKind::Create, 2), (OpKind::Write, 2), (OpKind::Write, 3)]
    {
        let disk = MemVfs::new();
        let vfs = FaultVfs::new(Arc::new(disk.clone()));
        let world = World::stepped(Arc::new(vfs.clone()));
        let node = world.open().unwrap();
        node.script(1, 100);
        node.store.flush().unwrap();
        pass(&world, 1);
        let merges = node.store.compaction_stats().merges;
        vfs.clear();
        vfs.fail(no_room(op, nth));
        // Fewer than would have writes wait.
        node.script(1, 120);
        pass(&world, 20);
        assert!(vfs.failed() > 0, "{op:?} {nth}");
        assert_eq!(orphans(&disk, &node.store), [""; 0], "{op:?} {nth}");
        node.script(1, 124);
        if op == OpKind::Create && nth == 1 {
            let refused = node.store.flush();
            assert!(matches!(refused, Err(StoreError::NoRoom { .. })), "{refused:?}");
        }
        vfs.clear();
        pass(&world, 20);
        node.store.flush().unwrap();
        node.store.compact_range(&ScanRange::default()).unwrap();
        assert!(node.store.compaction_stats().merges > merges);
        assert_eq!(node.contents(), model(124));
        node.store.close().unwrap();
        drop(node);
        whole(&world.vfs);
    }
}

/// A compaction is given up alone, too: the flushes beside it have room.
#[test]
fn a_compaction_without_room_is_given_up_and_tried_again() {
    let disk = MemVfs::new();
    let vfs = FaultVfs::new(Arc::new(disk.clone()));
    let world = World::stepped(Arc::new(vfs.clone()));
    // Nothing is compacted before it is asked for.
    let options = Options { l0_tables_max: 100, l0_tables_slow: 200, l0_tables_stop: 300, ..options() };
    let node = world.open_with(options).unwrap();
    node.script(1, 100);
    node.store.flush().unwrap();
    vfs.clear();
    vfs.fail(Rule { times: Times::Once, ..no_room(OpKind::Write, 2) });
    let refused = node.store.compact_range(&ScanRange::default());
    assert!(matches!(refused, Err(StoreError::NoRoom { .. })), "{refused:?}");
    assert_eq!((vfs.failed(), node.store.compaction_stats().merges), (1, 0));
    assert_eq!(orphans(&disk, &node.store), [""; 0]);
    pass(&world, 10);
    node.store.compact_range(&ScanRange::default()).unwrap();
    assert!(node.store.compaction_stats().merges > 0);
    assert_eq!(orphans(&disk, &node.store), [""; 0]);
    assert_eq!(node.contents(), model(100));
    node.store.close().unwrap();
    drop(node);
    whole(&world.vfs);
}

/// Where a value has moved to cannot be read: the compaction keeps the pointer as it is, which is right, and readers of
/// that value are told.
#[test]
fn a_compaction_survives_a_remap_that_cannot_be_read() {
    let (disk, world) = memory();
    let node = world.open().unwrap();
    node.script(1, 200);
    settle(&node).unwrap();
    node.store.compact_range(&ScanRange::default()).unwrap();
    collect_all(&node.store).unwrap();
    let target = files(&node.store.state()).into_iter().find(|found| found.segments.len() > 1).unwrap();
    node.store.close().unwrap();
    drop(node);
    let path = dir().join(names::segment_name(target.file));
    let length = disk.read_file(&path).unwrap().len() as u64;
    (target.bytes..length).step_by(64).for_each(|at| disk.corrupt(&path, at, 0x20).unwrap());
    let node = world.open().unwrap();
    node.script(1, 260);
    node.store.flush().unwrap();
    node.store.compact_range(&ScanRange::default()).unwrap();
    let (mut damaged, mut whole) = (0, 0);
    for (key, value) in model(260) {
        match node.store.get(&key, None) {
            Ok(found) => {
                whole += 1;
                assert_eq!(found.unwrap().value, value);
            }
            Err(error) => {
                damaged += 1;
                assert!(
                    error.is_damage() && error.to_string().contains(&names::segment_name(target.file)),
                    "{error}"
                );
            }
        }
    }
    assert!(damaged > 0 && whole > 0, "{damaged} damaged, {whole} whole");
    node.write(1, &[change(261)]).unwrap();
}

/// The disk holds twice what is live and a little more; segments would be as long as a sixth of that, were there room.
#[test]
fn everything_is_overwritten_on_a_disk_that_is_nearly_full() {
    const KEYS: u64 = 500;
    const BYTES: usize = 8_000;
    let (disk, world) = memory();
    let gc = GcOptions { reserve_bytes: 256 << 10, ..GcOptions::default() };
    let options = Options {
        log_kept_bytes: Some(0),
        segment_bytes: 64 << 10..=2 << 20,
        group_bytes_max: 64 << 10,
        base_bytes: 1 << 20,
        gc,
        ..options()
    };
    let total = 12 << 20;
    disk.set_space(total);
    let node = world.open_with(options).unwrap();
    let put = |number: u64, round: u64| {
        let room = node.store.room().unwrap();
        assert!(
            room.available_bytes >= room.reserve_bytes,
            "a server would refuse it: {room:?} in round {round}"
        );
        node.write(1, &[(key(number), Some(value(2 * (round * KEYS + number), BYTES)))]).unwrap();
    };
    let mut least = u64::MAX;
    for n in 0..7 * KEYS {
        put(if n < KEYS { n } else { n.wrapping_mul(2_654_435_761) % 7919 % KEYS }, 1 + n);
        // So little time that nothing is ever old.
        if n % 8 == 0 {
            world.executor.as_ref().unwrap().advance(Duration::from_millis(20));
        }
        least = least.min(disk.space(dir()).unwrap().available);
    }
    assert!(least < total / 3, "it was never nearly full: {least}");
    let longest = node.store.segments().unwrap().iter().map(|line| line.bytes).max().unwrap();
    assert!(longest <= total / 16, "{longest}");
    assert_eq!(node.store.gc_audit().unwrap(), []);
    node.store.close().unwrap();
    drop(node);
    assert_eq!(whole(&world.vfs).keys, KEYS);
}

/// Segments follow what is stored, and what room there is.
#[test]
fn segments_are_short_where_room_is() {
    let (disk, world) = memory();
    let options = Options { segment_bytes: 64 << 10..=2 << 20, ..options() };
    let reserve_of = |available: u64| {
        disk.set_space(available);
        let node = world.open_with(options.clone()).unwrap();
        let room = node.store.room().unwrap();
        node.store.close().unwrap();
        room.reserve_bytes - 2 * options.gc.reserve_bytes
    };
    // Little is stored.
    assert_eq!(reserve_of(1 << 30), 2 * (64 << 10));
    let node = world.open_with(options.clone()).unwrap();
    (0..400).for_each(|number| drop(node.write(1, &[(key(number), Some(value(2 * number, 30_000)))])));
    node.store.close().unwrap();
    drop(node);
    let long = reserve_of(1 << 30);
    assert!(long > 2 * (300 << 10), "{long}");
    let short = reserve_of(2 << 20);
    assert!((2 * (64 << 10)..=2 * (128 << 10)).contains(&short), "{short}");
}
