//! Why a file is collected, or is not: one test for each reason. It is true when what is said holds as long as it is said,
//! whatever GC is asked to do, and ends with its reason.
//!
//! Two more are beside what they are about: a file that awaits a compaction (`space.rs`), and a damaged one (`worker.rs`).

use std::sync::Arc;
use std::time::Duration;

use kv_lsm::gc::{GcOptions, Obstacle, Priority, Standing, Verdict, files};
use kv_lsm::{GcReport, Holder, Options, ScanRange, StoreError};
use kv_vfs::{FaultVfs, MemVfs, OpKind};
use parking_lot::Mutex;

use crate::node::*;
use crate::support::*;

const KEYS: u64 = 400;
const BYTES: usize = 2_000;

/// Of so many values that framing is little of a file.
fn options_here() -> Options {
    Options { segment_bytes: 128 << 10..=128 << 10, group_bytes_max: 64 << 10, ..options() }
}

fn put(node: &Node, numbers: impl Iterator<Item = u64>, round: u64) {
    let change = |number| (key(number), Some(value(2 * (round * KEYS + number), BYTES)));
    let changes: Vec<Change> = numbers.map(change).collect();
    for batch in changes.chunks(25) {
        node.write(1, batch).unwrap();
    }
}

/// Has all garbage show, in files that can be collected.
fn show(node: &Node) {
    settle(node).unwrap();
    node.store.compact_range(&ScanRange::default()).unwrap();
    settle(node).unwrap();
}

/// All keys, and some of them again.
fn overwritten(world: &World, again: impl Fn(&u64) -> bool) -> Node {
    overwritten_with(world, options_here(), again)
}

fn overwritten_with(world: &World, options: Options, again: impl Fn(&u64) -> bool) -> Node {
    let node = world.open_with(options).unwrap();
    put(&node, 0..KEYS, 0);
    put(&node, (0..KEYS).filter(again), 1);
    show(&node);
    node
}

fn is_even(number: &u64) -> bool {
    number.is_multiple_of(2)
}

/// Time goes by, in steps in which workers look about.
fn pass(world: &World, seconds: u64) {
    for _ in 0..seconds {
        world.executor.as_ref().unwrap().advance(Duration::from_secs(1));
    }
}

fn report(node: &Node) -> GcReport {
    node.store.gc_report(Priority::Normal).unwrap()
}

fn said(node: &Node, file: u64) -> Verdict {
    let verdicts = report(node).decision.verdicts;
    verdicts.into_iter().find(|(number, _)| *number == file).unwrap().1
}

fn remains(node: &Node, file: u64) -> bool {
    files(&node.store.state()).iter().any(|found| found.file == file)
}

/// The first file: half of it is garbage where every second key was written again.
fn first(node: &Node) -> u64 {
    files(&node.store.state())[0].file
}

fn goes(node: &Node, file: u64) {
    assert!(!run(&node.store).unwrap().is_empty());
    assert!(!remains(node, file), "{:?}", said(node, file));
}

fn stays(node: &Node, file: u64) {
    run(&node.store).unwrap();
    assert!(remains(node, file));
}

#[test]
fn active() {
    let (_disk, world) = memory();
    let node = overwritten(&world, is_even);
    let file = files(&node.store.state()).last().unwrap().file;
    assert_eq!(said(&node, file), Verdict::Needed(Standing::Active));
    assert!(said(&node, file).to_string().contains("active"));
    stays(&node, file);
    (2..5).for_each(|round| put(&node, 0..KEYS, round));
    show(&node);
    run(&node.store).unwrap();
    assert!(!remains(&node, file), "the log is written elsewhere");
}

#[test]
fn above_the_floor() {
    let (_disk, world) = memory();
    let node = world.open_with(options_here()).unwrap();
    (0..2).for_each(|round| put(&node, 0..KEYS, round));
    node.store.flush().unwrap();
    node.store.compact_range(&ScanRange::default()).unwrap();
    let file = first(&node);
    let Verdict::Needed(Standing::AboveFloor { last_index }) = said(&node, file) else {
        panic!("{}", said(&node, file))
    };
    assert!(said(&node, file).to_string().contains(&format!("up to entry {last_index} ")));
    stays(&node, file);
    // Up to the entry before, and up to that one.
    node.store.purge(at(1, last_index - 1)).unwrap();
    assert_eq!(said(&node, file), Verdict::Needed(Standing::AboveFloor { last_index }));
    stays(&node, file);
    node.store.purge(at(1, last_index)).unwrap();
    run(&node.store).unwrap();
    assert!(!remains(&node, file));
}

