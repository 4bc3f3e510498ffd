//! What is in tables is committed, whatever mark of the log survived.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kv_lsm::{Environment, NewStore, Options, Store};
use kv_vfs::mem::Survival;
use kv_vfs::{MemVfs, SystemClock, ThreadExecutor, Vfs as _};
use kv_vlog::{Compression, Entry, Op, OpValue, Payload, Position, StoredValue};

fn open(disk: &MemVfs) -> Arc<Store> {
    let environment = Environment {
        vfs: Arc::new(disk.clone()),
        clock: Arc::new(SystemClock::default()),
        executor: Arc::new(ThreadExecutor),
    };
    let new = NewStore { cluster_id: [1; 16], node_id: 1, incarnation: 1 };
    Store::open(&environment, Path::new("/data"), Options::default(), Some(new)).unwrap()
}

/// Broken by: an open that takes the log's mark for all that is committed. Entries that are in tables could then
/// be truncated.
#[test]
fn entries_in_tables_are_committed_after_a_power_loss() {
    let disk = MemVfs::new();
    disk.create_dir_all(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let store = open(&disk);
    let key = Bytes::from_static(b"key");
    let value = StoredValue::new(&key, Bytes::from_static(b"value"), &Compression::default());
    let ops = vec![Op::Put { key, value: OpValue::Full(value) }];
    let entry = Entry { at: Position { term: 1, index: 0 }, time: 0, payload: Payload::Ops(ops) };
    store.log().append(vec![entry], Box::new(|_| {})).unwrap();
    store.log().wait_durable().unwrap();
    let committed = store.log().entries(0..1, u64::MAX, false).unwrap();
    store.apply(&committed[0]).unwrap();
    // The mark, were it set, would ride in a group that the power loss takes away.
    store.flush().unwrap();

    let reopened = open(&disk.crash_clone(&Survival::Synced));
    assert_eq!(reopened.flushed().map(|at| at.index), Some(0));
    assert_eq!(reopened.log().committed_next(), 1);
    reopened.stop();
    store.stop();
}
