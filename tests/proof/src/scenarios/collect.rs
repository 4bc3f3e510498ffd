//! What can go wrong when values are garbage collected.

use std::collections::BTreeSet;

use bytes::Bytes;
use kv_lsm::gc::{Priority, Standing, Verdict, files};
use kv_lsm::{Collection, IterOptions, ScanRange, StoreError};
use kv_manifest::names::{self, FileName};
use kv_vfs::Vfs;
use kv_vlog::{Op, OpValue, Payload};

use super::run::{A_SEGMENT, Run, Steps, at_every_loss, put};
use crate::node::{Contents, stored};
use crate::world::dir;

/// Two segments that can be collected: of the four values in them, two are live. The log goes on behind them.
fn with_garbage() -> Run {
    let run = Run::new();
    run.write(1, [put("a", 9_000), put("b", 9_001), put("c", 9_002), put("d", A_SEGMENT)]);
    run.write(1, [put("c", 300), put("d", 301), put("roll", A_SEGMENT)]);
    run.commit(7);
    complete(&run);
    run
}

/// Everything that is applied in tables, what was overwritten gone from them, and given up by the log.
fn complete(run: &Run) {
    run.store.compact_range(&ScanRange::default()).unwrap();
    run.store.purge(run.store.flushed().unwrap()).unwrap();
}

/// Numbers of the files that can be collected.
fn ready(run: &Run) -> Vec<u64> {
    let files = files(&run.store.state()).into_iter();
    let ready = files.filter(|file| file.standing == Standing::Complete && file.live_bytes > 0);
    ready.map(|file| file.file).collect()
}

/// Begins to collect all that can be.
fn begin(run: &Run) -> Collection {
    let ready = ready(run);
    assert!(!ready.is_empty(), "nothing can be collected");
    run.store.begin_collection(&ready).unwrap()
}

fn copy(collection: &mut Collection) {
    while collection.step(1 << 20).unwrap() {}
}

fn delete(key: &'static str) -> Payload {
    Payload::Ops(vec![Op::Delete { key: key.into() }])
}