#[test]
fn needed_by_recovery() {
    let (_disk, world) = memory();
    for _ in 0..3 {
        world.open_with(options_here()).unwrap().store.close().unwrap();
    }
    let node = world.open_with(options_here()).unwrap();
    let file = first(&node);
    assert_eq!(said(&node, file), Verdict::Needed(Standing::Replayed), "nothing was ever in a table");
    assert!(said(&node, file).to_string().contains("recovery"));
    stays(&node, file);
    put(&node, 0..25, 0);
    node.store.flush().unwrap();
    run(&node.store).unwrap();
    assert!(!remains(&node, file));
}

#[test]
fn too_young() {
    let (_disk, world) = memory();
    let node = overwritten(&world, is_even);
    let file = first(&node);
    pass(&world, 1);
    let Verdict::TooYoung { age, min } = said(&node, file) else { panic!("{}", said(&node, file)) };
    assert_eq!(min, GcOptions::default().age_min);
    assert!(said(&node, file).to_string().contains("too young"));
    pass(&world, (min - age).as_secs() - 1);
    assert!(remains(&node, file) && matches!(said(&node, file), Verdict::TooYoung { .. }));
    pass(&world, 3);
    assert!(!remains(&node, file));
}

#[test]
fn below_ratio() {
    let (_disk, world) = memory();
    let node = overwritten(&world, |number| number.is_multiple_of(10));
    let file = first(&node);
    let Verdict::BelowRatio { ratio, min } = said(&node, file) else { panic!("{}", said(&node, file)) };
    assert!((0.08..0.25).contains(&ratio) && min == GcOptions::default().garbage_ratio_min, "{ratio}");
    pass(&world, 60);
    assert!(remains(&node, file), "by itself it leaves it alone");
    goes(&node, file);
}

#[test]
fn nothing_gained() {
    let (_disk, world) = memory();
    let node = overwritten(&world, is_even);
    goes(&node, first(&node));
    let full =
        files(&node.store.state()).into_iter().find(|found| found.value_bytes == Some(found.live_bytes));
    let file = full.unwrap().file;
    // What a longer file says by itself, this one says when any garbage has to go.
    let verdicts = node.store.gc_decision(Priority::Emergency).unwrap().verdicts;
    assert!(verdicts.contains(&(file, Verdict::NothingGained)), "{verdicts:?}");
    pass(&world, 60);
    stays(&node, file);
    put(&node, (0..KEYS).filter(|number| !is_even(number)), 2);
    show(&node);
    run(&node.store).unwrap();
    assert!(!remains(&node, file), "it is garbage now");
}

#[test]
fn being_collected() {
    let (_disk, world) = memory();
    let node = overwritten(&world, is_even);
    let file = first(&node);
    let collection = node.store.begin_collection(&[file]).unwrap();
    assert_eq!(said(&node, file), Verdict::Obstacle(Obstacle::Claimed));
    stays(&node, file);
    assert!(matches!(node.store.collect(&[file]), Err(StoreError::Cancelled(_))));
    drop(collection);
    let more = overwritten_more(&node);
    goes(&node, more);
    assert!(!remains(&node, file));
}

/// Makes more garbage; gives a file with some.
fn overwritten_more(node: &Node) -> u64 {
    put(node, (0..KEYS).filter(|number| number % 4 == 1), 7);
    show(node);
    let some = files(&node.store.state()).into_iter().find(|found| {
        found.standing == Standing::Complete
            && 4 * found.live_bytes < 3 * found.bytes
            && found.live_values > 0
    });
    some.unwrap().file
}

#[test]
fn no_room() {
    let (disk, world) = memory();
    let node = overwritten(&world, is_even);
    let file = first(&node);
    let reserve = GcOptions::default().reserve_bytes;
    disk.set_space(reserve + (16 << 10));
    let Verdict::NoRoom { needed, available } = said(&node, file) else { panic!("{}", said(&node, file)) };
    assert!(needed > available && available == reserve + (16 << 10), "{needed} {available}");
    assert!(said(&node, file).to_string().contains("no room"));
    stays(&node, file);
    disk.set_space(needed - 1);
    stays(&node, file);
    disk.set_space(needed);
    goes(&node, file);
}

/// A new file is as long as a segment, so that not all go at once.
#[test]
fn waiting_for_others() {
    let (_disk, world) = memory();
    // Where nobody watches, nothing is young.
    let gc = GcOptions { automatic: false, ..GcOptions::default() };
    let node = overwritten_with(&world, Options { gc, ..options_here() }, is_even);
    let decision = report(&node).decision;
    let chosen = decision.plan.unwrap().files;
    let waiting: Vec<u64> = decision
        .verdicts
        .iter()
        .filter(|(_, verdict)| *verdict == Verdict::Waiting)
        .map(|(file, _)| *file)
        .collect();
    assert!(!waiting.is_empty() && chosen.iter().all(|file| said(&node, *file) == Verdict::Chosen));
    collect(&node.store, &chosen).unwrap();
    assert!(chosen.iter().all(|file| !remains(&node, *file)));
    assert!(waiting.iter().all(|file| remains(&node, *file)));
    run(&node.store).unwrap();
    assert!(waiting.iter().all(|file| !remains(&node, *file)));
}

