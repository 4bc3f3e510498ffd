//! Segments of values: written, read through pointers, verified.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kv_vfs::{MemVfs, Survival, Vfs};

use crate::files::SegmentFiles;
use crate::read::SegmentFile;
use crate::tests::{Home, append, check_values, length, noise, put};
use crate::*;

const GROUP_BYTES_MAX: u32 = 32 << 10;

fn identity() -> SegmentIdentity {
    SegmentIdentity {
        cluster_id: [7; 16],
        incarnation: 0,
        group_id: 0,
        segment: 9,
        file: 4,
        generation: 0,
        epoch: 3,
    }
}

fn path() -> PathBuf {
    "/00000004.seg".into()
}

fn create(vfs: &MemVfs) -> ValueSegmentWriter {
    ValueSegmentWriter::create(vfs, path(), identity(), 12, GROUP_BYTES_MAX).unwrap()
}

/// Keys, versions and values; raw, compressed and in chunks.
fn values() -> Vec<(Bytes, u64, StoredValue)> {
    let lengths = [1, 1024, 5000, 0, 20_000, 300_000, 40_000, 9_000];
    let value = |(n, length): (u64, &usize)| {
        let key = Bytes::from(format!("key{n}"));
        let raw = if n % 2 == 0 { noise(n, *length) } else { vec![b'x'; *length].into() };
        let stored = StoredValue::new(&key, raw, &Compression::default());
        (key, 1000 - n, stored)
    };
    (0..).zip(&lengths).map(value).collect()
}

fn input(summary: &SegmentSummary) -> SegmentInput {
    let sealed = Some(summary.clone());
    SegmentInput { kind: SegmentKind::Values, identity: identity(), path: path(), sealed }
}

fn written() -> (MemVfs, SegmentSummary, Vec<Pointer>) {
    let vfs = MemVfs::new();
    let mut writer = create(&vfs);
    let add = |(key, seq, value): &(Bytes, u64, StoredValue)| writer.add(key, *seq, value).unwrap();
    let pointers = values().iter().map(add).collect();
    let bytes = writer.bytes();
    let summary = writer.finish().unwrap();
    assert_eq!(summary.end, bytes);
    (vfs, summary, pointers)
}

#[test]
fn pointers_lead_to_values_as_they_were_stored() {
    let (vfs, summary, pointers) = written();
    assert_eq!(summary.values, 8);
    assert_eq!(summary.value_bytes, pointers.iter().map(|p| u64::from(p.length)).sum::<u64>());
    let file = SegmentFile::open(&vfs, path(), identity(), summary.end).unwrap();
    let files = SegmentFiles::default();
    files.insert(9, file.clone(), SegmentKind::Values);
    assert_eq!(files.newest(), 0, "not of the log");
    for ((key, seq, value), pointer) in values().iter().zip(pointers) {
        assert_eq!(file.value(pointer, key, *seq).unwrap(), *value);
        assert_eq!(files.value(pointer, key, *seq).unwrap(), value.decode().unwrap());
        assert!(file.value(pointer, key, seq + 1).is_err());
        assert!(file.value(pointer, b"other", *seq).is_err());
        if let Some(part) = file.value_range(pointer, key, *seq, 10..200_000).unwrap() {
            assert_eq!(part, value.decode().unwrap().slice(10..200_000));
        }
    }
}

#[test]
fn a_walk_meets_every_value_in_bounded_groups() {
    let (vfs, summary, pointers) = written();
    let mut met = Vec::new();
    let walked = walk_segment(&vfs, &input(&summary), &mut |found| {
        let [(_, _, Record::Values(records))] = &found.records[..] else { panic!("{:?}", found.records) };
        assert!(found.header.length <= GROUP_BYTES_MAX + 4096 || records.len() == 1);
        assert_eq!(found.header.ledger_number, 12);
        met.extend(records.iter().map(|r| (r.offset, r.length, r.key.clone(), r.seq, r.value.clone())));
    });
    assert_eq!(walked.unwrap().end, summary.end);
    let expected = values().into_iter().zip(pointers);
    let expected = expected.map(|((key, seq, value), p)| (p.offset, p.length, key, seq, value));
    assert!(met.into_iter().eq(expected));
}

