//! The log as its owner uses it: append, kill or close, recover, read back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kv_vfs::{RealVfs, SystemClock, ThreadExecutor, Vfs};
use parking_lot::Mutex;

use crate::*;

/// A ledger that remembers in memory.
pub(crate) struct Book {
    dir: PathBuf,
    bytes: u64,
    files: AtomicU64,
    pub(crate) kept: Mutex<Vec<(OpenedSegment, Option<SegmentSummary>)>>,
}

impl Ledger for Book {
    fn next_file(&self) -> NextFile {
        let file = self.files.fetch_add(1, Ordering::SeqCst) + 1;
        NextFile { file, path: self.dir.join(format!("{file:08}.seg")), bytes: self.bytes }
    }

    fn record(&self, sealed: Option<SealedSegment>, opened: Option<OpenedSegment>) -> std::io::Result<u64> {
        let mut kept = self.kept.lock();
        if let Some(sealed) = sealed {
            let known = kept.iter_mut().find(|(opened, _)| opened.segment == sealed.segment).unwrap();
            assert!(known.1.is_none());
            known.1 = Some(sealed.summary);
        }
        kept.extend(opened.map(|opened| (opened, None)));
        Ok(kept.len() as u64)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) entries: Vec<Entry>,
    pub(crate) committed: u64,
}

impl Replay for Replayed {
    type Error = VlogError;

    fn entry(&mut self, entry: Entry) -> Result<(), VlogError> {
        self.truncate(entry.at.index)?;
        self.entries.push(entry);
        Ok(())
    }

    fn truncate(&mut self, next: u64) -> Result<(), VlogError> {
        self.entries.retain(|entry| entry.at.index < next);
        Ok(())
    }

    fn committed(&mut self, next: u64) -> Result<(), VlogError> {
        self.committed = next;
        Ok(())
    }
}

pub(crate) struct Home {
    dir: tempfile::TempDir,
    pub(crate) book: Arc<Book>,
    epoch: u64,
    pub(crate) purged: Option<Position>,
}

impl Home {
    pub(crate) fn new(bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let book = Book { dir: dir.path().into(), bytes, files: AtomicU64::new(0), kept: Mutex::default() };
        Self { dir, book: Arc::new(book), epoch: 0, purged: None }
    }

    fn options(&self) -> VlogOptions {
        VlogOptions { cluster_id: [7; 16], epoch: self.epoch, ..Default::default() }
    }

    pub(crate) fn segments(&self) -> Vec<SegmentInput> {
        let kept = self.book.kept.lock();
        let segments = kept.iter().map(|(opened, sealed)| SegmentInput {
            kind: SegmentKind::Log,
            identity: SegmentIdentity {
                cluster_id: [7; 16],
                incarnation: 0,
                group_id: 0,
                segment: opened.segment,
                file: opened.file,
                generation: 0,
                epoch: opened.epoch,
            },
            path: self.path(opened.file),
            sealed: sealed.clone(),
        });
        segments.collect()
    }

    pub(crate) fn recover(&self) -> Result<(Recovered, Replayed), VlogError> {
        let input = RecoverInput {
            segments: self.segments(),
            purged: self.purged,
            inline_below: 1024,
            durable: true,
            ..Default::default()
        };
        let mut replayed = Replayed::default();
        let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
        recover(&vfs, input, &mut replayed).map(|recovered| (recovered, replayed))
    }

    pub(crate) fn path(&self, file: u64) -> PathBuf {
        self.dir.path().join(format!("{file:08}.seg"))
    }

    pub(crate) fn open(&mut self) -> (Arc<Vlog>, Replayed) {
        let (recovered, replayed) = self.recover().unwrap();
        self.epoch += 1;
        let log = Vlog::start(
            Arc::new(RealVfs),
            Arc::new(SystemClock::default()),
            Arc::new(ThreadExecutor),
            self.book.clone(),
            self.options(),
            recovered,
        );
        (log.unwrap(), replayed)
    }
}

pub(crate) fn put(term: u64, index: u64, value: Bytes) -> Entry {
    let key = Bytes::from(format!("key{index}"));
    let value = StoredValue::expiring(&key, value, &Compression::default(), expiry(index));
    let value = OpValue::Full(value);
    Entry {
        at: Position { term, index },
        time: index as u32,
        payload: Payload::Ops(vec![Op::Put { key, value }]),
    }
}

fn expiry(index: u64) -> Expiry {
    if index.is_multiple_of(3) { Expiry::NEVER } else { Expiry::at(index as u32 * 10) }
}

fn rewrite(path: &Path, bytes: &[u8]) {
    let file = RealVfs.open(path, kv_vfs::IoMode::Buffered).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    file.write_at(bytes, 0).unwrap();
}

pub(crate) fn noise(seed: u64, len: usize) -> Bytes {
    let mut x = seed + 1;
    (0..len)
        .map(|_| {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (x >> 56) as u8
        })
        .collect::<Vec<_>>()
        .into()
}

pub(crate) fn append(log: &Vlog, entries: Vec<Entry>) {
    log.append(entries, Box::new(|result| result.unwrap())).unwrap();
}

pub(crate) fn length(index: u64) -> usize {
    [0, 10, 2000, 70_000, 300_000][index as usize % 5]
}

