//! The power goes before each operation of a workload, and again while the log comes back.
//!
//! What is asked of the log has one order, so what a crash leaves must be what the first so many requests
//! make, and at least those that were acknowledged. A failure names the seed, the operation and what
//! survived: `check(&first_life(seed, operation), seed, operation, survival)` runs it alone.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_vfs::mem::Survival;
use kv_vfs::{ManualClock, MemVfs, OpKind, SteppedExecutor, Vfs};
use parking_lot::Mutex;

use crate::tests::{noise, put};
use crate::*;

const LENGTHS: [usize; 6] = [0, 10, 300, 1200, 5000, 11_000];

/// What is known of the segments; keeps, like a manifest, what was recorded before the power went. What is
/// recorded just then may be kept or not.
#[derive(Clone, Default)]
struct Kept {
    segments: Vec<(OpenedSegment, Option<SegmentSummary>)>,
    flushed: u64,
    purged: Option<Position>,
    replay_from: u64,
    number: u64,
}

struct Book {
    vfs: MemVfs,
    files: AtomicU64,
    kept: Mutex<Kept>,
    /// Whether the record that the power interrupts is kept.
    lucky: bool,
}

impl Book {
    fn commit(&self, change: impl FnOnce(&mut Kept)) -> io::Result<u64> {
        let done = self.vfs.sync_dir(Path::new("/")); // an operation like any other
        let mut kept = self.kept.lock();
        if done.is_ok() || self.lucky {
            change(&mut kept);
            kept.number += 1;
        }
        done.map(|()| kept.number)
    }
}

impl Ledger for Book {
    fn next_file(&self) -> NextFile {
        let file = self.files.fetch_add(1, Ordering::SeqCst) + 1;
        NextFile { file, path: path(file), bytes: 20 << 10 }
    }

    fn record(&self, sealed: Option<SealedSegment>, opened: Option<OpenedSegment>) -> io::Result<u64> {
        self.commit(|kept| {
            if let Some(sealed) = sealed {
                let known = kept.segments.iter_mut().find(|(opened, _)| opened.segment == sealed.segment);
                assert!(known.unwrap().1.replace(sealed.summary).is_none());
            }
            kept.segments.extend(opened.map(|opened| (opened, None)));
        })
    }
}

fn path(file: u64) -> PathBuf {
    PathBuf::from(format!("/{file:08}.seg"))
}

#[derive(Clone, Copy, Debug)]
enum Request {
    Append {
        term: u64,
        index: u64,
    },
    Truncate(u64),
    Vote(u64),
    /// A snapshot stands in for the entries below this one, whether or not the log held them.
    Snapshot(u64),
}

/// What the log was asked for, in order.
#[derive(Clone, Debug, Default)]
struct History {
    requests: Vec<Request>,
    /// So many of them, at least, are acknowledged.
    acknowledged: usize,
    /// Terms of the entries that are committed.
    committed: Vec<u64>,
    vote: u64,
    term: u64,
}

impl History {
    /// Terms of all entries, 0 below a snapshot's end, and the last vote, after so many requests.
    fn after(&self, requests: usize) -> (Vec<u64>, u64) {
        let (mut terms, mut vote) = (Vec::new(), 0);
        for request in &self.requests[..requests] {
            match request {
                Request::Append { term, index } => {
                    assert_eq!(*index, terms.len() as u64);
                    terms.push(*term);
                }
                Request::Truncate(next) => terms.truncate(*next as usize),
                Request::Vote(term) => vote = *term,
                Request::Snapshot(next) => {
                    terms.resize(terms.len().max(*next as usize), 0);
                    terms[..*next as usize].fill(0);
                }
            }
        }
        (terms, vote)
    }

    fn terms(&self) -> Vec<u64> {
        self.after(self.requests.len()).0
    }
}

/// Random enough.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % below.max(1)
    }
}

fn entry(term: u64, index: u64) -> Entry {
    let seed = term << 32 | index;
    put(term, index, noise(seed, LENGTHS[(seed % 7 + index) as usize % LENGTHS.len()]))
}

