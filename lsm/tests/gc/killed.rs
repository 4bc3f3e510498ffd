//! As `fire`, on a real disk, with checkpoints, in a process that is killed now and then. What was acknowledged survives
//! in the process that kills it. `KV_FIRE_SECONDS` says for how long, `KV_FIRE_KILL_SECONDS` how
//! often the process is killed; it is three times, as soon as everybody in it has done something, where they do not.

#![expect(clippy::disallowed_methods, reason = "a real disk, and what an operator does to it")]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kv_lsm::gc::GcOptions;
use kv_lsm::offline::check;
use kv_lsm::{Db, IterOptions, Options, StoreError};
use kv_vfs::{RealVfs, Vfs};

use crate::fire::{self, KEYS, Turns, WRITERS, allow, key, slot, turn_of};

const READERS: u64 = 4;
/// Lives of the process, where nothing else is asked for.
const ROUNDS: u64 = 3;
/// Checkpoints that are looked at again, each after this many others.
const KEPT: usize = 3;
/// Where the process that is killed works; it is this same test.
const CHILD: &str = "KV_FIRE_DIR";

/// Of all keys of all writers.
fn all_keys() -> impl Iterator<Item = (u64, u64)> {
    (0..WRITERS).flat_map(|writer| (0..KEYS).map(move |number| (writer, number)))
}

fn say(what: std::fmt::Arguments<'_>) {
    // One write: a kill leaves whole lines.
    std::io::stdout().lock().write_all(format!("{what}\n").as_bytes()).unwrap();
}

fn now(turns: &[AtomicU64]) -> Vec<u64> {
    turns.iter().map(|turn| turn.load(Ordering::SeqCst)).collect()
}

type Values = Vec<Option<bytes::Bytes>>;

/// The value of each key.
fn values(db: &Db) -> Values {
    let value = |(writer, number)| db.get(&key(writer, number)).unwrap().map(|found| found.value);
    all_keys().map(value).collect()
}

/// Each is one that may be there after those that were acknowledged, up to what was begun.
fn allow_all(values: &Values, acknowledged: &[u64], begun: &[u64]) {
    for (found, (writer, number)) in values.iter().zip(all_keys()) {
        let slot = slot(writer, number);
        allow(found.as_ref(), writer, number, acknowledged[slot]..begun[slot]);
    }
}

fn whole(dir: &Path) {
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let report = check(&vfs, dir, &|_| {}).unwrap();
    assert!(report.problems.is_empty(), "{}: {:?}", dir.display(), report.problems);
}

/// A copy is opened as it is: nothing in it is collected.
fn open_copy(dir: &Path) -> Db {
    let gc = GcOptions { automatic: false, ..GcOptions::default() };
    Db::open(dir, Options { gc, ..fire::options() }).unwrap()
}

/// Makes checkpoints; looks at each at once, and again when what it shares with the store was collected there.
fn copies(db: &Db, turns: &Turns, dir: &Path) {
    let mut kept: VecDeque<(PathBuf, Values)> = VecDeque::new();
    for n in 0.. {
        let copy = dir.join(format!("copy-{n}"));
        let acknowledged = now(&turns.acknowledged);
        db.checkpoint(&copy).unwrap();
        let begun = now(&turns.begun);
        let copied = open_copy(&copy);
        let found = values(&copied);
        allow_all(&found, &acknowledged, &begun);
        copied.close().unwrap();
        kept.push_back((copy, found));
        if kept.len() > KEPT {
            let (copy, found) = kept.pop_front().unwrap();
            whole(&copy);
            let copied = open_copy(&copy);
            assert!(values(&copied) == found, "{} has changed", copy.display());
            copied.close().unwrap();
            // First what makes it a store: a kill may leave the rest.
            std::fs::remove_file(copy.join(kv_manifest::names::CURRENT)).unwrap();
            std::fs::remove_dir_all(copy).unwrap();
            say(format_args!("copy"));
        }
    }
}

/// Goes over everything one way, then the other, while it changes: the same both times.
fn iterate(db: &Db) {
    loop {
        let mut iter = db.iter(IterOptions::default());
        let (mut there, mut back) = (Vec::new(), Vec::new());
        while iter.next().unwrap() {
            there.push((iter.key().unwrap().to_vec(), iter.value().unwrap()));
        }
        while iter.prev().unwrap() {
            back.push((iter.key().unwrap().to_vec(), iter.value().unwrap()));
        }
        back.reverse();
        assert!(there == back);
    }
}

fn collect(db: &Db) {
    loop {
        match db.store().gc_run() {
            Ok(runs) if runs.is_empty() => {}
            Ok(_) => say(format_args!("collected")),
            Err(StoreError::Cancelled(_)) => {}
            Err(error) => panic!("{error}"),
        }
        assert_eq!(db.store().gc_audit().unwrap(), []);
    }
}

