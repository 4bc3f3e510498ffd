//! Room on the disk while everything is overwritten: what holds writes back, and what must not.

use std::sync::Arc;
use std::time::Duration;

use kv_lsm::gc::{GcOptions, Obstacle, Priority, Verdict, files};
use kv_lsm::{Options, ScanRange};
use kv_vfs::{MemVfs, Vfs};

use crate::node::*;
use crate::support::*;

const KEYS: u64 = 600;
const BYTES: usize = 8_000;

fn options_with(gc: GcOptions) -> Options {
    Options {
        log_kept_bytes: Some(0),
        segment_bytes: 256 << 10..=256 << 10,
        group_bytes_max: 64 << 10,
        base_bytes: 1 << 20,
        gc: GcOptions { space_floor_bytes: 1 << 20, ..gc },
        ..options()
    }
}

/// Neither purges, compacts nor collects by itself.
fn by_hand() -> Options {
    let gc = GcOptions { automatic: false, ..GcOptions::default() };
    let (l0_tables_max, l0_tables_slow, l0_tables_stop) = (1000, 2000, 3000);
    let base_bytes = 1 << 40;
    let by_itself = options_with(gc);
    Options { log_kept_bytes: None, base_bytes, l0_tables_max, l0_tables_slow, l0_tables_stop, ..by_itself }
}

fn put(node: &Node, number: u64, round: u64) {
    // Even: it cannot be compressed.
    node.write(1, &[(key(number), Some(value(2 * (round * KEYS + number), BYTES)))]).unwrap();
}

/// Background work has its turns, but no time goes by: nothing is ever old.
#[test]
fn the_disk_holds_twice_what_it_has_to_at_most() {
    let (disk, world) = memory();
    let node = world.open_with(options_with(GcOptions::default())).unwrap();
    (0..KEYS).for_each(|number| put(&node, number, 0));
    let live = KEYS * BYTES as u64;
    let mut peak = 0;
    for n in 0..5 * KEYS {
        put(&node, n.wrapping_mul(2_654_435_761) % 7919 % KEYS, 1 + n);
        if n % 8 == 0 {
            world.executor.as_ref().unwrap().advance(Duration::ZERO);
        }
        peak = peak.max(disk_bytes(&disk));
    }
    // Besides: the segment that is open, and the one that GC writes.
    assert!(peak <= 2 * live + (512 << 10), "{peak} bytes for {live} live ones");
    assert!(node.store.collected().freed_bytes > 2 * live);
    node.store.close().unwrap();
    whole(&world.vfs);
}

#[test]
fn writes_are_held_back_while_garbage_goes_and_not_for_what_cannot_go() {
    let world = World::threaded(Arc::new(MemVfs::new()));
    let narrow =
        GcOptions { space_amplification_goal: 1.01, space_amplification_max: 1.02, ..GcOptions::default() };
    let node = world.open_with(options_with(narrow)).unwrap();
    (0..KEYS).for_each(|number| put(&node, number, 0));
    assert_eq!(node.store.stall_stats().slowed_for_space, 0, "nothing is garbage yet");
    let held = |node: &Node| node.store.stall_stats().slowed_for_space;
    for n in 0..20 * KEYS {
        put(&node, n * 7 % KEYS, 1 + n);
        if held(&node) > 10 {
            break;
        }
    }
    let held_back = node.store.stall_stats();
    assert!(held_back.slowed_for_space > 10, "{held_back:?}");
    assert!(held_back.space_micros_sum >= 1000 * held_back.slowed_for_space, "{held_back:?}");
    node.store.gc_pause();
    (0..KEYS).for_each(|n| put(&node, n * 7 % KEYS, 10_000 + n));
    let paused = node.store.stall_stats();
    assert_eq!(paused.slowed_for_space, held_back.slowed_for_space, "nothing would come of it");
}