/// One life of a log, from a boot to a loss of power.
struct Life {
    vfs: MemVfs,
    clock: Arc<ManualClock>,
    executor: SteppedExecutor,
    book: Arc<Book>,
    history: Arc<Mutex<History>>,
}

/// Collects what is replayed.
#[derive(Default)]
struct Replayed(BTreeMap<u64, u64>);

impl Replay for Replayed {
    type Error = VlogError;

    fn entry(&mut self, entry: Entry) -> Result<(), VlogError> {
        self.truncate(entry.at.index)?;
        self.0.insert(entry.at.index, entry.at.term);
        Ok(())
    }

    fn truncate(&mut self, next: u64) -> Result<(), VlogError> {
        self.0.split_off(&next);
        Ok(())
    }

    fn committed(&mut self, _: u64) -> Result<(), VlogError> {
        Ok(())
    }
}

impl Life {
    fn new(vfs: MemVfs, kept: Kept, history: History, lucky: bool) -> Self {
        let files = vfs.files().iter().filter_map(|f| f.file_stem()?.to_str()?.parse().ok()).max();
        let files = AtomicU64::new(files.unwrap_or(0));
        let clock = Arc::new(ManualClock::default());
        let book = Arc::new(Book { vfs: vfs.clone(), files, kept: Mutex::new(kept), lucky });
        let executor = SteppedExecutor::new(clock.clone());
        Self { vfs, clock, executor, book, history: Arc::new(Mutex::new(history)) }
    }

    fn first(lucky: bool) -> Self {
        Self::new(MemVfs::new(), Kept::default(), History { term: 1, ..Default::default() }, lucky)
    }

    /// The next life, on what a loss of power leaves of this one.
    fn next(&self, survival: Survival, lucky: bool) -> Self {
        let (kept, history) = (self.book.kept.lock().clone(), self.history.lock().clone());
        Self::new(self.vfs.crash_clone(&survival), kept, history, lucky)
    }

