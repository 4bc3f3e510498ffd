//! One sequence: operations on a database and on the model.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_lsm::{
    Applied, Db, Durability, Environment, Expect, Expiry, LogTime, Options, ScanRange, Snapshot, StoreError,
    WriteBatch,
};
use kv_vfs::{Clock, ManualClock, MemVfs, SteppedExecutor, Survival, SystemClock, ThreadExecutor, Vfs};

use crate::dice::Dice;
use crate::iterators::{self, Walked};
use crate::model::{Contents, Model, State, in_range, is_found};
use crate::options;

const STEPS: u64 = 250;
const DIR: &str = "/above/data";

/// Runs the sequence of a seed.
pub fn run(seed: u64) {
    let mut run = Run::new(seed);
    for _ in 0..STEPS {
        run.step();
    }
    run.reopen(true);
    run.check_all();
    run.db().verify().unwrap();
}

/// Wall time is what it is set to; monotonic time goes on besides, for threads.
#[derive(Debug)]
struct Watch {
    set: Arc<ManualClock>,
    runs: SystemClock,
}

impl Clock for Watch {
    fn unix_ms(&self) -> u64 {
        self.set.unix_ms()
    }

    fn monotonic(&self) -> Duration {
        self.set.monotonic() + self.runs.monotonic()
    }
}

struct Run {
    dice: Dice,
    options: Options,
    disk: MemVfs,
    /// What time it is; it goes on through restarts.
    clock: Arc<ManualClock>,
    /// Work, where it is simulated.
    stepped: Option<SteppedExecutor>,
    db: Option<Db>,
    model: Model,
    snapshots: Vec<(Snapshot, Contents)>,
    walks: Vec<Walked>,
    copies: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut run = Self {
            dice: Dice::new(seed),
            options: options::of(seed).1,
            disk: MemVfs::new(),
            clock: Arc::default(),
            stepped: None,
            db: None,
            model: Model::new(State::default()),
            snapshots: Vec::new(),
            walks: Vec::new(),
            copies: 0,
        };
        run.open();
        run
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    /// On real threads, or on this one, by chance.
    fn environment(&mut self) -> Environment {
        let vfs: Arc<dyn Vfs> = Arc::new(self.disk.clone());
        self.stepped = None;
        if self.dice.once_in(3) {
            let clock = Watch { set: self.clock.clone(), runs: SystemClock::default() };
            return Environment { vfs, clock: Arc::new(clock), executor: Arc::new(ThreadExecutor) };
        }
        let executor = SteppedExecutor::new(self.clock.clone());
        self.stepped = Some(executor.clone());
        Environment { vfs, clock: self.clock.clone(), executor: Arc::new(executor) }
    }