#[test]
fn damage_and_a_wrong_record_of_the_owner_are_noticed() {
    let (vfs, summary, _) = written();
    let whole = vfs.read_file(&path()).unwrap();
    assert_eq!(whole.len() as u64, summary.end);
    let walk = |summary: &SegmentSummary| walk_segment(&vfs, &input(summary), &mut |_| {});
    let header = GroupHeader::decode(&whole[4096..]).unwrap();
    // The first group whole, then places all over the file; not its padding.
    let places = (0..160).chain(4096..4096 + header.used as usize).step_by(7);
    for at in places.filter(|at| !(8 + 4..16).contains(at)) {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        vfs.write_file(&path(), &damaged).unwrap();
        assert!(walk(&summary).is_err(), "{at}");
    }
    for len in (0..whole.len()).step_by(20_000) {
        vfs.write_file(&path(), &whole[..len]).unwrap();
        assert!(walk(&summary).is_err(), "cut at {len}");
    }
    vfs.write_file(&path(), &whole).unwrap();
    walk(&summary).unwrap();
    assert!(walk(&SegmentSummary { values: 7, ..summary.clone() }).is_err());
    assert!(walk(&SegmentSummary { value_bytes: 7, ..summary.clone() }).is_err());
    assert!(walk(&SegmentSummary { end: summary.end + 4096, ..summary }).is_err());
}

#[test]
fn a_finished_segment_is_durable() {
    let (vfs, summary, _) = written();
    vfs.sync_dir(Path::new("/")).unwrap();
    let left = vfs.crash_clone(&Survival::Synced);
    walk_segment(&left, &input(&summary), &mut |_| {}).unwrap();
}

#[test]
fn a_segment_of_values_is_no_part_of_the_log_and_the_other_way_round() {
    let mut home = Home::new(1 << 20);
    let (log, _) = home.open();
    append(&log, vec![put(1, 0, noise(0, 2000))]);
    log.close().unwrap();
    let [segment] = &home.segments()[..] else { panic!() };
    let mistaken = SegmentInput { kind: SegmentKind::Values, ..segment.clone() };
    let error = walk_segment(&kv_vfs::RealVfs, &mistaken, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("a record of the log"), "{error}");

    let (vfs, summary, _) = written();
    let mistaken = SegmentInput { kind: SegmentKind::Log, ..input(&summary) };
    let input = RecoverInput { segments: vec![mistaken], inline_below: 1, ..Default::default() };
    let vfs: Arc<dyn Vfs> = Arc::new(vfs);
    let error = recover(&vfs, input, &mut Ignored).unwrap_err();
    assert!(error.to_string().contains("a record of values"), "{error}");
}

struct Ignored;

impl Replay for Ignored {
    type Error = VlogError;

    fn entry(&mut self, _: Entry) -> Result<(), VlogError> {
        Ok(())
    }

    fn truncate(&mut self, _: u64) -> Result<(), VlogError> {
        Ok(())
    }

    fn committed(&mut self, _: u64) -> Result<(), VlogError> {
        Ok(())
    }
}

/// The log rolls while a segment of values is written: their numbers do not meet, and recovery looks at
/// the log's alone.
#[test]
fn a_log_and_segments_of_values_share_their_numbers() {
    let mut home = Home::new(1 << 20);
    let (log, _) = home.open();
    let mut numbers = Vec::new();
    for round in 0..4u64 {
        let file = 1000 + round;
        let mut writer = log.write_values(file, home.path(file)).unwrap();
        numbers.push(writer.segment());
        let (key, value) = (Bytes::from("key"), noise(round, 5000));
        let stored = StoredValue::new(&key, value.clone(), &Compression::default());
        let pointer = writer.add(&key, round, &stored).unwrap();
        (round * 20..(round + 1) * 20)
            .for_each(|index| append(&log, vec![put(1, index, noise(index, length(index)))]));
        log.wait_durable().unwrap();
        let identity = *writer.identity();
        let end = writer.finish().unwrap().end;
        assert!(log.value(pointer, &key, round).is_err(), "not yet there");
        log.add_values(identity, home.path(file), end).unwrap();
        assert_eq!(log.value(pointer, &key, round).unwrap(), stored);
        log.forget_segment(pointer.segment);
        assert!(log.value(pointer, &key, round).is_err());
    }
    let newest = home.book.kept.lock().last().unwrap().0.segment;
    assert_eq!(log.replay_segment(80), newest, "the newest of the log");
    log.close().unwrap();
    let logs: Vec<u64> = home.book.kept.lock().iter().map(|(opened, _)| opened.segment).collect();
    assert!(logs.len() > 4 && logs.is_sorted_by(|a, b| a < b), "{logs:?}");
    assert!(numbers.iter().all(|number| !logs.contains(number)), "{numbers:?} {logs:?}");
    let (log, replayed) = home.open();
    assert_eq!(replayed.entries.len(), 80);
    check_values(&log, 0..80);
    log.close().unwrap();
}
