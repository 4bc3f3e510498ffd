//! Checkpoints while the power goes, and while others write.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use kv_lsm::{Db, Durability, Options, WriteBatch};
use kv_vfs::fault::{Fault, Rule, Times};
use kv_vfs::{FaultVfs, MemVfs, OpKind, Survival, Vfs};
use parking_lot::Mutex;

use crate::world::{contents, fill, open, small};

const DATA: &str = "/above/data";
const COPY: &str = "/copies/one";

fn survivals(seed: u64) -> [Survival; 5] {
    [
        Survival::Synced,
        Survival::Everything,
        Survival::Torn { sector: 512, seed },
        Survival::Subset { seed },
        Survival::NamesLost { seed },
    ]
}

#[test]
fn a_loss_of_power_at_any_operation_leaves_no_copy_or_a_whole_one() {
    let disk = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    let db = open(&vfs, DATA).unwrap();
    let expected = fill(&db, 100);
    let left: Arc<Mutex<Vec<(u64, Survival, MemVfs)>>> = Arc::default();
    let seen = left.clone();
    disk.before_each(move |moment| {
        let clones = survivals(moment.number()).map(|s| (moment.number(), s, moment.crash_clone(&s)));
        seen.lock().extend(clones);
    });
    db.checkpoint(Path::new(COPY)).unwrap();
    disk.unwatch();
    let done = survivals(0).map(|survival| (0, survival, disk.crash_clone(&survival)));
    let (mut none, mut whole) = (0, 0);
    for (at, survival, disk) in left.lock().drain(..).chain(done) {
        let vfs: Arc<dyn Vfs> = Arc::new(disk);
        let db = open(&vfs, DATA).unwrap_or_else(|error| panic!("{at} {survival:?}: {error}"));
        assert!(contents(&db) == expected, "{at} {survival:?}");
        db.close().unwrap();
        if !vfs.exists(&Path::new(COPY).join("CURRENT")).unwrap() {
            assert!(at > 0, "{survival:?}: gone after it was done");
            none += 1;
            continue;
        }
        match open(&vfs, COPY) {
            Ok(copy) => {
                assert!(contents(&copy) == expected, "{at} {survival:?}");
                copy.verify().unwrap();
                whole += 1;
            }
            // CURRENT itself may be cut until it is synced.
            Err(error) => {
                assert!(at > 0, "{survival:?}: {error}");
                assert!(error.to_string().contains("CURRENT"), "{at} {survival:?}: {error}");
            }
        }
    }
    assert!(none > 80 && whole >= 10, "{none} without a copy, {whole} with one");
}

#[test]
fn a_directory_that_holds_a_store_is_refused() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemVfs::new());
    let db = open(&vfs, DATA).unwrap();
    let expected = fill(&db, 10);
    db.checkpoint(Path::new(COPY)).unwrap();
    db.put(b"key", "later").unwrap();
    let error = db.checkpoint(Path::new(COPY)).unwrap_err();
    assert!(error.to_string().contains("not empty"), "{error}");
    assert!(db.checkpoint(Path::new(DATA)).is_err());
    assert_eq!(contents(&open(&vfs, COPY).unwrap()), expected);
}

#[test]
fn complete_files_are_linked_and_live_on() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemVfs::new());
    let db = open(&vfs, DATA).unwrap();
    let expected = fill(&db, 200);
    db.flush().unwrap();
    db.checkpoint(Path::new(COPY)).unwrap();
    let files = vfs.list(Path::new(COPY)).unwrap();
    let links = |suffix: &str| {
        let named = files.iter().filter(|entry| entry.name.ends_with(suffix));
        let count = |name: &str| vfs.link_count(&Path::new(COPY).join(name)).unwrap();
        named.map(|entry| count(&entry.name)).collect::<Vec<_>>()
    };
    assert!(links(".sst").iter().all(|links| *links == 2));
    let segments = links(".seg");
    assert!(segments.len() > 2 && segments.iter().filter(|links| **links == 1).count() == 1, "{segments:?}");
    // Everything is replaced where it came from.
    db.clear().unwrap();
    fill(&db, 400);
    db.flush().unwrap();
    db.close().unwrap();
    assert_eq!(contents(&open(&vfs, COPY).unwrap()), expected);
}

#[test]
fn what_cannot_be_linked_is_copied() {
    let disk = MemVfs::new();
    let faults = FaultVfs::new(Arc::new(disk.clone()));
    let vfs: Arc<dyn Vfs> = Arc::new(faults.clone());
    let db = open(&vfs, DATA).unwrap();
    let expected = fill(&db, 200);
    db.flush().unwrap();
    let (op, path_contains) = (OpKind::Link, String::new());
    faults.fail(Rule { op, path_contains, nth: 1, times: Times::Forever, error: Fault::Eio });
    db.checkpoint(Path::new(COPY)).unwrap();
    let names = vfs.list(Path::new(COPY)).unwrap();
    let single = |name: &str| vfs.link_count(&Path::new(COPY).join(name)).unwrap() == 1;
    assert!(names.len() > 5 && names.iter().all(|entry| single(&entry.name)));
    let left: Arc<dyn Vfs> = Arc::new(disk.crash_clone(&Survival::Synced));
    assert_eq!(contents(&open(&left, COPY).unwrap()), expected);
}

/// Each writer counts in two keys, in one entry each time.
#[test]
fn of_a_moment_while_others_write() {
    let base = tempfile::tempdir().unwrap();
    let db = Db::open(&base.path().join("data"), small()).unwrap();
    let done = AtomicBool::new(false);
    let acknowledged = [AtomicU64::new(0), AtomicU64::new(0)];
    std::thread::scope(|scope| {
        for (writer, acknowledged) in acknowledged.iter().enumerate() {
            let (db, done) = (&db, &done);
            scope.spawn(move || {
                for count in 1.. {
                    let mut batch = WriteBatch::default();
                    for key in ["a", "b"] {
                        let value = [count.to_string().as_bytes(), &[b' '; 1500]].concat();
                        batch.put(format!("{key}{writer}").as_bytes(), value);
                    }
                    batch.durability(if count % 2 == 0 { Durability::Sync } else { Durability::Batched });
                    db.write(batch).unwrap();
                    acknowledged.store(count, Ordering::Release);
                    if done.load(Ordering::Acquire) && count > 200 {
                        return;
                    }
                }
            });
        }
        for copy in 0..8 {
            let before = acknowledged.each_ref().map(|count| count.load(Ordering::Acquire));
            let dir = base.path().join(format!("copy{copy}"));
            db.checkpoint(&dir).unwrap();
            let copied = Db::open(&dir, Options::default()).unwrap();
            for (writer, before) in before.into_iter().enumerate() {
                let [a, b] = ["a", "b"].map(|key| count_in(&copied, &format!("{key}{writer}")));
                assert_eq!(a, b);
                assert!(a >= before, "{a} of {before}");
            }
            copied.close().unwrap();
        }
        done.store(true, Ordering::Release);
    });
    db.close().unwrap();
}

fn count_in(db: &Db, key: &str) -> u64 {
    let Some(found) = db.get(key.as_bytes()).unwrap() else { return 0 };
    let value: Bytes = found.value;
    std::str::from_utf8(&value).unwrap().trim_end().parse().unwrap()
}
