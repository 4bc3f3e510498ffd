//! Files that are written again: nothing of what they held counts, and nobody who reads them loses anything.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_vfs::{BLOCK, ManualClock, MemVfs, OpKind, SteppedExecutor, Survival, Vfs};
use parking_lot::Mutex;

use crate::tests::{Replayed, noise, put};
use crate::*;

const SEGMENT_BYTES: u64 = 64 << 10;
/// Each entry has a group of its own, of this many bytes: groups of all lives of a file begin in the same places.
const GROUP_BYTES: u64 = 8 << 10;
/// Entries of a full segment.
const ENTRIES: u64 = SEGMENT_BYTES / GROUP_BYTES - 1;

pub(crate) fn path(file: u64) -> PathBuf {
    format!("/{file:08}.seg").into()
}

fn free(file: u64) -> PathBuf {
    format!("/{file:08}.free").into()
}

#[derive(Default)]
struct Book {
    files: AtomicU64,
    kept: Mutex<Vec<(OpenedSegment, Option<SegmentSummary>)>>,
}

impl Ledger for Book {
    fn next_file(&self) -> NextFile {
        let file = self.files.fetch_add(1, Ordering::SeqCst) + 1;
        NextFile { file, path: path(file), bytes: SEGMENT_BYTES }
    }

    fn record(&self, sealed: Option<SealedSegment>, opened: Option<OpenedSegment>) -> std::io::Result<u64> {
        let mut kept = self.kept.lock();
        if let Some(SealedSegment { segment, summary }) = sealed {
            kept.iter_mut().find(|(opened, _)| opened.segment == segment).unwrap().1 = Some(summary);
        }
        kept.extend(opened.map(|opened| (opened, None)));
        Ok(0)
    }
}

/// A directory and the process that works in it.
pub(crate) struct Home {
    pub(crate) disk: MemVfs,
    book: Arc<Book>,
    pool: Arc<FilePool>,
    epoch: u64,
    purged: Option<Position>,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::on(MemVfs::new(), Arc::default(), 0, None)
    }

    fn on(disk: MemVfs, book: Arc<Book>, epoch: u64, purged: Option<Position>) -> Self {
        let pool = FilePool::new(Arc::new(disk.clone()));
        pool.set_bytes_max(1 << 20);
        Self { disk, book, pool, epoch, purged }
    }

    /// What the next process finds when this one is killed.
    pub(crate) fn killed(&self) -> Self {
        self.then(self.disk.kill_clone())
    }

    /// What the next process finds after a loss of power.
    pub(crate) fn crashed(&self, survival: Survival) -> Self {
        self.then(self.disk.crash_clone(&survival))
    }

    fn then(&self, disk: MemVfs) -> Self {
        let (kept, files) = (self.book.kept.lock().clone(), self.book.files.load(Ordering::SeqCst));
        let book = Book { files: files.into(), kept: kept.into() };
        Self::on(disk, Arc::new(book), self.epoch, self.purged)
    }

    fn segments(&self) -> Vec<SegmentInput> {
        let input = |(opened, sealed): &(OpenedSegment, Option<SegmentSummary>)| SegmentInput {
            kind: SegmentKind::Log,
            identity: SegmentIdentity {
                cluster_id: [7; 16],
                incarnation: 0,
                group_id: 0,
                segment: opened.segment,
                file: opened.file,
                generation: opened.generation,
                epoch: opened.epoch,
            },
            path: path(opened.file),
            sealed: sealed.clone(),
        };
        self.book.kept.lock().iter().map(input).collect()
    }

    fn recover(&self) -> Result<(Recovered, Replayed), VlogError> {
        let (segments, purged) = (self.segments(), self.purged);
        let input = RecoverInput { segments, purged, inline_below: 64, durable: true, ..Default::default() };
        let (vfs, mut replayed): (Arc<dyn Vfs>, _) = (Arc::new(self.disk.clone()), Replayed::default());
        recover(&vfs, input, &mut replayed).map(|recovered| (recovered, replayed))
    }

    pub(crate) fn open(&mut self) -> Arc<Vlog> {
        self.try_open(Arc::new(self.disk.clone())).unwrap()
    }

    pub(crate) fn try_open(&mut self, vfs: Arc<dyn Vfs>) -> Result<Arc<Vlog>, VlogError> {
        self.epoch += 1;
        let clock = Arc::new(ManualClock::default());
        let executor = Arc::new(SteppedExecutor::new(clock.clone()));
        let options = VlogOptions {
            cluster_id: [7; 16],
            epoch: self.epoch,
            inline_below: 64,
            tail_cache_bytes: 0,
            pool: Some(self.pool.clone()),
            ..Default::default()
        };
        let recovered = self.recover()?.0;
        Vlog::start(vfs, clock, executor, self.book.clone(), options, recovered)
    }

    /// Gives up all complete segments, as an owner does: on record first.
    fn purge(&mut self, log: &Vlog) {
        let dropped: Vec<_> = {
            let mut kept = self.book.kept.lock();
            let dropped = kept.iter().filter(|(_, sealed)| sealed.is_some()).cloned().collect();
            kept.retain(|(_, sealed)| sealed.is_none());
            dropped
        };
        let last = dropped.iter().filter_map(|(_, sealed)| sealed.as_ref()?.last_index).max().unwrap();
        let floor = log.term_starts(last, last)[0];
        self.purged = Some(floor);
        log.purge(floor);
        for (OpenedSegment { segment, file, .. }, _) in dropped {
            log.give_up(&[(segment, file)], Some(&path(file)));
        }
    }

    pub(crate) fn opened(&self) -> OpenedSegment {
        self.book.kept.lock().last().unwrap().0
    }

    fn free_files(&self) -> Vec<PathBuf> {
        let files = self.disk.files().into_iter();
        files.filter(|path| path.extension().is_some_and(|is| is == "free")).collect()
    }

    fn created(&self) -> usize {
        self.disk.log().iter().filter(|op| op.kind == OpKind::Create).count()
    }
}