    fn boot(&self) -> Result<(Arc<Vlog>, LogEnd, Replayed), VlogError> {
        let kept = self.book.kept.lock().clone();
        let identity = |opened: &OpenedSegment| SegmentIdentity {
            cluster_id: [7; 16],
            incarnation: 0,
            group_id: 0,
            segment: opened.segment,
            file: opened.file,
            generation: opened.generation,
            epoch: opened.epoch,
        };
        let input = |(opened, sealed): &(OpenedSegment, Option<SegmentSummary>)| SegmentInput {
            kind: SegmentKind::Log,
            identity: identity(opened),
            path: path(opened.file),
            sealed: sealed.clone(),
        };
        let input = RecoverInput {
            segments: kept.segments.iter().map(input).collect(),
            replay_from: kept.replay_from,
            purged: kept.purged,
            inline_below: 1024,
            durable: true,
        };
        let mut replayed = Replayed::default();
        let vfs: Arc<dyn Vfs> = Arc::new(self.vfs.clone());
        let recovered = recover(&vfs, input, &mut replayed)?;
        assert!(recovered.end.ledger_number <= kept.number);
        let end = recovered.end;
        let pool = FilePool::new(vfs.clone());
        pool.set_bytes_max(200 << 10);
        let is_free = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "free");
        let bytes = |path: &Path| self.vfs.read_file(path).unwrap().len() as u64;
        let free = self.vfs.files().into_iter().filter(is_free);
        pool.adopt(free.map(|path| FreeFile { bytes: bytes(&path), path }));
        let options = VlogOptions {
            pool: Some(pool),
            cluster_id: [7; 16],
            epoch: kept.segments.last().map_or(1, |(opened, _)| opened.epoch + 1),
            group_bytes_max: 8 << 10,
            tail_cache_bytes: 4 << 10,
            ..Default::default()
        };
        let executor = Arc::new(self.executor.clone());
        let log = Vlog::start(vfs, self.clock.clone(), executor, self.book.clone(), options, recovered)?;
        Ok((log, end, replayed))
    }

    /// Boots and holds what comes back against the history; what came back is the history from then on.
    fn come_back(&self) -> Result<Arc<Vlog>, VlogError> {
        let (log, end, replayed) = self.boot()?;
        let terms = read_all(&log);
        let vote = end.vote.map_or(0, |vote| vote.term);
        let mut history = self.history.lock();
        let mut prefixes = history.acknowledged..=history.requests.len();
        assert!(
            prefixes.any(|k| history.after(k) == (terms.clone(), vote)),
            "came back: vote {vote}, terms {terms:?}; history: {history:?}"
        );
        assert!(end.committed_next as usize <= terms.len(), "{end:?} {terms:?}");
        let committed = terms.iter().zip(&history.committed).take(end.committed_next as usize);
        assert!(
            committed.into_iter().all(|(found, committed)| *found == 0 || found == committed),
            "other entries than these were committed: {terms:?}, {history:?}"
        );
        let floor = log.state().purged;
        assert_eq!(floor, self.book.kept.lock().purged);
        if let Some(floor) = floor {
            assert_eq!(log.term_starts(floor.index, floor.index), [floor]);
            assert!(end.committed_next > floor.index);
        }
        let flushed = self.book.kept.lock().flushed;
        for (index, term) in (0..).zip(&terms).skip(flushed as usize) {
            assert_eq!(
                replayed.0.get(&index),
                Some(term),
                "entry {index} was not replayed: {:?}",
                replayed.0
            );
        }
        assert!(replayed.0.range(terms.len() as u64..).next().is_none());
        let next = floor.map_or(0, |floor| floor.index + 1);
        let held = (0..).zip(&terms).skip(next as usize);
        let appended = held.map(|(index, term)| Request::Append { term: *term, index });
        let below = (next > 0).then_some(Request::Snapshot(next));
        let vote = (vote > 0).then_some(Request::Vote(vote));
        history.requests = below.into_iter().chain(appended).chain(vote).collect();
        history.acknowledged = history.requests.len();
        // What is known to be committed is known to others, too: it stays so, as far as it is here.
        let committed = history.committed.len().min(terms.len());
        history.committed.truncate(committed);
        if committed < next as usize {
            history.committed = terms[..next as usize].to_vec();
        }
        history.term += 1;
        drop(history);
        Ok(log)
    }

    /// Asks for so many things; ends early where the log says that it has stopped.
    fn work(&self, log: &Vlog, dice: &mut Dice, steps: u64) -> Result<(), VlogError> {
        for _ in 0..steps {
            match dice.roll(20) {
                0..8 => self.append(log, 1 + dice.roll(4))?,
                8 => self.vote(log)?,
                9 => self.truncate(log, dice)?,
                10 => self.commit(log, dice),
                11 => self.flush(log)?,
                12 => drop(self.executor.advance(Duration::from_millis(60))),
                13 => log.wait_durable()?,
                14 | 15 => drop(self.executor.run_until_idle()),
                17 | 18 => self.snapshot(log, dice)?,
                // A truncation may find its way between a roll that waits and its writing.
                _ => {
                    self.append(log, 4)?;
                    self.truncate(log, dice)?;
                    self.append(log, 2)?;
                    self.commit(log, dice);
                }
            }
        }
        Ok(())
    }

    fn acknowledge(&self) -> Callback {
        let (history, position) = (self.history.clone(), self.history.lock().requests.len());
        Box::new(move |result| {
            if result.is_ok() {
                let mut history = history.lock();
                assert!(position >= history.acknowledged, "callbacks out of order");
                history.acknowledged = position;
            }
        })
    }

    fn append(&self, log: &Vlog, count: u64) -> Result<(), VlogError> {
        let from = self.history.lock().terms().len() as u64;
        let term = self.history.lock().term;
        let requests = (from..from + count).map(|index| Request::Append { term, index });
        self.history.lock().requests.extend(requests);
        log.append((from..from + count).map(|index| entry(term, index)).collect(), self.acknowledge())
    }

    fn vote(&self, log: &Vlog) -> Result<(), VlogError> {
        let term = {
            let mut history = self.history.lock();
            history.vote += 1;
            let term = history.vote;
            history.requests.push(Request::Vote(term));
            term
        };
        log.save_vote(Vote { term, node: Some(1), committed: false }, self.acknowledge())
    }

    fn truncate(&self, log: &Vlog, dice: &mut Dice) -> Result<(), VlogError> {
        let next = {
            let mut history = self.history.lock();
            let (len, committed) = (history.terms().len() as u64, history.committed.len() as u64);
            let next = committed.max(len.saturating_sub(dice.roll(9)));
            history.requests.push(Request::Truncate(next));
            history.term += 1;
            next
        };
        log.truncate(next, self.acknowledge())
    }

    fn commit(&self, log: &Vlog, dice: &mut Dice) {
        let mut history = self.history.lock();
        let terms = history.terms();
        let more = dice.roll((terms.len() - history.committed.len()) as u64 + 1) as usize;
        history.committed = terms[..history.committed.len() + more].to_vec();
        log.set_committed(history.committed.len() as u64);
    }

    /// What an owner does when a snapshot comes: it may end within the log or beyond.
    fn snapshot(&self, log: &Vlog, dice: &mut Dice) -> Result<(), VlogError> {
        log.wait_durable()?;
        let history = self.history.lock().clone();
        let (terms, known) = (history.terms(), history.committed.len() as u64);
        let next = known.max((terms.len() as u64 + dice.roll(9)).saturating_sub(4));
        if next <= log.state().purged.map_or(0, |purged| purged.index + 1) {
            return Ok(());
        }
        let term = terms.get(next as usize - 1).copied().unwrap_or(history.term);
        let at = Position { term, index: next - 1 };
        let replay_from = log.replay_segment(next);
        self.history.lock().requests.push(Request::Snapshot(next));
        let mut dropped = Vec::new();
        let number = self.book.commit(|kept| {
            kept.replay_from = replay_from.max(kept.replay_from);
            kept.flushed = next.max(kept.flushed);
            kept.purged = Some(at);
            // Segments below it are dropped.
            let replay_from = kept.replay_from;
            kept.segments.retain(|(opened, sealed)| {
                let last = sealed.as_ref().map(|sealed| sealed.last_index.unwrap_or_default());
                let is_kept = opened.segment >= replay_from || last.is_none_or(|last| last >= next);
                dropped.extend((!is_kept).then_some((opened.segment, opened.file)));
                is_kept
            });
        })?;
        log.purge(at);
        log.set_committed(next);
        log.note_ledger(number);
        // Their files hold later segments soon.
        dropped.iter().for_each(|place| log.give_up(&[*place], Some(&path(place.1))));
        let mut history = self.history.lock();
        history.acknowledged = history.requests.len();
        let terms = history.terms();
        history.committed = terms[..next as usize].to_vec();
        Ok(())
    }

    fn flush(&self, log: &Vlog) -> Result<(), VlogError> {
        let next = log.durable_next().min(self.history.lock().committed.len() as u64);
        let replay_from = log.replay_segment(next);
        let number = self.book.commit(|kept| {
            kept.replay_from = replay_from.max(kept.replay_from);
            kept.flushed = next.max(kept.flushed);
        })?;
        log.note_ledger(number);
        Ok(())
    }
}

