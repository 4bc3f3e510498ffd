//! A model says what every reader sees; merging and compacting must not change it.

mod pick;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_vfs::OpKind;
use kv_vfs::fault::{Fault, Rule, Times};
use kv_vlog::{Expiry, LogTime};
use proptest::prelude::*;

use super::*;
use crate::cursor::Cursor;
use crate::key::{Moment, Seq, Slot, ValuePointer};
use crate::memtable::Memtable;
use crate::merge::MergeCursor;
use crate::table::testing::{TestDir, Versions, collect, few, identity, inline, lookup, pointer, version};
use crate::table::{TableError, TableOptions, TableReader};

/// In these tests it is time `n` when version `n` is written.
fn moment(seq: Seq) -> Moment {
    Moment { seq, time: seq as LogTime }
}

fn horizon(snapshots: &[Seq], now: LogTime) -> Horizon {
    Horizon::new(snapshots.iter().copied().map(moment).collect(), now, None)
}

fn judge(versions: &[(&str, Seq, Slot)], horizon: Horizon, bottommost: bool) -> Vec<Verdict> {
    let mut retain = Retain::new(horizon, |_: &[u8]| bottommost);
    versions.iter().map(|(key, seq, slot)| retain.judge(key.as_bytes(), *seq, slot)).collect()
}

fn judge_all(versions: &[(&str, Seq, Slot)], snapshots: &[Seq], bottommost: bool) -> Vec<Verdict> {
    judge(versions, horizon(snapshots, 10), bottommost)
}

fn expiring(time: LogTime) -> Slot {
    Slot::Inline(vec![7].into(), Expiry::at(time))
}

#[test]
fn each_snapshot_keeps_the_version_it_sees() {
    use Slot::Tombstone;
    use Verdict::{Duplicate, Keep, Shadowed, Spent};
    let there = || inline(b"x");
    let versions = [
        ("a", 9, there()),
        ("a", 7, pointer(1, 2, 3)),
        ("a", 5, there()),
        ("a", 3, there()),
        ("b", 3, there()),
    ];
    assert_eq!(judge_all(&versions, &[], true), [Keep, Shadowed, Shadowed, Shadowed, Keep]);
    assert_eq!(judge_all(&versions, &[5], true), [Keep, Shadowed, Keep, Shadowed, Keep]);
    assert_eq!(judge_all(&versions, &[6, 5], true), [Keep, Shadowed, Keep, Shadowed, Keep]);
    assert_eq!(judge_all(&versions, &[8, 6, 4], true), [Keep; 5]);
    assert_eq!(judge_all(&versions, &[9], true), [Keep, Shadowed, Shadowed, Shadowed, Keep]);

    let deleted = [("", 9, Tombstone), ("a", 9, Tombstone), ("a", 9, Tombstone), ("a", 7, there())];
    assert_eq!(judge_all(&deleted, &[], true), [Spent, Spent, Duplicate, Shadowed]);
    assert_eq!(judge_all(&deleted, &[], false), [Keep, Keep, Duplicate, Shadowed]);
    assert_eq!(judge_all(&deleted, &[8], true), [Keep, Keep, Duplicate, Keep]);
    assert_eq!(judge_all(&deleted, &[9], true), [Spent, Spent, Duplicate, Shadowed]);
    let twice = [("a", 9, Tombstone), ("a", 7, Tombstone), ("a", 5, there())];
    assert_eq!(judge_all(&twice, &[8], true), [Keep, Spent, Shadowed]);
}

#[test]
fn what_has_expired_for_all_who_see_it_is_a_tombstone() {
    use Verdict::{Expired, Keep, Shadowed, Spent};
    let versions =
        [("a", 5, expiring(8)), ("a", 3, inline(b"x")), ("b", 4, expiring(11)), ("c", 2, expiring(5))];
    assert_eq!(judge_all(&versions, &[], true), [Spent, Shadowed, Keep, Spent]);
    assert_eq!(judge_all(&versions, &[], false), [Expired, Shadowed, Keep, Expired]);
    // Seen by one for whom it has not expired; then only by one for whom it has.
    assert_eq!(judge_all(&versions, &[6], true), [Keep, Shadowed, Keep, Spent]);
    assert_eq!(judge_all(&versions, &[4], true), [Expired, Keep, Keep, Keep]);
    // Nothing has expired before the time that a recovery comes to.
    assert_eq!(judge(&versions, horizon(&[9], 4), true), [Keep, Shadowed, Keep, Keep]);
}