/// One group for each entry.
pub(crate) fn fill(log: &Vlog, range: std::ops::Range<u64>) {
    for index in range {
        log.append(vec![put(1, index, noise(index, 5000))], Box::new(|result| result.unwrap())).unwrap();
        log.set_committed(index);
        log.wait_durable().unwrap();
    }
}

pub(crate) fn check(log: &Vlog, range: std::ops::Range<u64>) {
    for index in range {
        assert_eq!(log.entries(index..index + 1, 1, true).unwrap(), [put(1, index, noise(index, 5000))]);
    }
}

/// Two segments complete and given up, then so many entries in the file of the first.
fn recycled(entries: u64) -> (Home, Arc<Vlog>) {
    let mut home = Home::new();
    let log = home.open();
    fill(&log, 0..2 * ENTRIES + 1);
    home.purge(&log);
    assert_eq!(home.free_files(), [free(1), free(2)]);
    // The rest of the third segment.
    fill(&log, 2 * ENTRIES + 1..3 * ENTRIES + entries);
    (home, log)
}

/// Broken by: a pool that is not used, a generation that does not advance.
#[test]
fn files_go_round() {
    let mut home = Home::new();
    let log = home.open();
    fill(&log, 0..3 * ENTRIES);
    let mut created = Vec::new();
    for round in 1..=5 {
        home.purge(&log);
        fill(&log, 3 * ENTRIES * round..3 * ENTRIES * (round + 1));
        check(&log, 3 * ENTRIES * round..3 * ENTRIES * (round + 1));
        created.push(home.created());
    }
    // Two of three are given up in the first round, the third is still open.
    assert_eq!(created, [4; 5], "a new file where there was one to write again");
    assert!(home.opened().generation >= 4, "{:?}", home.opened());
    for segment in home.segments() {
        walk_segment(&home.disk, &segment, &mut |_| {}).unwrap();
    }
    // A process that follows takes over what is there.
    home.purge(&log);
    let mut next = home.killed();
    next.pool.adopt(home.pool.files());
    let log = next.open();
    assert_eq!(next.created(), 0);
    assert!(next.opened().generation > 0);
    fill(&log, log.state().last.unwrap().index + 1..200);
    log.close().unwrap();
    let (recovered, _) = next.recover().unwrap();
    assert_eq!(recovered.end.last, Some(Position { term: 1, index: 199 }));
}