pub(crate) fn check_values(log: &Vlog, range: std::ops::Range<u64>) {
    for index in range {
        let [entry] = &log.entries(index..index + 1, 1, false).unwrap()[..] else { panic!("{index}") };
        let [Op::Put { key, value }] = entry.payload.ops() else { panic!("{index}") };
        let expected = noise(index, length(index));
        match value {
            OpValue::Full(value) => assert_eq!(value.decode().unwrap(), expected),
            OpValue::At { pointer, value_bytes, expires } => {
                assert_eq!((*expires, entry.time), (expiry(index), index as u32));
                assert_eq!(*value_bytes, expected.len() as u64);
                assert_eq!(log.decoded(*pointer, key, seq_of(index, 0)).unwrap(), expected);
                let range = expected.len() as u64 / 3..expected.len() as u64 / 2;
                let part = log.value_range(*pointer, key, seq_of(index, 0), range.clone()).unwrap();
                assert_eq!(part, expected[range.start as usize..range.end as usize]);
                assert!(log.value(*pointer, b"other", seq_of(index, 0)).is_err());
                assert!(log.value(*pointer, key, seq_of(index, 1)).is_err());
            }
        }
    }
}

#[test]
fn entries_survive_closing_and_segments_roll() {
    let mut home = Home::new(1 << 20);
    let (log, _) = home.open();
    for index in 0..60 {
        append(&log, vec![put(1, index, noise(index, length(index)))]);
    }
    log.set_committed(50);
    check_values(&log, 0..60);
    log.close().unwrap();
    assert!(home.book.kept.lock().len() > 3);

    let (log, replayed) = home.open();
    assert_eq!(replayed.entries.len(), 60);
    assert_eq!(replayed.committed, 50);
    assert_eq!(log.state().last, Some(Position { term: 1, index: 59 }));
    check_values(&log, 0..60);
    log.close().unwrap();
}

#[test]
fn what_was_durable_survives_a_kill_and_marks_are_obeyed() {
    let mut home = Home::new(1 << 20);
    for round in 0..4u64 {
        let (log, replayed) = home.open();
        assert_eq!(replayed.entries.len() as u64, 20 * round);
        let vote = Vote { term: round + 1, node: Some(1), committed: true };
        log.save_vote(vote, Box::new(|r| r.unwrap())).unwrap();
        let from = 20 * round;
        let entries = (from..from + 25).map(|i| put(round + 1, i, noise(i, length(i)))).collect();
        append(&log, entries);
        log.set_committed(from + 20);
        log.truncate(from + 20, Box::new(|r| r.unwrap())).unwrap();
        log.wait_durable().unwrap();
        check_values(&log, 0..from + 20);
        // A kill: nothing is closed, the writer's segment has no footer.
        let (recovered, replayed) = home.recover().unwrap();
        assert_eq!(recovered.end.vote, Some(vote));
        assert_eq!(replayed.entries.len() as u64, from + 20);
        assert!(recovered.sealed.is_some());
        std::mem::forget(log);
    }
}

#[test]
fn a_torn_tail_is_cut_and_damage_below_the_durable_end_is_refused() {
    let mut home = Home::new(64 << 20);
    let (log, _) = home.open();
    for index in 0..4 {
        append(&log, vec![put(1, index, noise(index, 5000))]);
        log.wait_durable().unwrap();
    }
    log.close().unwrap();
    let path = home.path(1);
    let file = RealVfs.read_all(&path, 1 << 30).unwrap();
    let header = |at: &usize| GroupHeader::decode(&file[*at..]).ok();
    let with_records = |at: &usize| header(at).is_some_and(|header| header.records > 0);
    let groups: Vec<usize> = (4096..file.len()).step_by(4096).filter(with_records).collect();
    // Four groups with an entry each, and the footer. As after a kill just behind the fourth:
    assert_eq!(groups.len(), 5, "{groups:?}");
    let file = &file[..groups[3] + header(&groups[3]).unwrap().length as usize];
    let book = home.book.clone();
    let unseal = || book.kept.lock().iter_mut().for_each(|(_, sealed)| *sealed = None);
    let recover_from = |bytes: &[u8]| {
        unseal();
        rewrite(&path, bytes);
        home.recover()
    };
    // Only the last group may be torn: whatever it lost, it was never acknowledged.
    let last = groups[3];
    for keep in [last + 1, last + 100, last + 4096, last + 5000] {
        let mut torn = file[..keep.min(file.len())].to_vec();
        torn.resize(torn.len().next_multiple_of(4096), 0);
        let (recovered, replayed) = recover_from(&torn).unwrap();
        assert_eq!(replayed.entries.len(), 3, "cut at {keep}");
        assert_eq!(recovered.torn.is_some(), keep > last);
        assert_eq!(recovered.sealed.unwrap().summary.end, last as u64);
    }
    // A group that a later one names is damage, wherever the bit is.
    for at in (groups[1]..groups[1] + 5200).step_by(97) {
        let mut damaged = file.to_vec();
        damaged[at] ^= 4;
        let error = recover_from(&damaged).unwrap_err();
        assert!(matches!(error, VlogError::Corruption { .. }), "{at}: {error}");
        assert!(error.to_string().contains("00000001.seg"), "{error}");
    }
}

#[test]
fn another_directory_s_segment_is_refused() {
    let mut home = Home::new(1 << 20);
    home.open().0.close().unwrap();
    let path = home.path(1);
    let verify = |identity: &SegmentIdentity, path: &Path| verify_segment(&RealVfs, path, identity, None);
    let identity = SegmentIdentity {
        cluster_id: [7; 16],
        incarnation: 0,
        group_id: 0,
        segment: 1,
        file: 1,
        generation: 0,
        epoch: 1,
    };
    verify(&identity, &path).unwrap();
    let error = verify(&SegmentIdentity { cluster_id: [8; 16], ..identity }, &path).unwrap_err();
    assert!(error.to_string().contains("another data directory"), "{error}");
    let error = verify(&SegmentIdentity { segment: 2, ..identity }, &path).unwrap_err();
    assert!(error.to_string().contains("another segment"), "{error}");
}
