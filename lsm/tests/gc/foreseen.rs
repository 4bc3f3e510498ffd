//! What a collection is foreseen to cost and bring is what it does, with segments of the usual size and values of all
//! lengths; held against what the disk says, not only against what the collection says of itself.

use std::collections::BTreeMap;

use kv_lsm::Options;
use kv_lsm::ScanRange;
use kv_lsm::gc::GcOptions;
use kv_manifest::names::{self, FileName};
use kv_vfs::{MemVfs, Vfs};

use crate::node::*;
use crate::support::*;

/// Of what is on the disk when half of it is garbage.
const BYTES: u64 = 48 << 20;

/// By hand, with segments and groups as they are by default.
fn by_hand() -> Options {
    let gc = GcOptions { automatic: false, ..GcOptions::default() };
    let memtable_bytes_max = 4 << 20;
    Options { gc, memtable_bytes_max, ..Options::default() }
}

/// Lengths of files of values, by number.
fn lengths(disk: &MemVfs) -> BTreeMap<u64, u64> {
    let number = |name: &str| match names::parse(name) {
        Some(FileName::Segment(number)) => Some(number),
        _ => None,
    };
    let entries = disk.list(dir()).unwrap();
    entries.iter().filter_map(|entry| Some((number(&entry.name)?, entry.len))).collect()
}

/// A store of values with these lengths in turn, of which each third is overwritten once, and each ninth deleted.
fn written(world: &World, lengths: &[usize]) -> Node {
    let node = world.open_with(by_hand()).unwrap();
    let turn: usize = lengths.iter().sum();
    let keys = BYTES / 2 / turn as u64 * lengths.len() as u64;
    let length = |number: u64| lengths[(number % lengths.len() as u64) as usize];
    let put =
        |number: u64, round: u64| (key(number), Some(value(2 * (round * keys + number), length(number))));
    let in_batches = |changes: Vec<Change>| {
        for batch in changes.chunks(64) {
            node.write(1, batch).unwrap();
        }
    };
    in_batches((0..keys).map(|number| put(number, 0)).collect());
    in_batches((0..keys).filter(|number| number % 3 == 0).map(|number| put(number, 1)).collect());
    in_batches((0..keys).filter(|number| number % 9 == 1).map(|number| (key(number), None)).collect());
    settle(&node).unwrap();
    node.store.compact_range(&ScanRange::default()).unwrap();
    // Into segments that can be collected: what was written last is in the open one.
    in_batches((0..keys).filter(|number| number % 3 == 0).map(|number| put(number, 2)).collect());
    settle(&node).unwrap();
    node.store.compact_range(&ScanRange::default()).unwrap();
    node
}

/// Within two in a hundred.
#[track_caller]
fn agree(what: &str, foreseen: u64, done: u64) {
    assert!(foreseen.abs_diff(done) * 50 <= done, "{what}: {foreseen} foreseen, {done} done");
}

fn foreseen_is_done(sizes: &[usize]) {
    let (disk, world) = memory();
    let node = written(&world, sizes);
    let before = lengths(&disk);
    let runs = run(&node.store).unwrap();
    let after = lengths(&disk);
    let (mut foreseen, mut done) = ((0, 0, 0), (0, 0, 0));
    for run in &runs {
        let (plan, ran) = (&run.plan, &run.done);
        assert_eq!((plan.read_bytes, plan.values), (ran.read_bytes, ran.values));
        if ran.written_bytes > 0 {
            agree("written", plan.written_bytes, ran.written_bytes);
        }
        agree("reclaimed", plan.reclaimed_bytes() as u64, ran.reclaimed_bytes() as u64);
        foreseen = (
            foreseen.0 + plan.read_bytes,
            foreseen.1 + plan.written_bytes,
            foreseen.2 + plan.reclaimed_bytes(),
        );
        done = (done.0 + ran.read_bytes, done.1 + ran.written_bytes, done.2 + ran.reclaimed_bytes());
    }
    assert!(done.0 > BYTES / 8 && done.2 > BYTES as i64 / 8, "{done:?}");
    // What the disk says.
    let new = after.iter().filter(|(file, _)| !before.contains_key(*file)).map(|(_, bytes)| bytes);
    let gone = before.iter().filter(|(file, _)| !after.contains_key(*file)).map(|(_, bytes)| bytes);
    let (new, gone) = (new.sum::<u64>(), gone.sum::<u64>());
    assert_eq!(new, done.1, "nothing was copied twice");
    assert_eq!(gone as i64 - new as i64, done.2);
    agree("reclaimed on the disk", foreseen.2 as u64, gone - new);
    assert_eq!(run(&node.store).unwrap(), [], "nothing is gained any more");
    node.store.close().unwrap();
    drop(node);
    whole(&world.vfs);
}

#[test]
fn of_a_kilobyte() {
    foreseen_is_done(&[1024]);
}

#[test]
fn of_four_kilobytes() {
    foreseen_is_done(&[4096]);
}

#[test]
fn of_a_hundred_kilobytes() {
    foreseen_is_done(&[100 << 10]);
}

/// More than one chunk each.
#[test]
fn of_a_megabyte() {
    foreseen_is_done(&[1 << 20]);
}

#[test]
fn of_all_lengths() {
    foreseen_is_done(&[1024, 40, 5_000, 1500, 70_000, 300, 260 << 10]);
}