/// What is killed: goes on until then. Told what was acknowledged, it first looks whether that is there.
fn child(dir: &Path) {
    let default = std::panic::take_hook();
    // The others must not go on as if nothing was.
    std::panic::set_hook(Box::new(move |info| {
        default(info);
        std::process::abort();
    }));
    let told = std::io::stdin().lines().map(|line| line.unwrap().parse().unwrap());
    let acknowledged: Vec<u64> = told.collect();
    let db = Db::open(&dir.join("data"), fire::options()).unwrap();
    let turns = Turns::new();
    let found = values(&db);
    // A write was under way at each key at most.
    let begun: Vec<u64> = acknowledged.iter().map(|turn| turn + 1).collect();
    allow_all(&found, &acknowledged, &begun);
    for (found, (writer, number)) in found.iter().zip(all_keys()) {
        let slot = slot(writer, number);
        let turn = match found {
            Some(found) => turn_of(found),
            None if fire::contents(writer, number, begun[slot]).is_none() => begun[slot],
            None => acknowledged[slot],
        };
        turns.begun[slot].store(turn, Ordering::SeqCst);
        turns.acknowledged[slot].store(turn, Ordering::SeqCst);
        say(format_args!("{slot} {turn}"));
    }
    let (db, turns, never) = (&db, &turns, &AtomicBool::new(false));
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                for n in 0.. {
                    let number = (n * 7 + n / KEYS * writer) % KEYS;
                    let turn = fire::write_one(db, turns, writer, number);
                    say(format_args!("{} {turn}", slot(writer, number)));
                }
            });
        }
        (0..READERS).for_each(|seed| drop(scope.spawn(move || fire::read(db, turns, seed, never))));
        scope.spawn(move || fire::look_twice(db, never));
        scope.spawn(move || iterate(db));
        scope.spawn(move || collect(db));
        scope.spawn(move || copies(db, turns, dir));
    });
}

/// What the processes have said.
#[derive(Clone, Debug, Default)]
struct Heard {
    acknowledged: Vec<u64>,
    writes: u64,
    collected: u64,
    copies: u64,
}

impl Heard {
    fn line(&mut self, line: &str) {
        let turn = line.split_once(' ').map(|(slot, turn)| (slot.parse::<usize>(), turn.parse()));
        match (line, turn) {
            ("collected", _) => self.collected += 1,
            ("copy", _) => self.copies += 1,
            (_, Some((Ok(slot), Ok(turn)))) => {
                self.acknowledged[slot] = turn;
                self.writes += 1;
            }
            // The harness of tests says something, too.
            _ => {}
        }
    }

    /// Whether everybody has done something since then.
    fn is_beyond(&self, before: &Self) -> bool {
        self.writes > before.writes + 2 * self.acknowledged.len() as u64
            && self.collected > before.collected
            && self.copies > before.copies
    }
}

/// One life of the process: for that time, and until everybody in it has done something.
fn life(dir: &Path, time: Duration, heard: &mut Heard) {
    let name = thread::current().name().unwrap().to_string();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([&name, "--exact", "--nocapture"])
        .env(CHILD, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let told: String = heard.acknowledged.iter().map(|turn| format!("{turn}\n")).collect();
    child.stdin.take().unwrap().write_all(told.as_bytes()).unwrap();
    let (before, began) = (heard.clone(), Instant::now());
    let mut killed = false;
    // What was said before the kill is still there after it.
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        heard.line(&line.unwrap());
        if !killed && began.elapsed() >= time && heard.is_beyond(&before) {
            child.kill().unwrap();
            killed = true;
        }
    }
    let status = child.wait().unwrap();
    assert!(status.signal() == Some(9) && killed, "it has ended by itself: {status}");
}

#[test]
fn nothing_acknowledged_is_lost_with_the_process() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return child(Path::new(&dir));
    }
    let seconds = |name: &str| {
        let set = std::env::var(name).ok().and_then(|seconds| seconds.parse().ok());
        set.map(Duration::from_secs)
    };
    let (time, each) = (seconds("KV_FIRE_SECONDS"), seconds("KV_FIRE_KILL_SECONDS").unwrap_or_default());
    let dir = tempfile::tempdir().unwrap();
    let mut heard = Heard { acknowledged: vec![0; Turns::new().begun.len()], ..Heard::default() };
    let began = Instant::now();
    for round in 1.. {
        life(dir.path(), each, &mut heard);
        whole(&dir.path().join("data"));
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let copy = entry.unwrap().path();
            if copy.ends_with("data") {
                continue;
            }
            // One that was cut short is no store.
            if copy.join(kv_manifest::names::CURRENT).exists() {
                whole(&copy);
            }
            std::fs::remove_dir_all(copy).unwrap();
        }
        let Heard { writes, collected, copies, .. } = heard;
        println!(
            "{round}, {:.0?}: {writes} writes, {collected} collections, {copies} copies",
            began.elapsed()
        );
        if time.map_or(round == ROUNDS, |time| began.elapsed() >= time) {
            break;
        }
    }
}
