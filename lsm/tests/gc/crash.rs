//! The power goes at each operation of collections and of what comes between them: what comes back has all that was
//! acknowledged, where it was or where it was moved, and no file besides.

use std::sync::Arc;

use kv_lsm::StoreError;
use kv_vfs::{MemVfs, Survival, Vfs};

use crate::node::*;
use crate::share::{Doing, for_each, is_whole, share_of};
use crate::support::*;

/// How far a run came.
#[derive(Clone, Default)]
struct Run {
    opened: bool,
    /// Everything up to here was acknowledged, and no more was begun than up to there.
    acknowledged: u64,
    begun: u64,
    collections: u64,
    /// The disk, and its operations within collections: these are tried one by one.
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
            let index = node.last() + 1;
            self.begun = self.begun.max(index);
            self.acknowledged = self.acknowledged.max(node.write(1, &[small(index)])?.index);
        }
        Ok(())
    }

    fn collect(&mut self, node: &Node) -> Result<(), StoreError> {
        settle(node)?;
        let victims = complete(&node.store);
        let from = self.operations();
        if !victims.is_empty() {
            collect(&node.store, &victims)?;
            self.collections += 1;
        }
        self.dense.extend(from..=self.operations() + 1);
        Ok(())
    }

    fn operations(&self) -> u64 {
        self.disk.as_ref().map_or(0, MemVfs::operations)
    }

    fn all(&mut self, vfs: &Arc<dyn Vfs>) -> Result<(), StoreError> {
        let world = World::stepped(vfs.clone());
        let mut node = world.open()?;
        self.opened = true;
        self.writes(&node, 90)?;
        world.pass();
        self.collect(&node)?;
        self.writes(&node, 120)?;
        world.pass();
        // Given up half way, then done while somebody reads.
        settle(&node)?;
        let victims = complete(&node.store);
        let mut given_up = node.store.begin_collection(&victims)?;
        (0..30).try_for_each(|_| given_up.step(4 << 10).map(drop))?;
        drop(given_up);
        let reader = node.store.export();
        world.pass();
        self.collect(&node)?;
        self.writes(&node, 150)?;
        drop(reader);
        world.pass();
        self.collect(&node)?;
        node.store.close()?;
        drop(node);
        node = world.open()?;
        self.writes(&node, 200)?;
        world.pass();
        self.collect(&node)?;
        self.writes(&node, 203)?;
        node.store.stop();
        drop(node);
        node = world.open()?;
        world.pass();
        self.collect(&node)?;
        node.store.close()
    }
}

fn run_until(n: u64) -> (MemVfs, Run) {
    let disk = MemVfs::new();
    disk.stop_after(n);
    let mut run = Run { disk: Some(disk.clone()), ..Run::default() };
    let ended = run.all(&(Arc::new(disk.clone()) as Arc<dyn Vfs>));
    assert!(ended.is_ok() || disk.is_off(), "failed by itself: {:?}", ended.err());
    (disk, run)
}

/// What was opened is one of the states that may be there; says at which index.
fn allowed(node: &Node, run: &Run, vfs: &dyn Vfs) -> u64 {
    let index = node.store.applied().map_or(0, |at| at.index);
    assert!((run.acknowledged..=run.begun).contains(&index), "came back at {index}");
    assert!(node.contents() == small_model(index), "other contents than those at {index}");
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
    node.write(1, &[small(index + 1)]).unwrap();
    settle(&node).unwrap();
    // Compactions that have begun may write pointers into the files.
    world.pass();
    let victims = complete(&node.store);
    if !victims.is_empty() {
        collect(&node.store, &victims).unwrap();
    }
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

#[test]
fn values_are_where_they_were_or_where_they_were_moved() {
    let (disk, run) = run_until(u64::MAX);
    assert!(run.collections >= 5, "{}", run.collections);
    let last = disk.operations();
    let mut numbers = share_of(last, 13);
    if is_whole() {
        numbers.extend(run.dense);
        numbers.sort_unstable();
        numbers.dedup();
    }
    for_each(&numbers, |n| {
        let _doing = Doing(format!("power lost at {n} of {last}"));
        let (disk, run) = run_until(n);
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