/// Terms of all entries; reads each with its values and through its pointers.
fn read_all(log: &Vlog) -> Vec<u64> {
    let Some(last) = log.state().last else { return Vec::new() };
    let floor = log.state().purged.map_or(0, |purged| purged.index + 1);
    let term_of = |index| {
        let [found] = &log.entries(index..index + 1, 1, true).unwrap()[..] else { panic!("no {index}") };
        assert_eq!(*found, entry(found.at.term, index));
        let [pointers] = &log.entries(index..index + 1, 1, false).unwrap()[..] else { panic!("no {index}") };
        if let [Op::Put { key, value: OpValue::At { pointer, .. } }] = pointers.payload.ops() {
            let [Op::Put { value: OpValue::Full(value), .. }] = found.payload.ops() else { panic!() };
            assert_eq!(log.value(*pointer, key, seq_of(index, 0)).unwrap(), *value);
        }
        found.at.term
    };
    (0..floor).map(|_| 0).chain((floor..=last.index).map(term_of)).collect()
}

const STEPS: u64 = 34;

/// The first life up to the power loss before operation `n`; how many operations it takes where `n` is 0.
fn first_life(seed: u64, n: u64) -> Life {
    let life = Life::first(n.is_multiple_of(2));
    if n > 0 {
        life.vfs.stop_after(n);
    }
    let Ok((log, ..)) = life.boot() else { return life };
    let mut dice = Dice(seed);
    if life.work(&log, &mut dice, STEPS).is_ok() && seed.is_multiple_of(2) {
        let _ = log.close();
    } else if seed % 4 == 1 {
        let _ = log.stop();
    }
    life
}