#[test]
fn of_earlier_states_that_can_be_read_all_is_kept() {
    use Verdict::{Expired, Keep, Shadowed, Spent};
    let versions = [
        ("a", 9, Slot::Tombstone),
        ("a", 7, expiring(8)),
        ("a", 5, inline(b"x")),
        ("a", 3, inline(b"x")),
        ("b", 4, expiring(5)),
        ("c", 6, Slot::Tombstone),
    ];
    let since = |seq| Horizon::new(Vec::new(), 10, Some(moment(seq)));
    assert_eq!(judge(&versions, since(6), true), [Keep, Keep, Keep, Shadowed, Spent, Spent]);
    assert_eq!(judge(&versions, since(8), false), [Keep, Expired, Shadowed, Shadowed, Expired, Keep]);
    assert_eq!(judge(&versions, since(2), true), [Keep; 6]);
}

#[test]
#[should_panic(expected = "out of order")]
fn versions_out_of_order_are_a_bug() {
    judge_all(&[("a", 1, inline(b"x")), ("a", 2, inline(b"x"))], &[], true);
}

/// One write: which of a few keys, whether it deletes, and how long what it writes stays; 0: for ever.
type Write = (u8, bool, u8);

/// A history, cut into parts from oldest to newest; every part may be written again by a replay.
fn history(parts: &[Vec<Write>]) -> Vec<Versions> {
    let mut seq = 0u64;
    let mut part = |writes: &Vec<Write>| {
        let mut versions = Versions::new();
        for (key, deletes, stays) in writes {
            seq += 1;
            let slot = match (deletes, seq % 2) {
                (true, _) => Slot::Tombstone,
                (false, 0) => inline(&seq.to_le_bytes()),
                (false, _) => pointer(seq / 10, seq as u32 * 64, 64),
            };
            let slot = match (slot, stays) {
                (slot, 0) => slot,
                (Slot::Inline(value, _), stays) => Slot::Inline(value, after(seq, *stays)),
                (Slot::Pointer(at, _), stays) => Slot::Pointer(at, after(seq, *stays)),
                (Slot::Tombstone, _) => Slot::Tombstone,
            };
            versions.insert(version(&[b'a' + key % 8], seq), slot);
        }
        versions
    };
    parts.iter().map(&mut part).collect()
}

fn after(seq: Seq, stays: u8) -> Expiry {
    Expiry::at(seq as LogTime + LogTime::from(stays))
}

fn all_of(parts: &[Versions]) -> Versions {
    parts.iter().flatten().map(|(key, slot)| (key.clone(), slot.clone())).collect()
}

fn last_of(parts: &[Versions]) -> Seq {
    parts.iter().flatten().map(|(at, _)| at.seq).max().unwrap_or_default()
}

/// What a reader finds, newest part first; what is deleted or has expired counts as nothing.
fn read(parts: &[&Versions], key: &[u8], reader: Moment) -> Option<(Seq, Slot)> {
    let found = parts.iter().find_map(|part| lookup(part, key, reader.seq));
    found.filter(|(_, slot)| reader.sees(slot))
}

fn memtable(versions: &Versions) -> Arc<Memtable> {
    let memtable = Arc::new(Memtable::default());
    for (at, slot) in versions {
        memtable.insert(&at.key, at.seq, slot.clone());
    }
    memtable
}

fn any_stay() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0), 1u8..60]
}

/// Open snapshots, the oldest earlier state that can be read, and how much later it is than the newest version says.
fn any_readers() -> impl Strategy<Value = (Vec<u64>, Option<u64>, u8)> {
    (prop::collection::vec(0u64..120, 0..4), prop::option::of(0u64..120), any::<u8>())
}

/// The horizon of these, and the moments that it stands for, where the newest version is `last`.
fn readers(last: Seq, (snapshots, history, later): &(Vec<u64>, Option<u64>, u8)) -> (Horizon, Vec<Moment>) {
    let now = last as LogTime + LogTime::from(*later);
    let mut moments: Vec<Moment> =
        snapshots.iter().chain(history).map(|seq| moment(*seq)).filter(|moment| moment.time <= now).collect();
    let horizon = Horizon::new(moments.clone(), now, history.map(moment).filter(|oldest| oldest.time <= now));
    moments.extend(history.iter().flat_map(|oldest| *oldest..=last).map(moment));
    moments.push(Moment { seq: Seq::MAX, time: now });
    (horizon, moments)
}

fn any_parts() -> impl Strategy<Value = Vec<Vec<Write>>> {
    prop::collection::vec(
        prop::collection::vec((any::<u8>(), prop::bool::weighted(0.3), any_stay()), 1..25),
        1..6,
    )
}