/// Ends a collection; that it was given up is as good.
fn finish(collection: Collection) {
    match collection.finish() {
        Ok(_) | Err(StoreError::Cancelled(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// What is there, and after the loss of power, too.
fn holds(run: &Run, expected: &Contents) {
    assert!(run.contents() == *expected, "{:?}", run.contents().keys());
}

/// Scenario 1: Value GC judges a value live; its key is deleted, and a compaction drops tombstone and value; then
/// value GC writes the value back (Badger #2286).
pub fn a_deleted_key_is_written_back_by_a_collection() {
    let run = with_garbage();
    let mut collection = begin(&run);
    copy(&mut collection);
    run.write(1, [delete("a")]);
    run.commit(8);
    run.store.compact_range(&ScanRange::default()).unwrap();
    let expected = run.contents();
    assert!(!expected.contains_key(&b"a"[..]) && expected.contains_key(&b"b"[..]));
    let act = |run: &Run, steps: &Steps| {
        finish(collection);
        holds(run, &expected);
        run.store.flush().unwrap();
        steps.done();
    };
    at_every_loss(run, act, |left, _| holds(&Run::reopen(left), &expected));
}

/// Scenario 2: Value GC removes a file that an iterator or a snapshot still reads.
pub fn a_collected_file_is_removed_under_its_readers() {
    let run = with_garbage();
    let expected = run.contents();
    let mut iter = run.store.iter(IterOptions::default());
    assert!(iter.seek_first().unwrap());
    // Between finding out where values are and reading them.
    let found: Vec<_> = run.store.scan(ScanRange::default()).unwrap().map(Result::unwrap).collect();
    let reader = run.store.export();
    let snapshot = run.store.snapshot();
    run.write(1, [delete("a")]);
    run.commit(8);
    complete(&run);
    let collected = ready(&run);
    let mut collection = begin(&run);
    copy(&mut collection);
    assert_eq!(collection.finish().unwrap().values, 3, "what the snapshot sees is moved, too");
    for (key, (revision, value, _)) in &expected {
        let found = snapshot.get(key, None).unwrap().unwrap();
        assert_eq!((found.revision, &found.value), (*revision, value), "{key:?} in the snapshot");
    }
    drop(snapshot);
    run.write(1, [put("more", 10)]);
    run.commit(9);
    complete(&run);
    let mut collection = begin(&run);
    copy(&mut collection);
    assert_eq!(collection.finish().unwrap().values, 2, "the dead one is left out");
    let is_there = |file: &u64| run.disk.exists(&dir().join(names::segment_name(*file))).unwrap();
    assert!(collected.iter().all(is_there), "somebody reads it");
    for (key, (_, value, _)) in &expected {
        assert_eq!(iter.key(), Some(&key[..]));
        assert_eq!(iter.value().unwrap().map(|found| found.value).as_ref(), Some(value));
        iter.next().unwrap();
    }
    for at in found {
        let value = run.store.value(&at.key, at.revision, &at.slot, None).unwrap().value;
        assert_eq!(Some(&value), expected.get(&at.key).map(|(_, value, _)| value));
    }
    drop((iter, reader));
    assert!(!collected.iter().any(is_there), "nobody reads it any more");
}

/// Scenario 3: Value GC removes a file before what leads to its replacement is durable.
pub fn a_collected_file_is_removed_before_its_replacement_is_durable() {
    let run = with_garbage();
    let expected = run.contents();
    let act = |run: &Run, steps: &Steps| {
        let mut collection = begin(run);
        copy(&mut collection);
        collection.finish().unwrap();
        steps.done();
    };
    at_every_loss(run, act, |left, _| {
        let run = Run::reopen(left);
        holds(&run, &expected);
        run.store.verify().unwrap();
    });
}

/// Scenario 4: A table is durable and points to values that are not.
pub fn a_table_points_to_values_that_are_not_durable() {
    let run = Run::new();
    run.write(1, [put("a", 2_000)]);
    run.commit(1);
    let act = |run: &Run, steps: &Steps| {
        // Each is a group of its own: the flusher gets its turn between them.
        for number in 0..3 {
            run.append(1, put(&format!("key{number}"), 5_000), steps.callback()).unwrap();
        }
        // Committed by the others, and applied here, before this disk has any of it.
        run.store.log().set_committed(4);
        for index in 1..4 {
            for entry in run.store.log().entries(index..index + 1, 0, false).unwrap() {
                run.store.apply(&entry).unwrap();
            }
        }
        run.store.flush().unwrap();
    };
    at_every_loss(run, act, |left, durable| {
        let run = Run::reopen(left);
        let found = run.contents();
        assert!(found.contains_key(&b"a"[..]) && run.next() > durable, "{durable} entries were durable");
    });
}

/// Scenario 5: A key is overwritten while its old value is collected, and the old one wins.
pub fn a_collection_races_an_overwrite_and_wins() {
    for flushed in [false, true] {
        let run = with_garbage();
        let mut collection = begin(&run);
        copy(&mut collection);
        run.write(1, [put("a", 5_000), put("b", 20)]);
        run.commit(9);
        if flushed {
            run.store.flush().unwrap();
        }
        let expected = run.contents();
        assert_eq!(expected.get(&b"a"[..]).map(|(_, value, _)| value.len()), Some(5_000));
        let act = |run: &Run, steps: &Steps| {
            finish(collection);
            holds(run, &expected);
            run.store.compact_range(&ScanRange::default()).unwrap();
            holds(run, &expected);
            steps.done();
        };
        at_every_loss(run, act, |left, _| holds(&Run::reopen(left), &expected));
    }
}

/// Scenario 26: Value GC copies a compressed value without saying that it is compressed (lsm-tree #300).
pub fn a_compressed_value_is_moved_without_its_codec() {
    let run = Run::new();
    let put_text = |key: &'static str, length: usize| {
        let value = stored(key.as_bytes(), Bytes::from(vec![b't'; length]), kv_vlog::Expiry::NEVER);
        assert!(value.stored_bytes() < length / 2, "it is compressed");
        Payload::Ops(vec![Op::Put { key: key.into(), value: OpValue::Full(value) }])
    };
    // One in one piece, one in chunks.
    run.write(
        1,
        [
            put_text("a", 50_000),
            put_text("b", 600_000),
            put("c", A_SEGMENT),
            put("c", 10),
            put("roll", A_SEGMENT),
        ],
    );
    run.commit(5);
    complete(&run);
    let expected = run.contents();
    let mut collection = begin(&run);
    copy(&mut collection);
    assert!(collection.finish().unwrap().values >= 2);
    holds(&run, &expected);
    assert_eq!(run.store.get(b"b", Some(300_000..300_005)).unwrap().unwrap().value, "ttttt");
    let disk = run.disk.clone();
    run.store.stop();
    drop(run);
    holds(&Run::reopen(&disk), &expected);
}

/// Scenario 28: What is to free the disk fills it.
pub fn a_collection_fills_the_disk_that_it_is_to_free() {
    let run = with_garbage();
    let expected = run.contents();
    run.disk.set_space(1 << 20);
    // There would be room for the new file, but not for what has to go on meanwhile.
    let runs = run.store.gc_run().unwrap();
    assert!(runs.iter().all(|run| run.done.written_bytes == 0), "{runs:?}");
    let report = run.store.gc_report(Priority::Emergency).unwrap();
    let refused = |verdict: &Verdict| matches!(verdict, Verdict::NoRoom { .. });
    assert!(report.decision.verdicts.iter().any(|(_, verdict)| refused(verdict)), "{report:?}");
    holds(&run, &expected);
    // The node goes on, and the collection as soon as there is room.
    run.write(1, [put("more", 100)]);
    run.commit(run.next());
    assert_eq!(run.life.fatal(), 0);
    run.disk.set_space(1 << 30);
    assert!(run.store.gc_run().unwrap().iter().any(|run| run.done.written_bytes > 0));
}

/// Scenario 29: The disk holds more than is told (RocksDB #10296): here, files that are given up and still read.
pub fn the_disk_holds_more_than_is_told() {
    let run = with_garbage();
    let told = |run: &Run| {
        let segments = run.store.segments().unwrap().into_iter().map(|segment| segment.file);
        let held = run.store.gc_report(Priority::Normal).unwrap().held.into_iter().map(|held| held.file);
        let tables = run.store.tables().into_iter().map(|table| table.id);
        segments.chain(held).chain(tables).collect::<BTreeSet<u64>>()
    };
    let there = |run: &Run| {
        let number = |name: &str| match names::parse(name) {
            Some(FileName::Segment(number) | FileName::Table(number) | FileName::Free(number)) => {
                Some(number)
            }
            _ => None,
        };
        run.disk.list(dir()).unwrap().iter().filter_map(|entry| number(&entry.name)).collect()
    };
    assert_eq!(told(&run), there(&run));
    let reader = run.store.export();
    let mut collection = begin(&run);
    copy(&mut collection);
    collection.finish().unwrap();
    assert!(!run.store.gc_report(Priority::Normal).unwrap().held.is_empty(), "nobody holds anything");
    assert_eq!(told(&run), there(&run));
    // What is told of their lengths is what they take, but for what is left of the last block and a footer.
    let stats = run.store.stats().unwrap();
    let tables: u64 = stats.levels.iter().map(|level| level.bytes).sum();
    drop(reader);
    run.life.settle();
    let entries = run.disk.list(dir()).unwrap();
    let counts = |name: &str| matches!(names::parse(name), Some(FileName::Segment(_) | FileName::Table(_)));
    let disk: u64 = entries.iter().filter(|entry| counts(&entry.name)).map(|entry| entry.len).sum();
    let files = there(&run).len() as u64;
    let reported = tables + stats.segment_bytes;
    assert!(disk <= reported + files * (16 << 10), "{disk} bytes on the disk, {reported} told of");
}