/// Broken by: a durable end that a group of the former segment names being believed, so that a torn end is taken for damage;
/// groups of the former segment being replayed.
#[test]
fn what_a_file_held_is_no_part_of_the_log() {
    for entries in 1..ENTRIES {
        let (home, log) = recycled(entries);
        let (last, file) = (log.state().last, home.opened().file);
        assert_eq!(home.opened().generation, 1);
        let killed = home.killed();
        let (recovered, _) = killed.recover().unwrap();
        assert_eq!((recovered.end.last, recovered.torn.as_deref()), (last, None));
        let end = BLOCK as u64 + entries * GROUP_BYTES;
        assert_eq!(recovered.sealed.unwrap().summary.end, end);
        let verified = walk_segment(&killed.disk, killed.segments().last().unwrap(), &mut |_| {}).unwrap();
        assert_eq!((verified.end, verified.torn), (end, None));
        // The last group is torn: its first block is there, the second is still that of the former segment.
        let mut bytes = killed.disk.read_file(&path(file)).unwrap();
        bytes[end as usize - BLOCK..end as usize].fill(0xa5);
        killed.disk.write_file(&path(file), &bytes).unwrap();
        let (recovered, _) = killed.recover().unwrap();
        assert_eq!(recovered.end.last.unwrap().index + 1, last.unwrap().index);
        assert!(recovered.torn.is_some());
        if entries > 1 {
            // One that a later group of this segment names is damaged.
            bytes[BLOCK + 100] ^= 1;
            killed.disk.write_file(&path(file), &bytes).unwrap();
            let error = killed.recover().unwrap_err();
            assert!(matches!(error, VlogError::Corruption { .. }), "{error}");
        }
    }
}

/// Broken by: a footer that is read wherever one stands.
#[test]
fn a_footer_of_a_former_segment_is_not_read() {
    let mut home = Home::new();
    let log = home.open();
    fill(&log, 0..ENTRIES + 1);
    let before = home.disk.read_file(&path(1)).unwrap();
    home.purge(&log);
    fill(&log, ENTRIES + 1..3 * ENTRIES + 1);
    let (OpenedSegment { segment, file, generation, .. }, sealed) = home.book.kept.lock()[1].clone();
    let footer = sealed.unwrap().end as usize;
    assert_eq!((generation, footer), (1, (BLOCK as u64 + ENTRIES * GROUP_BYTES) as usize));
    check(&log, 2 * ENTRIES..3 * ENTRIES);
    // As if the footer had never reached the disk.
    let mut bytes = home.disk.read_file(&path(file)).unwrap();
    bytes[footer..].copy_from_slice(&before[footer..]);
    home.disk.write_file(&path(file), &bytes).unwrap();
    let error = log.entries(2 * ENTRIES..2 * ENTRIES + 1, 1, true).unwrap_err();
    assert!(error.to_string().contains("an earlier use of the file"), "segment {segment}: {error}");
    let input = home.segments().into_iter().find(|input| input.identity.segment == segment).unwrap();
    walk_segment(&home.disk, &input, &mut |_| {}).unwrap_err();
}

/// A header of the former segment in the place of ours is refused.
#[test]
fn a_header_of_a_former_segment_is_not_ours() {
    let (home, log) = recycled(2);
    let killed = home.killed();
    let file = path(home.opened().file);
    let mut bytes = killed.disk.read_file(&file).unwrap();
    // The second segment was not written over: it has its own header still.
    let other = killed.disk.read_file(&free(2)).unwrap();
    bytes[..BLOCK].copy_from_slice(&other[..BLOCK]);
    killed.disk.write_file(&file, &bytes).unwrap();
    let error = killed.recover().unwrap_err();
    assert!(error.to_string().contains("another segment"), "{error}");
    drop(log);
}

/// Broken by: a file that is written again while somebody has it open.
#[test]
fn who_reads_a_file_goes_on_reading_it() {
    let mut home = Home::new();
    let log = home.open();
    fill(&log, 0..ENTRIES + 1);
    let [first] = &log.entries(0..1, 1, false).unwrap()[..] else { panic!() };
    let [Op::Put { value: OpValue::At { pointer, .. }, .. }] = first.payload.ops() else { panic!() };
    let reader = log.value_reader(pointer.segment).unwrap();
    home.purge(&log);
    assert!(home.pool.files().is_empty());
    fill(&log, ENTRIES + 1..3 * ENTRIES);
    let value = reader.value(pointer.offset, pointer.length).unwrap();
    assert_eq!(value.value.decode().unwrap(), noise(0, 5000));
    drop(reader);
    assert_eq!(home.free_files(), [free(1)]);
    fill(&log, 3 * ENTRIES..4 * ENTRIES);
    assert_eq!(home.opened().generation, 1);
}