/// Every reader sees in `after` (over `below`) what the history says.
fn check(history: &Versions, after: &Versions, below: &Versions, readers: &[Moment]) {
    for reader in readers {
        for key in b'a'..b'i' {
            let expected = lookup(history, &[key], reader.seq).filter(|(_, slot)| reader.sees(slot));
            assert_eq!(read(&[after, below], &[key], *reader), expected, "key {key} at {reader:?}");
        }
    }
}

/// Nothing is kept that no reader needs.
fn check_small(after: &Versions, below: &Versions, readers: &[Moment]) {
    let seen: BTreeSet<_> = readers
        .iter()
        .flat_map(|reader| (b'a'..b'i').filter_map(|key| Some((key, lookup(after, &[key], reader.seq)?.0))))
        .collect();
    for (at, slot) in after {
        assert!(seen.contains(&(at.key[0], at.seq)), "{at:?} is seen by nobody");
        if *slot == Slot::Tombstone {
            let hides =
                |versions: &Versions| versions.keys().any(|other| other.key == at.key && other.seq < at.seq);
            let late = readers.iter().any(|reader| reader.seq < at.seq);
            assert!(hides(after) || hides(below) || late, "{at:?} hides nothing");
        } else {
            let is_seen =
                |reader: &Moment| read(&[after], &at.key, *reader).is_some_and(|(seq, _)| seq == at.seq);
            assert!(readers.iter().any(is_seen), "{at:?} has expired for all");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..Default::default() })]

    #[test]
    fn merging_memtables_and_tables_changes_nothing_that_anybody_sees(
        parts in any_parts(),
        in_memory in prop::collection::vec(any::<bool>(), 6),
        replayed in prop::collection::vec(prop::bool::weighted(0.2), 6),
        deeper in 0usize..3,
        who in any_readers(),
    ) {
        let dir = TestDir::new();
        let parts = history(&parts);
        let (below, merged) = parts.split_at(deeper.min(parts.len() - 1));
        let mut cursors: Vec<Box<dyn Cursor + Send>> = Vec::new();
        for (n, part) in merged.iter().enumerate().rev() {
            if in_memory[n] || replayed[n] {
                cursors.push(Box::new(memtable(part).cursor()));
            }
            if !in_memory[n] || replayed[n] {
                let options = TableOptions { block_bytes: 64, ..Default::default() };
                cursors.push(Box::new(dir.table(n as u64, &options, part).cursor()));
            }
        }
        let mut cursor = MergeCursor::new(cursors);
        cursor.seek_first().unwrap();
        let below = all_of(below);
        let bottommost = |key: &[u8]| !below.keys().any(|at| at.key == key);
        let (horizon, readers) = readers(last_of(&parts), &who);
        let mut retain = Retain::new(horizon, bottommost);
        let mut after = Versions::new();
        while cursor.valid() {
            if let Some(slot) = retain.keep(cursor.key(), cursor.seq(), &cursor.slot()) {
                let old = after.insert(version(cursor.key(), cursor.seq()), slot.clone());
                prop_assert!(old.is_none());
            }
            cursor.next().unwrap();
        }
        check(&all_of(&parts), &after, &below, &readers);
        check_small(&after, &below, &readers);
    }

    #[test]
    fn a_merge_seeks_as_one_sorted_map(parts in any_parts(), key in b'`'..b'k', seq in 0u64..120) {
        let parts = history(&parts);
        let all = all_of(&parts);
        let cursors = parts.iter().map(|part| Box::new(memtable(part).cursor()) as Box<dyn Cursor + Send>);
        let mut cursor = MergeCursor::new(cursors.collect());
        prop_assert!(!cursor.valid());
        for _ in 0..2 {
            cursor.seek(&[key], seq).unwrap();
            let expected: Vec<_> =
                all.range(version(&[key], seq)..).map(|(k, s)| (k.clone(), s.clone())).collect();
            prop_assert_eq!(collect(&mut cursor).unwrap(), expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..Default::default() })]

    #[test]
    fn a_run_changes_nothing_that_anybody_sees(
        parts in any_parts(),
        who in any_readers(),
        table_bytes in 1u64..2000,
        bottommost: bool,
        cuts in prop::collection::btree_set(b'a'..b'j', 0..4),
        grandparents in prop::collection::btree_map(b'a'..b'j', 1u64..200, 0..6),
    ) {
        let dir = TestDir::new();
        let options = TableOptions { block_bytes: 64, ..Default::default() };
        let grandparents = grandparents.into_iter().map(|(key, bytes)| Grandparent { largest: vec![key], bytes });
        let grandparents = grandparents.collect();
        let parts = history(&parts);
        let numbered = (1..).zip(&parts);
        let inputs = numbered.map(|(id, part)| dir.table(id, &options, part)).collect();
        let (horizon, readers) = readers(last_of(&parts), &who);
        let job = Job { horizon, table_bytes, grandparents, ..job(inputs) };
        let job = Job { older: if bottommost { RangeSet::default() } else { everything() }, ..job };
        let outputs = run_parts(&dir, &job, &cuts);
        let after = read_level(&outputs);
        check(&all_of(&parts), &after, &Versions::new(), &readers);
        if bottommost {
            check_small(&after, &Versions::new(), &readers);
        }
    }
}

