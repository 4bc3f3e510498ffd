//! A store on a disk in memory, and what the loss of power at each of its operations leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kv_lsm::{NewStore, Options, Store, StoreError};
use kv_vfs::{MemVfs, Survival, Vfs};
use kv_vlog::{Callback, Entry, Op, OpValue, Payload, Position, VlogError};
use parking_lot::Mutex;

use crate::crash::survivals;
use crate::dice::Dice;
use crate::node::{Contents, contents, records_of, stored};
use crate::share::Doing;
use crate::world::{Life, dir, shared};

/// Whose data it is.
const OURS: NewStore = NewStore { cluster_id: *b"a scenario's own", node_id: 1, incarnation: 7 };

/// More bytes than a segment of [`crate::world::options`] has: each such value begins a segment.
pub(super) const A_SEGMENT: usize = 70_000;

/// How many things are done and acknowledged.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps(Arc<AtomicU64>);

impl Steps {
    /// One more.
    pub fn done(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// One more when this is acknowledged.
    pub fn callback(&self) -> Callback {
        let steps = self.clone();
        Box::new(move |result| {
            if result.is_ok() {
                steps.done();
            }
        })
    }
}

/// An open store.
pub(super) struct Run {
    pub disk: MemVfs,
    pub life: Arc<Life<()>>,
    pub store: Arc<Store>,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.store.stop();
    }
}

impl Run {
    /// On an empty disk.
    pub fn new() -> Self {
        Self::open(&MemVfs::new()).unwrap()
    }

    pub fn open(disk: &MemVfs) -> Result<Self, StoreError> {
        Self::through(disk, &shared(disk))
    }

    /// On what a loss of power left of a disk, or a kill.
    pub fn reopen(disk: &MemVfs) -> Self {
        Self::open(disk).unwrap_or_else(|error| panic!("does not open: {error}"))
    }

    /// On a disk behind another file system.
    pub fn through(disk: &MemVfs, vfs: &Arc<dyn Vfs>) -> Result<Self, StoreError> {
        let life = Life::new(());
        kv_vfs::create_dir(&**vfs, dir())?;
        // Nothing is flushed but what the scenario flushes.
        let options = Options { idle_after: Duration::from_secs(3600), ..life.options() };
        let store = Store::open(&life.environment(vfs), dir(), options, Some(OURS))?;
        Ok(Self { disk: disk.clone(), life, store })
    }

    /// Index of the entry that comes next.
    pub fn next(&self) -> u64 {
        self.store.log().state().last.map_or(0, |at| at.index + 1)
    }

    /// One entry at the end of the log.
    pub fn append(&self, term: u64, payload: Payload, done: Callback) -> Result<(), VlogError> {
        let at = Position { term, index: self.next() };
        self.store.log().append(vec![Entry { at, time: 0, payload }], done)
    }

    /// Entries at the end of the log, durable.
    pub fn write(&self, term: u64, payloads: impl IntoIterator<Item = Payload>) {
        for payload in payloads {
            self.append(term, payload, Box::new(|_| {})).unwrap();
        }
        self.store.log().wait_durable().unwrap();
    }

    /// Everything below this index is committed and applied, and that is durable.
    pub fn commit(&self, next: u64) {
        self.store.log().set_committed(next);
        let applied = self.store.applied().map_or(0, |at| at.index + 1);
        for index in applied..next {
            for entry in self.store.log().entries(index..index + 1, 0, false).unwrap() {
                self.store.apply(&entry).unwrap();
            }
        }
        // When it is idle, the log names what is committed.
        self.life.pass(Duration::from_secs(1));
    }

    /// Terms of the entries that the log holds above its floor, each read.
    pub fn terms(&self) -> Vec<u64> {
        let log = self.store.log();
        let floor = log.state().purged.map_or(0, |at| at.index + 1);
        let term = |index: u64| match &log.entries(index..index + 1, 1, true).unwrap()[..] {
            [entry] => entry.at.term,
            other => panic!("{} entries at {index}", other.len()),
        };
        (floor..self.next()).map(term).collect()
    }

    /// All keys and values.
    pub fn contents(&self) -> Contents {
        contents(&self.store).unwrap()
    }

    /// A peer's state takes the place of this one.
    pub fn install(&self, state: &Contents, at: Position, membership: Option<(Position, Bytes)>) {
        let mut received = self.store.receive().unwrap();
        records_of(state).into_iter().try_for_each(|record| received.add(record)).unwrap();
        assert!(self.store.install(received, at, 0, membership).unwrap());
    }
}

/// A put of so many bytes.
pub(super) fn put(name: &str, length: usize) -> Payload {
    let (key, value) = (Bytes::copy_from_slice(name.as_bytes()), Dice(length as u64).bytes(length, 1));
    let value = OpValue::Full(stored(&key, value, kv_vlog::Expiry::NEVER));
    Payload::Ops(vec![Op::Put { key, value }])
}

/// Loses the power before each operation of what `act` does, in each model of what survives, and after the
/// last; kills the process there, too. Gives what is left to `check`, and how many steps were done then.
pub(super) fn at_every_loss(run: Run, act: impl FnOnce(&Run, &Steps), check: impl Fn(&MemVfs, u64)) {
    let (steps, left) = (Steps::default(), Arc::new(Mutex::new(Vec::new())));
    let (kept, counted) = (left.clone(), steps.clone());
    run.disk.before_each(move |moment| {
        let mut kept = kept.lock();
        let mut keep = |how: &str, disk| {
            kept.push((format!("before {:?}, {how}", moment.op()), counted.count(), disk));
        };
        for survival in survivals(moment.number()) {
            keep(&format!("power lost: {survival:?}"), moment.crash_clone(&survival));
        }
        keep("killed", moment.kill_clone());
    });
    act(&run, &steps);
    run.disk.unwatch();
    let mut left = std::mem::take(&mut *left.lock());
    assert!(left.len() > 9, "it did nothing to the disk");
    let last = run.disk.crash_clone(&Survival::Synced);
    left.push(("after the last operation".into(), steps.count(), last));
    drop(run);
    for (what, steps, disk) in left {
        let _doing = Doing(what);
        check(&disk, steps);
    }
}
