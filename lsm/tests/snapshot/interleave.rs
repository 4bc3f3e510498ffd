//! Installing while workers are at work, on threads; what they do is held up at a sync, not by time.

use std::sync::Arc;
use std::thread;

use kv_lsm::{Options, Receiver, Store};
use kv_manifest::names;
use kv_vfs::{FaultVfs, MemVfs, Vfs};

use crate::node::*;

/// Nothing is flushed, rolled or compacted but on demand; two tables of level 0 are compacted.
fn quiet() -> Options {
    Options {
        memtable_bytes_max: 64 << 20,
        memtable_entries_max: 1 << 20,
        log_flush_bytes_max: 1 << 30,
        segment_bytes: 64 << 20..=64 << 20,
        ..options()
    }
}

struct Scene {
    disk: MemVfs,
    vfs: FaultVfs,
    node: Node,
    source: Node,
    received: Option<Receiver>,
}

impl Scene {
    /// A store with a table and something to flush, and a whole state that is received and not installed.
    fn new() -> Self {
        let disk = MemVfs::new();
        let vfs = FaultVfs::new(Arc::new(disk.clone()));
        let node = World::threaded(Arc::new(vfs.clone())).open_with(quiet()).unwrap();
        node.script(1, 10);
        node.store.flush().unwrap();
        node.script(1, 20);
        let (_disk, world) = memory();
        let source = world.open().unwrap();
        source.script(1, 100);
        let received = receive(&node.store, &records(&source.store.export(), 1 << 20)).unwrap();
        Self { disk, vfs, node, source, received: Some(received) }
    }

    /// The name of the table that is the `n`-th file from now on.
    fn table(&self, n: u64) -> String {
        let number = |name: &str| names::parse(name).and_then(names::FileName::number).unwrap_or_default();
        let last = self.vfs.list(dir()).unwrap().iter().map(|entry| number(&entry.name)).max();
        names::table_name(last.unwrap() + n)
    }

    fn install(&mut self) -> bool {
        let received = self.received.take().unwrap();
        self.node
            .store
            .install(received, self.source.store.applied().unwrap(), self.source.store.time(), None)
            .unwrap()
    }

    /// Everything is as the install left it, now and after a restart.
    fn ends_installed(self) {
        assert_eq!(self.node.contents(), self.source.contents());
        self.node.write(1, &[change(101)]).unwrap();
        self.node.store.close().unwrap();
        assert_eq!(orphans(&self.disk, &self.node.store), [""; 0]);
        drop(self.node);
        let vfs: Arc<dyn Vfs> = Arc::new(self.disk);
        whole(&vfs);
        let node = World::stepped(vfs).open().unwrap();
        assert_eq!(node.contents(), model(101));
    }
}

#[test]
fn a_compaction_of_tables_that_are_gone_is_given_up() {
    let mut scene = Scene::new();
    // The flush makes the next table, the compaction that it calls for the one after.
    let output = scene.table(2);
    let blocked = scene.vfs.block_sync(&output);
    scene.node.store.flush().unwrap();
    blocked.wait_until_blocked();
    assert!(scene.install(), "an install does not wait for a compaction");
    assert!(scene.disk.exists(&dir().join(&output)).unwrap());
    assert_eq!(scene.node.contents(), scene.source.contents());
    blocked.release();
    scene.ends_installed();
}

#[test]
fn an_install_waits_for_a_flush_and_replaces_it() {
    let mut scene = Scene::new();
    let blocked = scene.vfs.block_sync(&scene.table(1));
    let store: Arc<Store> = scene.node.store.clone();
    let flushing = thread::spawn(move || store.flush().unwrap());
    blocked.wait_until_blocked();
    let installing = thread::spawn(move || {
        assert!(scene.install());
        scene
    });
    blocked.release();
    flushing.join().unwrap();
    installing.join().unwrap().ends_installed();
}

/// Who waits for a flush that an install makes needless is woken.
#[test]
fn a_flush_that_is_waited_for_ends_with_an_install() {
    let (_disk, world) = memory();
    let source = world.open().unwrap();
    source.script(1, 100);
    let disk = MemVfs::new();
    let node = World::threaded(Arc::new(disk)).open_with(quiet()).unwrap();
    node.script(1, 10);
    for round in 1..=20u64 {
        let store = node.store.clone();
        let flushing = thread::spawn(move || store.flush().unwrap());
        while source.last() < 100 * (round + 1) {
            source.write(1, &[change(source.last() + 1)]).unwrap();
        }
        assert!(install(&source.store.export(), &node).unwrap());
        flushing.join().unwrap();
        node.write(1, &[change(source.last() + 1)]).unwrap();
        source.write(1, &[change(source.last() + 1)]).unwrap();
        assert_eq!(node.contents(), source.contents());
    }
}

/// Exports are taken while another thread writes and the workers flush and compact: each is the state at
/// its entry.
#[test]
fn exports_are_whole_whenever_they_are_taken() {
    let node = World::threaded(Arc::new(MemVfs::new())).open().unwrap();
    let store = node.store.clone();
    let writing = thread::spawn(move || node.script(1, 400));
    let mut seen = 0;
    while seen < 400 {
        let export = store.export();
        let Some(at) = export.at() else { continue };
        if at.index == seen {
            continue;
        }
        seen = at.index;
        let expected = model(seen);
        let records = records(&export, 200 << 10);
        assert!(records.iter().map(|record| &record.key).eq(expected.keys()), "at {seen}");
    }
    writing.join().unwrap();
}