/// Broken by a compaction under way: the plan was given up, and the same one made again, until it had ended.
#[test]
fn a_file_that_awaits_a_compaction_is_passed_over_and_the_others_go() {
    let (_disk, world) = memory();
    let node = world.open_with(by_hand()).unwrap();
    (0..KEYS).for_each(|number| put(&node, number, 0));
    settle(&node).unwrap();
    node.store.compact_range(&ScanRange::default()).unwrap();
    collect_all(&node.store).unwrap();
    let target = files(&node.store.state()).into_iter().find(|found| found.segments.len() > 1).unwrap().file;
    let compaction = node.store.resolver();
    // The keys before these still lead to where the values were at first.
    let from = key(3);
    for round in 1..3 {
        (0..KEYS).filter(|number| key(*number) >= from).for_each(|number| put(&node, number, round));
        settle(&node).unwrap();
        node.store.compact_range(&ScanRange { from: from.clone(), to: None }).unwrap();
    }
    settle(&node).unwrap();
    let verdict = || {
        let verdicts = node.store.gc_decision(Priority::Emergency).unwrap().verdicts;
        verdicts.into_iter().find(|(file, _)| *file == target).unwrap().1
    };
    assert_eq!(verdict(), Verdict::Obstacle(Obstacle::AwaitsCompaction));
    assert!(verdict().to_string().contains("awaits a compaction"));
    let runs = run(&node.store).unwrap();
    assert!(!runs.is_empty() && runs.iter().all(|run| !run.plan.files.contains(&target)), "{runs:?}");
    // It is wanted: who begins now leaves it alone.
    let later = node.store.resolver();
    drop(compaction);
    let runs = run(&node.store).unwrap();
    assert!(runs.iter().any(|run| run.plan.files.contains(&target)), "{runs:?}");
    drop(later);
}

/// All files but the manifest, which is long for so few values.
fn directory_bytes(disk: &MemVfs) -> u64 {
    let entries = disk.list(dir()).unwrap();
    entries.iter().filter(|entry| !entry.name.starts_with("MANIFEST")).map(|entry| entry.len).sum()
}

/// A fifth of each file is garbage: too little to be copied while there is something else to do.
#[test]
fn a_store_at_rest_takes_little_more_than_its_values() {
    let (disk, world) = memory();
    let idle_bytes = 256 << 10;
    let node = world.open_with(options_with(GcOptions { idle_bytes, ..GcOptions::default() })).unwrap();
    (0..KEYS).for_each(|number| put(&node, number, 0));
    (0..KEYS).filter(|number| number % 5 == 0).for_each(|number| put(&node, number, 1));
    let pass = |seconds: u64| {
        for _ in 0..seconds {
            world.executor.as_ref().unwrap().advance(Duration::from_secs(1));
        }
    };
    node.store.flush().unwrap();
    node.store.compact_range(&ScanRange::default()).unwrap();
    pass(5);
    let live = live_bytes(&node.store);
    let may = (live as f64 * 1.175).max((live + idle_bytes) as f64) as u64;
    let busy = directory_bytes(&disk);
    assert!(busy > may, "{busy} bytes for {live} live ones");
    pass(60);
    assert_eq!(node.store.gc_audit().unwrap(), []);
    let at_rest = directory_bytes(&disk);
    assert!(at_rest <= may, "{at_rest} bytes for {live} live ones");
    assert_eq!(live_bytes(&node.store), live);
    let copied = node.store.collected().read_bytes;
    pass(600);
    assert_eq!(node.store.collected().read_bytes, copied, "and then it is left alone");
    // Where something is written again, files of dead segments wait again.
    (0..2 * KEYS).for_each(|number| put(&node, number % KEYS, 2));
    node.store.flush().unwrap();
    node.store.compact_range(&ScanRange::default()).unwrap();
    pass(5);
    assert!(node.store.stats().unwrap().recycled_bytes > 0);
    node.store.close().unwrap();
    whole(&world.vfs);
}
