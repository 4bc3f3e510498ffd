//! The power goes at each operation of receiving, installing, appending and purging: what comes back is the
//! old state or the new one, with all that was acknowledged, and nothing besides.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use kv_lsm::{ExportRecord, StoreError};
use kv_vfs::{MemVfs, Survival, Vfs};
use kv_vlog::Position;

use crate::node::*;
use crate::share::{Doing, for_each, is_whole, share_of};

/// Where the states that are installed end.
const INSTALLS: [u64; 2] = [60, 130];

/// A state as it is sent.
struct Sent {
    at: Position,
    time: kv_lsm::LogTime,
    membership: Option<(Position, Bytes)>,
    records: Vec<ExportRecord>,
}

fn term_of(index: u64) -> u64 {
    if index <= 60 { 1 } else { 2 }
}

fn write(node: &Node) -> Result<u64, StoreError> {
    let index = node.last() + 1;
    node.write(term_of(index), &[small(index)]).map(|at| at.index)
}

/// The membership in force at an index.
fn membership(index: u64) -> Option<(Position, Bytes)> {
    let install = INSTALLS.into_iter().rfind(|at| *at <= index)?;
    Some((at(1, install / 2), format!("members of {install}").into()))
}

/// Made once: the source is not what is tested here.
static SENT: LazyLock<[Sent; 2]> = LazyLock::new(|| {
    INSTALLS.map(|last| {
        let (_disk, world) = memory();
        let node = world.open().unwrap();
        while node.last() < last {
            write(&node).unwrap();
        }
        let export = node.store.export();
        let at = export.at().unwrap();
        Sent { at, time: export.time(), membership: membership(last), records: records(&export, 1 << 20) }
    })
});

/// How far a run came.
#[derive(Clone, Default)]
struct Run {
    opened: bool,
    /// Everything up to here was acknowledged, and no more was begun than up to there.
    acknowledged: u64,
    begun: u64,
    /// The disk, and its operations within installs and purges: these are tried one by one.
    disk: Option<MemVfs>,
    dense: Vec<u64>,
}

impl Run {
    /// Opened, and found at an index.
    fn at(index: u64) -> Self {
        Self { opened: true, acknowledged: index, begun: index, ..Self::default() }
    }

    fn writes(&mut self, node: &Node, to: u64) -> Result<(), StoreError> {
        while node.last() < to {
            self.begun = self.begun.max(node.last() + 1);
            self.acknowledged = self.acknowledged.max(write(node)?);
        }
        Ok(())
    }

    fn install(&mut self, node: &Node, sent: &Sent) -> Result<(), StoreError> {
        let receiver = receive(&node.store, &sent.records)?;
        self.begun = self.begun.max(sent.at.index);
        let from = self.operations();
        assert!(node.store.install(receiver, sent.at, sent.time, sent.membership.clone())?);
        self.dense.extend(from..=self.operations() + 1);
        self.acknowledged = self.acknowledged.max(sent.at.index);
        Ok(())
    }

    fn flush_and_purge(&mut self, node: &Node, keep_bytes: Option<u64>) -> Result<(), StoreError> {
        node.store.flush()?;
        let upto = match keep_bytes {
            Some(bytes) => node.store.purge_candidate(bytes),
            None => node.store.flushed(),
        };
        let from = self.operations();
        upto.map_or(Ok(()), |at| node.store.purge(at))?;
        self.dense.extend(from..=self.operations() + 1);
        Ok(())
    }

    fn operations(&self) -> u64 {
        self.disk.as_ref().map_or(0, MemVfs::operations)
    }