/// Broken by: a file that is written again though a checkpoint, or a backup, shows it under another name.
#[test]
fn a_file_with_another_name_is_left_alone() {
    let copy = Path::new("/copy");
    for while_free in [false, true] {
        let mut home = Home::new();
        let log = home.open();
        fill(&log, 0..ENTRIES + 1);
        let before = home.disk.read_file(&path(1)).unwrap();
        if !while_free {
            home.disk.hard_link(&path(1), copy).unwrap();
        }
        home.purge(&log);
        if while_free {
            home.disk.hard_link(&free(1), copy).unwrap();
        }
        assert_eq!(home.free_files().len(), usize::from(while_free));
        fill(&log, ENTRIES + 1..4 * ENTRIES);
        assert_eq!(home.disk.read_file(copy).unwrap(), before);
        assert_eq!(home.disk.link_count(copy).unwrap(), 1, "its other name is gone");
        assert!(home.free_files().is_empty());
        assert_eq!(home.opened().generation, 0);
    }
}

#[test]
fn a_pool_is_bounded_and_empties() {
    let disk = MemVfs::new();
    let pool = FilePool::new(Arc::new(disk.clone()));
    let put = |file, bytes: usize| disk.write_file(&path(file), &vec![1; bytes]).unwrap();
    put(1, 10);
    pool.give(&path(1));
    assert!(disk.files().is_empty(), "kept before anything was allowed");
    pool.set_bytes_max(100);
    for (file, bytes) in [(2, 60), (3, 50), (4, 40)] {
        put(file, bytes);
        pool.give(&path(file));
    }
    assert_eq!(disk.files(), [free(2), free(4)]);
    assert_eq!(pool.files().iter().map(|file| file.bytes).collect::<Vec<_>>(), [60, 40]);
    pool.set_bytes_max(60);
    assert_eq!(disk.files(), [free(2)]);
    disk.write_file(&free(9), b"x").unwrap();
    pool.adopt([FreeFile { path: free(9), bytes: 1 }]);
    assert_eq!(disk.files(), [free(2)]);
    pool.set_bytes_max(0);
    assert!(disk.files().is_empty());
    // Many small ones are of no use.
    pool.set_bytes_max(1 << 20);
    for file in 100..200 {
        put(file, 1);
        pool.give(&path(file));
    }
    assert_eq!(disk.files().len(), 64);
}

/// What is not known to be ours, or damaged, or too long: a new file, or the part that is wanted.
#[test]
fn only_a_file_of_ours_is_written_again() {
    let adopt = |home: &Home, bytes: &[u8]| {
        home.disk.write_file(&free(77), bytes).unwrap();
        home.pool.adopt([FreeFile { path: free(77), bytes: bytes.len() as u64 }]);
    };
    let identity = |cluster| SegmentIdentity {
        cluster_id: [cluster; 16],
        incarnation: 0,
        group_id: 0,
        segment: 3,
        file: 77,
        generation: 4,
        epoch: 1,
    };
    let header = |cluster| SegmentHeader::encode(&identity(cluster), &LogEnd::default()).0;
    let mut damaged = header(7);
    damaged[20] ^= 1;
    for bytes in [header(8), damaged, b"cut short".to_vec()] {
        let mut home = Home::new();
        adopt(&home, &bytes);
        let log = home.open();
        assert_eq!((home.opened().generation, home.free_files().len()), (0, 0));
        log.close().unwrap();
    }
    let mut home = Home::new();
    let mut long = header(7);
    long.resize(5 * SEGMENT_BYTES as usize, 0xee);
    adopt(&home, &long);
    let log = home.open();
    assert_eq!(home.opened().generation, 5);
    assert_eq!(home.disk.read_file(&path(1)).unwrap().len() as u64, SEGMENT_BYTES);
    log.close().unwrap();
}

/// Broken by: a cut segment being opened by its name once more, for the places of its entries: the name may be gone by then,
/// as in "open 00000128.seg: No such file or directory".
#[test]
fn a_cut_segment_is_read_without_its_name() {
    let mut home = Home::new();
    let log = home.open();
    fill(&log, 0..3);
    drop(log);
    // Two starts: the places of the segment that was cut last are known.
    let mut second = home.killed();
    fill(&second.open(), 3..5);
    let mut third = second.killed();
    let log = third.open();
    third.disk.remove(&path(1)).unwrap();
    check(&log, 0..5);
}