/// All keys of these tests.
fn everything() -> RangeSet {
    [KeyRange { smallest: Vec::new(), largest: vec![0xff; 9] }].into_iter().collect()
}

fn run_job(dir: &TestDir, job: &Job, first: u64) -> Result<Vec<Arc<TableReader>>, TableError> {
    let made = start(dir, job, first)?;
    Ok(made.keep().iter().map(|summary| dir.open(summary)).collect())
}

fn start(dir: &TestDir, job: &Job, first: u64) -> Result<Made, TableError> {
    let mut merge = begin(dir, job, first)?;
    while merge.advance(7)? {}
    merge.finish()
}

fn begin(dir: &TestDir, job: &Job, first: u64) -> Result<Merge, TableError> {
    let stay = Box::new(|pointer: &ValuePointer| *pointer);
    Merge::start(&dir.vfs, dir.path(), job.clone(), &small_blocks(), numbers(first), stay)
}

fn small_blocks() -> TableOptions {
    TableOptions { block_bytes: 64, ..Default::default() }
}

fn numbers(first: u64) -> Numbers {
    let next = AtomicU64::new(first);
    Box::new(move || identity(next.fetch_add(1, Ordering::Relaxed)))
}

/// Runs a job in parts that begin with these keys, the last part first.
fn run_parts(dir: &TestDir, job: &Job, cuts: &BTreeSet<u8>) -> Vec<Arc<TableReader>> {
    let bounds: Vec<_> =
        [None].into_iter().chain(cuts.iter().map(|cut| Some(vec![*cut]))).chain([None]).collect();
    let mut outputs = Vec::new();
    for (n, pair) in bounds.windows(2).enumerate().rev() {
        let part = Job { from: pair[0].clone(), to: pair[1].clone(), ..job.clone() };
        let first = 100 + 1000 * n as u64;
        outputs.splice(0..0, run_job(dir, &part, first).unwrap());
    }
    outputs
}

/// The versions of tables that must not share a key.
fn read_level(tables: &[Arc<TableReader>]) -> Versions {
    for pair in tables.windows(2) {
        assert!(pair[0].properties().largest < pair[1].properties().smallest);
    }
    let mut versions = Versions::new();
    for table in tables {
        table.verify().unwrap();
        let mut cursor = table.cursor();
        cursor.seek_first().unwrap();
        versions.extend(collect(&mut cursor).unwrap());
    }
    versions
}

fn job(inputs: Vec<Arc<TableReader>>) -> Job {
    Job {
        inputs,
        from: None,
        to: None,
        horizon: horizon(&(0..1000).collect::<Vec<_>>(), 0),
        older: everything(),
        table_bytes: 150,
        grandparents: Vec::new(),
        grandparent_bytes_max: 100,
        cause: "compact".into(),
    }
}

#[test]
fn outputs_end_at_the_wanted_size_and_never_within_a_key() {
    let dir = TestDir::new();
    let mut versions = few();
    versions.extend((200..260).map(|seq| (version(b"key010", seq), inline(b"many versions of one key"))));
    let input = dir.table(1, &TableOptions::default(), &versions);
    let outputs = run_job(&dir, &job(vec![input]), 10).unwrap();
    assert!(outputs.len() > 3);
    assert_eq!(outputs[0].properties().cause, "compact");
    assert_eq!(read_level(&outputs), versions);
}

#[test]
fn nothing_comes_out_where_nothing_survives() {
    let dir = TestDir::new();
    let versions = Versions::from([(version(b"a", 2), Slot::Tombstone), (version(b"a", 1), inline(b"x"))]);
    let inputs = vec![dir.table(1, &TableOptions::default(), &versions)];
    let job = Job { horizon: Horizon::default(), older: RangeSet::default(), ..job(inputs) };
    assert!(run_job(&dir, &job, 10).unwrap().is_empty());
    assert_eq!(dir.names(), ["00000001.sst"]);
}