    /// The script. `old`: how many entries there are before the first install.
    fn all(&mut self, vfs: &Arc<dyn Vfs>, old: u64) -> Result<(), StoreError> {
        let world = World::stepped(vfs.clone());
        let mut node = world.open()?;
        self.opened = true;
        self.writes(&node, old)?;
        world.pass();
        // Given up half way, then done.
        let half = &SENT[0].records[..SENT[0].records.len() / 2];
        drop(receive(&node.store, half)?);
        self.install(&node, &SENT[0])?;
        self.writes(&node, 66)?;
        self.flush_and_purge(&node, None)?;
        self.writes(&node, 110)?;
        world.pass();
        self.flush_and_purge(&node, Some(0))?;
        node.store.close()?;
        drop(node);
        node = world.open()?;
        self.writes(&node, 112)?;
        self.install(&node, &SENT[1])?;
        world.pass();
        self.writes(&node, 137)?;
        node.store.stop();
        drop(node);
        node = world.open()?;
        self.writes(&node, 139)?;
        self.flush_and_purge(&node, None)?;
        self.writes(&node, 140)?;
        node.store.close()
    }
}

fn run_until(n: u64, old: u64) -> (MemVfs, Run) {
    let disk = MemVfs::new();
    disk.stop_after(n);
    let mut run = Run { disk: Some(disk.clone()), ..Run::default() };
    let ended = run.all(&(Arc::new(disk.clone()) as Arc<dyn Vfs>), old);
    assert!(ended.is_ok() || disk.is_off(), "failed by itself: {:?}", ended.err());
    (disk, run)
}

/// What was opened is one of the states that may be there; says at which index.
fn allowed(node: &Node, run: &Run, vfs: &dyn Vfs) -> u64 {
    let index = node.store.applied().map_or(0, |at| at.index);
    assert!((run.acknowledged..=run.begun).contains(&index), "came back at {index}");
    assert!(node.contents() == small_model(index), "other contents than those at {index}");
    assert_eq!(node.store.membership(), membership(index).filter(|_| index >= INSTALLS[0]));
    assert_eq!(node.last(), index);
    assert_eq!(orphans(vfs, &node.store), [""; 0]);
    index
}

fn check(disk: &MemVfs, run: &Run) {
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    if run.opened {
        whole(&vfs);
    }
    let world = World::stepped(vfs.clone());
    let node = match world.open() {
        Ok(node) => node,
        Err(_) if !run.opened => return,
        Err(error) => panic!("does not open: {error}"),
    };
    let index = allowed(&node, run, &*vfs);
    write(&node).unwrap();
    node.store.close().unwrap();
    drop(node);
    whole(&vfs);
    let node = World::stepped(vfs.clone()).open().unwrap();
    allowed(&node, &Run::at(index + 1), &*vfs);
}

/// The power goes again while the store comes back; what it has let anybody read stays.
fn crash_again(disk: &MemVfs, run: &Run, n: u64) {
    let (disk, mut run) = (disk.crash_clone(&Survival::Everything), run.clone());
    disk.stop_after(1 + n % 23);
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    if let Ok(node) = World::stepped(vfs).open() {
        let index = node.store.applied().map_or(0, |at| at.index);
        run = Run::at(index);
    }
    check(&disk.crash_clone(&Survival::Torn { sector: 512, seed: n }), &run);
}

fn enumerate(old: u64, stride: u64) {
    let (disk, run) = run_until(u64::MAX, old);
    let last = disk.operations();
    let mut numbers = share_of(last, stride);
    if is_whole() {
        numbers.extend(run.dense);
        numbers.sort_unstable();
        numbers.dedup();
    }
    for_each(&numbers, |n| {
        let _doing = Doing(format!("power lost at {n} of {last}, {old} entries before"));
        let (disk, run) = run_until(n, old);
        let survivals = [
            Survival::Synced,
            Survival::Subset { seed: n },
            Survival::NamesLost { seed: n },
            Survival::Torn { sector: 4096, seed: n },
            Survival::Everything,
        ];
        // Each model in its turn, and always the one that forgets most.
        for survival in [&survivals[0], &survivals[1 + n as usize % 4]] {
            let _doing = Doing(format!("{survival:?}"));
            let left = disk.crash_clone(survival);
            if n.is_multiple_of(3) {
                crash_again(&left, &run, n);
            }
            check(&left, &run);
        }
    });
}

#[test]
fn over_an_older_state_the_old_or_the_new_is_there() {
    enumerate(25, 11);
}

#[test]
fn over_an_empty_store_the_old_or_the_new_is_there() {
    enumerate(0, 17);
}