    fn open(&mut self) {
        let environment = self.environment();
        self.db = Some(Db::open_in(&environment, Path::new(DIR), self.options.clone()).unwrap());
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..20 => self.put(),
            20..30 => self.delete(),
            30..40 => self.batch(),
            40..50 => self.conditional(),
            50..53 => self.get_and_delete(),
            53..56 => self.delete_range(),
            56..66 => self.get(),
            66..70 => self.multi_get(),
            70..74 => self.scan(),
            74..80 => self.walk(),
            80..83 => self.past(),
            83..87 => self.snapshot(),
            87..90 => self.db().flush().unwrap(),
            90..94 => self.pass(),
            94 => self.look(),
            95 => self.checkpoint(),
            96 | 97 => self.reopen(true),
            98 => self.reopen(false),
            _ => self.lose_power(),
        }
    }

    /// The last entry applied, and what time it is.
    fn stands(&self) -> (u64, LogTime) {
        // Both of one moment.
        let now = self.db().store().snapshot();
        (now.seq() >> 16, now.time())
    }

    fn seconds(&self) -> LogTime {
        (self.clock.unix_ms() / 1000) as LogTime
    }

    /// What is there now, after something read it: that may have had time go on.
    fn now(&mut self) -> Contents {
        let (index, time) = self.stands();
        self.model.note(index, time);
        self.model.now()
    }

    fn durability(&mut self) -> Durability {
        if self.dice.once_in(4) { Durability::Sync } else { Durability::Batched }
    }

    /// Writes a batch that takes effect; the model changes accordingly.
    fn write(&mut self, mut batch: WriteBatch, change: impl FnOnce(&mut Contents, u64)) {
        let durability = self.durability();
        batch.durability(durability);
        let Applied::Done { revision } = self.db().write(batch).unwrap() else { panic!("refused") };
        self.changed(revision, change);
        if durability == Durability::Sync {
            self.model.durable();
        }
    }

    /// A write took effect, of which this is the first revision.
    fn changed(&mut self, revision: u64, change: impl FnOnce(&mut Contents, u64)) {
        let (_, time) = self.stands();
        self.model.change(revision >> 16, time, |now| change(now, revision));
    }

    /// Adds a put to a batch; gives when it goes away.
    fn add_put(&mut self, batch: &mut WriteBatch, key: &Bytes, value: &Bytes) -> Expiry {
        if !self.dice.once_in(3) {
            batch.put(key, value.clone());
            return Expiry::NEVER;
        }
        let time = Duration::from_millis(self.dice.below(6_000));
        batch.put_for(key, value.clone(), time);
        // Nothing was written later than the clock says.
        Expiry::after(self.seconds(), time)
    }

    fn put(&mut self) {
        let (key, value) = (self.dice.key(), self.dice.value());
        let mut batch = WriteBatch::default();
        let expires = self.add_put(&mut batch, &key, &value);
        self.write(batch, |now, revision| drop(now.insert(key, (value, revision, expires))));
    }

    fn delete(&mut self) {
        let key = self.dice.key();
        let mut batch = WriteBatch::default();
        batch.delete(&key);
        self.write(batch, |now, _| drop(now.remove(&key)));
    }

    fn batch(&mut self) {
        let mut batch = WriteBatch::default();
        let mut changes: Vec<(Bytes, Option<(Bytes, Expiry)>)> = Vec::new();
        for _ in 0..1 + self.dice.below(8) {
            let (key, value) = (self.dice.key(), self.dice.value());
            if self.dice.once_in(3) {
                batch.delete(&key);
                changes.push((key, None));
            } else {
                let expires = self.add_put(&mut batch, &key, &value);
                changes.push((key, Some((value, expires))));
            }
        }
        self.write(batch, |now, first| {
            for (revision, (key, value)) in (first..).zip(changes) {
                match value {
                    Some((value, expires)) => drop(now.insert(key, (value, revision, expires))),
                    None => drop(now.remove(&key)),
                }
            }
        });
    }

    /// A write whose condition holds, or not.
    fn conditional(&mut self) {
        let (key, value) = (self.dice.key(), self.dice.value());
        // The write says itself what time it is.
        let seen = self.model.at(self.stands().1.max(self.seconds()));
        let current = seen.get(&key).map(|(_, revision, _)| *revision);
        let expect = match (self.dice.below(3), current) {
            (0, _) => Expect::Absent,
            (1, Some(revision)) => Expect::Seq(revision),
            (_, revision) => Expect::Seq(revision.unwrap_or_default() + 1),
        };
        let holds = match expect {
            Expect::Absent => current.is_none(),
            Expect::Seq(revision) => current == Some(revision),
        };
        let is_delete = self.dice.once_in(3);
        let applied = match is_delete {
            true => self.db().delete_if(&key, expect).unwrap(),
            false => self.db().put_if(&key, value.clone(), expect).unwrap(),
        };
        match applied {
            Applied::Done { revision } if holds => self.changed(revision, |now, _| {
                now.remove(&key);
                if !is_delete {
                    now.insert(key, (value, revision, Expiry::NEVER));
                }
            }),
            Applied::Refused { check: 0, current: found } if !holds => assert_eq!(found, current),
            other => panic!("{expect:?} of {current:?}: {other:?}"),
        }
        // Even a refusal is in the log, behind all that came before.
        self.now();
        self.model.durable();
    }

    fn get_and_delete(&mut self) {
        let key = self.dice.key();
        let found = self.db().get_and_delete(&key).unwrap();
        let (index, time) = self.stands();
        let expected = self.model.at(time);
        assert!(is_found(expected.get(&key), found.as_ref()), "{key:?}: {found:?}");
        if found.is_some() {
            self.model.change(index, time, |now| drop(now.remove(&key)));
            self.model.durable();
        }
    }

    fn delete_range(&mut self) {
        let range = iterators::range(&mut self.dice);
        let (_, before) = self.stands();
        let all = range == ScanRange::default();
        let deleted = if all { self.db().clear() } else { self.db().delete_range(range.clone()) };
        let (index, time) = self.stands();
        let gone_at = |time| in_range(&self.model.at(time), &range).cloned().collect::<Vec<Bytes>>();
        // What time it was when the keys were looked for, nobody says.
        let (most, least) = (gone_at(before), gone_at(time).len() as u64);
        assert!((least..=most.len() as u64).contains(&deleted.unwrap()));
        self.model.change(index, time, |now| now.retain(|key, _| !most.contains(key)));
        self.model.durable();
    }

    fn get(&mut self) {
        let key = self.dice.key();
        let found = self.db().get(&key).unwrap();
        let now = self.now();
        let expected = now.get(&key);
        assert!(is_found(expected, found.as_ref()), "{key:?}: {found:?}");
        let Some((value, ..)) = expected.cloned() else { return };
        let (offset, length) = (self.dice.below(value.len() as u64 + 2), self.dice.below(300_000));
        // Gone since, if the first read had to leave the time as it was.
        let Some(part) = self.db().get_range(&key, offset, length).unwrap() else {
            return assert_eq!(self.now().get(&key), None);
        };
        let from = value.len().min(offset as usize);
        assert_eq!(part.value, value[from..value.len().min(from + length as usize)]);
    }

    fn multi_get(&mut self) {
        let keys: Vec<Bytes> = (0..self.dice.below(20)).map(|_| self.dice.key()).collect();
        let found = self.db().multi_get(&keys).unwrap();
        let now = self.now();
        for (key, found) in keys.iter().zip(&found) {
            assert!(is_found(now.get(key), found.as_ref()), "{key:?}: {found:?}");
        }
        assert_eq!(found.len(), keys.len());
    }

    fn scan(&mut self) {
        let range = iterators::range(&mut self.dice);
        let found: Vec<Bytes> =
            self.db().scan(range.clone()).unwrap().map(|item| item.unwrap().key).collect();
        assert!(found.iter().eq(in_range(&self.now(), &range)), "{range:?}");
        let (part, all) =
            (self.db().approximate_size(&range), self.db().approximate_size(&ScanRange::default()));
        let (part, all) = (part.unwrap(), all.unwrap());
        // Without the structure changing in between: background work may.
        if self.stepped.is_some() {
            assert!(part.table_bytes <= all.table_bytes && part.value_bytes <= all.value_bytes);
        }
    }

    /// A new iterator, or one that was there before all that was written since.
    fn walk(&mut self) {
        if self.walks.len() < 3 && self.dice.once_in(2) {
            let options = iterators::options(&mut self.dice);
            let iter = self.db().iter(options.clone());
            let now = self.now();
            self.walks.push(Walked::new(&now, &options, iter));
        }
        let Some(mut walk) = self.walks.pop() else { return };
        for _ in 0..10 {
            walk.step(&mut self.dice);
        }
        if !self.dice.once_in(4) {
            self.walks.insert(0, walk);
        }
    }

    fn snapshot(&mut self) {
        if self.snapshots.len() < 3 {
            let snapshot = self.db().snapshot();
            let now = self.now();
            return self.snapshots.push((snapshot, now));
        }
        let (snapshot, contents) = self.snapshots.remove(self.dice.below(3) as usize);
        self.look_into(&snapshot, &contents);
        if self.dice.once_in(2) {
            self.snapshots.push((snapshot, contents));
        }
    }

    /// A state of before, if it is kept.
    fn past(&mut self) {
        let states = self.model.past().count() as u64;
        let back = 1 + self.dice.below(states.min(40));
        let state = self.model.past().nth_back(back as usize - 1).unwrap().clone();
        let (revisions, age) = (self.options.keep_versions, self.options.keep_age.unwrap_or_default());
        self.now();
        let is_kept = self.model.is_kept(&state, revisions, age.as_secs() as LogTime);
        match self.db().snapshot_at(state.index << 16) {
            Ok(snapshot) => {
                let contents = state.at(state.time);
                self.look_into(&snapshot, &contents);
                if self.dice.once_in(3) && self.snapshots.len() < 3 {
                    self.snapshots.push((snapshot, contents));
                }
            }
            Err(StoreError::Compacted { oldest, .. }) => {
                assert!(!is_kept && oldest >> 16 > state.index, "{} of {:?}", state.index, self.stands());
            }
            // Nothing was written yet.
            Err(StoreError::Invalid(_)) => assert_eq!(self.stands().0, 0),
            Err(other) => panic!("{other}"),
        }
    }

    fn look_into(&mut self, snapshot: &Snapshot, contents: &Contents) {
        let key = self.dice.key();
        assert!(is_found(contents.get(&key), snapshot.get(&key, None).unwrap().as_ref()));
        let keys: Vec<Bytes> = contents.keys().cloned().collect();
        let found = snapshot.multi_get(&keys).unwrap();
        assert!(contents.values().zip(&found).all(|(value, found)| is_found(Some(value), found.as_ref())));
        let options = iterators::options(&mut self.dice);
        let mut walk = Walked::new(contents, &options, snapshot.iter(options.clone()));
        for _ in 0..10 {
            walk.step(&mut self.dice);
        }
        walk.replace(snapshot.iter(options));
        for _ in 0..10 {
            walk.step(&mut self.dice);
        }
        let found = snapshot.iter(kv_lsm::IterOptions::default()).entries().map(Result::unwrap);
        let found: Contents =
            found.map(|(key, found)| (key, (found.value, found.revision, found.expires))).collect();
        assert!(found == *contents, "{:?}, {:?}", found.keys(), contents.keys());
    }

    /// Time passes, and what is to be done in the background is done.
    fn pass(&mut self) {
        let time = Duration::from_millis(if self.dice.once_in(3) { self.dice.below(4_000) } else { 100 });
        match &self.stepped {
            Some(executor) => drop(executor.advance(time.max(Duration::from_millis(100)))),
            None => {
                self.clock.advance(time);
                self.db().store().log().wait_durable().unwrap();
            }
        }
        self.now();
        self.model.durable();
        if self.stepped.is_some() {
            let _ = self.db().get(b"key").unwrap();
            let store = self.db().store();
            assert!(!store.may_expire() || store.time() == self.seconds(), "time stands still");
        }
    }

    fn look(&mut self) {
        let stats = self.db().stats().unwrap();
        assert!(stats.live_bytes <= stats.segment_bytes);
        assert!(stats.caches.open_files <= self.options.open_tables_max as u64);
        let verified = self.db().verify().unwrap();
        assert!(verified.segments >= 1);
    }

    fn checkpoint(&mut self) {
        self.copies += 1;
        let dir = format!("/copies/{}", self.copies);
        self.db().checkpoint(Path::new(&dir)).unwrap();
        // What is written here afterwards is not there.
        let expected = self.now();
        self.model.durable();
        self.put();
        self.db().flush().unwrap();
        self.model.durable();
        let disk =
            if self.dice.once_in(2) { self.disk.crash_clone(&Survival::Synced) } else { self.disk.clone() };
        let executor = SteppedExecutor::new(Arc::new(ManualClock::default()));
        let environment = Environment {
            vfs: Arc::new(disk),
            clock: Arc::new(ManualClock::default()),
            executor: Arc::new(executor),
        };
        let copy = Db::open_in(&environment, Path::new(&dir), self.options.clone()).unwrap();
        assert_eq!(contents(&copy), expected);
        copy.put(b"only in the copy", "x").unwrap();
        copy.close().unwrap();
        self.check_all();
    }

    fn reopen(&mut self, clean: bool) {
        self.snapshots.clear();
        let db = self.db.take().unwrap();
        // Iterators outlive it.
        match clean {
            true => db.close().unwrap(),
            false => drop(db),
        }
        if let Some(mut walk) = self.walks.pop() {
            (0..10).for_each(|_| walk.step(&mut self.dice));
        }
        self.walks.clear();
        self.model.durable();
        self.open();
        self.check_all();
    }

    fn lose_power(&mut self) {
        let seed = self.dice.below(u64::from(u32::MAX));
        let survival = match self.dice.below(5) {
            0 => Survival::Synced,
            1 => Survival::Everything,
            2 => Survival::Torn { sector: 512, seed },
            3 => Survival::Subset { seed },
            _ => Survival::NamesLost { seed },
        };
        let left = self.disk.crash_clone(&survival);
        self.snapshots.clear();
        self.walks.clear();
        self.db = None;
        self.disk = left;
        self.open();
        // With threads, what time it is may have been written down meanwhile.
        let index = self.stepped.is_some().then(|| self.stands().0);
        let found = contents(self.db());
        let now = self.stands();
        assert!(self.model.back_to(index, now, &found), "{survival:?}: {index:?}, {:?}", found.keys());
        self.model.note(now.0, now.1);
    }

    fn check_all(&mut self) {
        let found = contents(self.db());
        let now = self.now();
        assert!(found == now, "{:?}, {:?}", found.keys(), now.keys());
    }
}

fn contents(db: &Db) -> Contents {
    let all = db.iter(kv_lsm::IterOptions { read_ahead: 4, ..Default::default() });
    let all = all.entries().map(Result::unwrap);
    all.map(|(key, found)| (key, (found.value, found.revision, found.expires))).collect()
}