#[test]
fn a_merge_that_is_given_up_leaves_nothing() {
    let dir = TestDir::new();
    let versions: Versions = (0..5000u64).map(|n| (version(&n.to_be_bytes(), 1), Slot::Tombstone)).collect();
    let job = job(vec![dir.table(2, &TableOptions::default(), &versions)]);
    let mut merge = begin(&dir, &job, 10).unwrap();
    assert!(merge.advance(1000).unwrap());
    assert!(dir.names().len() > 3, "{:?}", dir.names());
    drop(merge);
    assert_eq!(dir.names(), ["00000002.sst"]);
    let made = start(&dir, &job, 10).unwrap();
    assert!(made.tables().len() > 3 && dir.names().len() == 1 + made.tables().len());
    drop(made);
    assert_eq!(dir.names(), ["00000002.sst"]);
}

#[test]
fn an_output_ends_where_it_would_overlap_too_much_below() {
    let dir = TestDir::new();
    let versions: Versions = (b'a'..=b'z').map(|key| (version(&[key], 1), inline(b"x"))).collect();
    let below = |largest: &[u8]| Grandparent { largest: largest.to_vec(), bytes: 60 };
    let inputs = vec![dir.table(1, &TableOptions::default(), &versions)];
    let grandparents = [&b"0"[..], b"1", b"d", b"f", b"h", b"k", b"zz"].map(below).to_vec();
    let outputs = run_job(&dir, &Job { table_bytes: u64::MAX, grandparents, ..job(inputs) }, 10).unwrap();
    let bounds: Vec<_> = outputs.iter().map(|table| table.properties().smallest[0]).collect();
    assert_eq!(bounds, [b'a', b'g', b'l'], "after each second table below");
    assert_eq!(read_level(&outputs), versions);
}

#[test]
fn a_failed_run_leaves_nothing_and_touches_no_other_file() {
    let dir = TestDir::new();
    let inputs = vec![dir.table(1, &TableOptions::default(), &few())];
    dir.put(13, b"taken");
    assert!(matches!(run_job(&dir, &job(inputs), 10), Err(TableError::Io(_))));
    assert_eq!(dir.names(), ["00000001.sst", "00000013.sst"]);
}

#[test]
fn whichever_operation_fails_nothing_is_left_and_a_second_run_succeeds() {
    let short = Fault::ShortWrite { bytes: 100 };
    for error in [Fault::Eio, Fault::Enospc, short] {
        for op in [OpKind::Create, OpKind::Write, OpKind::Sync, OpKind::Read] {
            for (nth, times) in (1..).flat_map(|nth| [(nth, Times::Once), (nth, Times::Forever)]) {
                let dir = TestDir::new();
                let job = job(vec![dir.table(1, &TableOptions::default(), &few())]);
                let path_contains = if op == OpKind::Read { "00000001" } else { "" }.into();
                dir.faults.fail(Rule { op, path_contains, nth, times, error });
                let outcome = run_job(&dir, &job, 10);
                dir.faults.clear();
                let Err(failed) = outcome else {
                    assert!(nth > 1, "{op:?} never happens");
                    break;
                };
                assert_eq!(matches!(failed, TableError::SyncFailed(_)), op == OpKind::Sync, "{failed}");
                assert_eq!(dir.names(), ["00000001.sst"], "{op:?} {nth}");
                let outputs = run_job(&dir, &job, 10).unwrap();
                assert_eq!(read_level(&outputs), few());
            }
        }
    }
}

#[test]
fn a_merge_that_met_damage_stands_nowhere() {
    let dir = TestDir::new();
    let options = TableOptions { block_bytes: 64, ..Default::default() };
    let table = dir.table(1, &options, &few());
    let mut cursor = MergeCursor::new(vec![Box::new(table.cursor()), Box::new(memtable(&few()).cursor())]);
    cursor.seek_first().unwrap();
    let mut bytes = dir.bytes(1);
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    dir.put(1, &bytes);
    assert!(matches!(collect(&mut cursor), Err(TableError::Corruption { .. })));
    assert!(!cursor.valid());
    assert!(cursor.seek(b"key020", u64::MAX).is_err() || cursor.valid());
}

#[test]
fn damage_in_an_input_stops_the_run() {
    let dir = TestDir::new();
    let options = TableOptions { block_bytes: 64, ..Default::default() };
    let table = dir.table(1, &options, &few());
    let mut bytes = dir.bytes(1);
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    dir.put(1, &bytes);
    let outcome = run_job(&dir, &job(vec![table]), 10);
    assert!(matches!(outcome, Err(TableError::Corruption { .. })));
    assert_eq!(dir.names(), ["00000001.sst"]);
}