fn check(first: &Life, seed: u64, n: u64, survival: Survival) {
    // The power goes again in the middle of the second life, most often while it begins ...
    let (mut dice, mut life) = (Dice(seed ^ n << 8), first.next(survival, true));
    for round in 0..2 {
        life.vfs.stop_after(1 + dice.roll(if round == 0 { 9 } else { 30 }));
        if let Ok(log) = life.come_back() {
            // What is refused is in the history nevertheless: it may be there or not, and it is not.
            let worked = life.work(&log, &mut dice, 6);
            let terms = read_all(&log);
            assert!(worked.is_err() || terms == life.history.lock().terms());
        }
        life = life.next(survival, dice.roll(2) == 0);
    }
    // ... and then it stays.
    let log = life.come_back().unwrap();
    life.work(&log, &mut dice, 4).unwrap();
    log.close().unwrap();
    let requests = life.history.lock().requests.len();
    assert_eq!(life.history.lock().acknowledged, requests, "a callback never came");
    let life = life.next(Survival::Synced, false);
    life.come_back().unwrap();
}

/// Checks every crash of these workloads: with all models of what survives, or with one in turn. Returns how often a file
/// was written again.
fn enumerate(seeds: std::ops::RangeInclusive<u64>, all: bool) -> usize {
    let mut recycled = 0;
    for seed in seeds {
        let whole = first_life(seed, 0);
        let is_taken = |op: &kv_vfs::Op| {
            op.kind == OpKind::Rename && op.path.extension().is_some_and(|extension| extension == "free")
        };
        recycled += whole.vfs.log().iter().filter(|op| is_taken(op)).count();
        let operations = whole.vfs.operations();
        for n in 1..=operations + 1 {
            let survivals = [
                Survival::Synced,
                Survival::Everything,
                Survival::Torn { sector: 512, seed: n },
                Survival::Subset { seed: n },
                Survival::NamesLost { seed: n },
                Survival::Torn { sector: 4096, seed: n },
                Survival::Subset { seed: n + 1000 },
            ];
            let first = first_life(seed, n);
            let mine = (n + seed) as usize % survivals.len();
            for (_, survival) in survivals.into_iter().enumerate().filter(|(at, _)| all || *at == mine) {
                let told = catch_unwind(AssertUnwindSafe(|| check(&first, seed, n, survival)));
                assert!(told.is_ok(), "seed {seed}, power lost before operation {n}, {survival:?}");
            }
        }
    }
    recycled
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_void_comes_back() {
    let recycled = enumerate(1..=1, true) + enumerate(2..=5, false);
    assert!(recycled > 5, "files were written again {recycled} times only");
}

#[test]
#[ignore = "takes minutes"]
fn the_same_for_many_workloads() {
    let recycled = enumerate(100..=199, true);
    assert!(recycled > 200, "files were written again {recycled} times only");
}