#[test]
fn paused() {
    let (_disk, world) = memory();
    let node = overwritten(&world, is_even);
    let file = first(&node);
    node.store.gc_pause();
    pass(&world, 60);
    assert!(node.store.gc_is_paused());
    assert_eq!(said(&node, file), Verdict::Chosen);
    assert!(remains(&node, file));
    node.store.gc_resume();
    pass(&world, 15);
    assert!(!remains(&node, file));
}

#[test]
fn moved() {
    let (_disk, world) = memory();
    let node = overwritten(&world, is_even);
    goes(&node, first(&node));
    let state = node.store.state();
    let moved = state.segments.values().find(|segment| segment.remapped).unwrap();
    let candidates = report(&node).candidates;
    let found = candidates.iter().find(|found| found.usage.segments.contains(&moved.segment)).unwrap();
    assert_eq!(found.usage.file, moved.file);
    assert_ne!(found.usage.owner, moved.segment, "the file was made for another one");
    assert!(
        candidates.iter().all(|found| found.usage.owner != moved.segment),
        "and it has no file of its own"
    );
}

/// What is given up and still read is kept, and it is said by whom; by each who can be.
#[test]
fn pinned() {
    let (disk, world) = memory();
    let node = overwritten(&world, is_even);
    assert_eq!(report(&node).pins, []);
    let scan = node.store.scan(ScanRange::default()).unwrap();
    kept(&disk, &node, scan, Holder::Iterator);
    overwritten_more(&node);
    kept(&disk, &node, node.store.export(), Holder::Export);
    let other = overwritten_more(&node);
    kept(&disk, &node, node.store.begin_collection(&[other]).unwrap(), Holder::Collection);
    assert_eq!(report(&node).pins, []);
}

/// Files that are given up stay while this is there.
fn kept<R>(disk: &MemVfs, node: &Node, reader: R, holder: Holder) {
    assert_eq!(report(node).pins, [(holder, 1)]);
    put(node, 0..KEYS, 3);
    show(node);
    let before = files(&node.store.state());
    run(&node.store).unwrap();
    let gone: Vec<_> = before.iter().filter(|found| !remains(node, found.file)).collect();
    assert!(!gone.is_empty());
    let held = report(node).held;
    for file in gone {
        assert!(is_there(disk, file.file));
        let held = held.iter().find(|held| held.file == file.file).unwrap();
        assert_eq!((&held.by, &held.segments), (&vec![(holder, 1)], &file.segments));
        assert!(held.bytes.abs_diff(file.file_bytes) <= file.file_bytes / 50, "{held:?} {file:?}");
    }
    drop(reader);
    assert_eq!(report(node).held, []);
    assert_eq!(orphans(disk, &node.store), [""; 0]);
}

/// A copy that is being made is met in the middle of it.
#[test]
fn pinned_by_a_checkpoint() {
    let disk = MemVfs::new();
    let vfs = FaultVfs::new(Arc::new(disk.clone()));
    let world = World::stepped(Arc::new(vfs.clone()));
    let node = overwritten(&world, is_even);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (store, during) = (node.store.clone(), seen.clone());
    vfs.observe(move |op, _| {
        if op == OpKind::Link {
            during.lock().push(store.gc_report(Priority::Normal).unwrap().pins);
        }
    });
    node.store.checkpoint(std::path::Path::new("/copy")).unwrap();
    vfs.observe(|_, _| {});
    let seen = seen.lock();
    assert!(!seen.is_empty() && seen.iter().all(|pins| *pins == [(Holder::Checkpoint, 1)]), "{seen:?}");
    assert_eq!(report(&node).pins, []);
}

/// A snapshot keeps no file: what it sees is live, and is counted as that.
#[test]
fn seen_by_a_snapshot() {
    let (_disk, world) = memory();
    let node = world.open_with(options_here()).unwrap();
    put(&node, 0..KEYS, 0);
    let snapshot = node.store.snapshot();
    put(&node, 0..KEYS, 1);
    show(&node);
    let file = first(&node);
    let live = |node: &Node| {
        files(&node.store.state())
            .iter()
            .filter(|found| found.file == file)
            .map(|found| found.live_values)
            .sum::<u64>()
    };
    assert!(report(&node).snapshots == 1 && live(&node) > 0);
    assert!(
        matches!(said(&node, file), Verdict::BelowRatio { .. } | Verdict::NothingGained),
        "{}",
        said(&node, file)
    );
    pass(&world, 60);
    assert!(remains(&node, file));
    drop(snapshot);
    assert_eq!(report(&node).snapshots, 0);
    put(&node, (0..KEYS).filter(is_even), 2);
    show(&node);
    assert!(!remains(&node, file), "all of it is dead, and goes with the purge");
}
