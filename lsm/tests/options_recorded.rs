//! A directory remembers the shape of its levels, and is not opened with another one by mistake.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;

use kv_lsm::repair::{RepairOptions, repair};
use kv_lsm::{Db, Environment, Options, StoreError};
use kv_manifest::{Identity, Manifest};
use kv_vfs::mem::Survival;
use kv_vfs::{MemVfs, SystemClock, ThreadExecutor, Vfs as _};

const DIR: &str = "/data";

fn environment(disk: &MemVfs) -> Environment {
    let clock = Arc::new(SystemClock::default());
    Environment { vfs: Arc::new(disk.clone()), clock, executor: Arc::new(ThreadExecutor) }
}

fn open(disk: &MemVfs, options: &Options) -> Result<Db, StoreError> {
    Db::open_in(&environment(disk), Path::new(DIR), options.clone())
}

fn recorded(disk: &MemVfs, dir: &str) -> String {
    let options = kv_manifest::read(disk, Path::new(dir)).unwrap().identity.options;
    options.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn flat() -> Options {
    Options { base_bytes: 1 << 20, level_multiplier: 4, ..Options::default() }
}

const FLAT: &str = "base_bytes=1048576 comparator=bytewise level_multiplier=4 levels=7";
const PLAIN: &str = "base_bytes=268435456 comparator=bytewise level_multiplier=10 levels=7";

#[test]
fn another_shape_is_refused_until_it_is_accepted() {
    let disk = MemVfs::new();
    let db = open(&disk, &flat()).unwrap();
    db.put(b"key", "value").unwrap();
    db.close().unwrap();
    assert_eq!(recorded(&disk, DIR), FLAT);

    let files = || disk.list(Path::new(DIR)).unwrap();
    let before = files();
    let why = open(&disk, &Options::default()).unwrap_err().to_string();
    assert!(why.contains("base_bytes = 1048576, and is opened with 268435456"), "{why}");
    assert_eq!((files(), recorded(&disk, DIR)), (before, FLAT.to_owned()), "nothing was changed");
    open(&disk, &flat()).unwrap().close().unwrap();

    let accepting = Options { accept_level_options: true, ..Options::default() };
    let db = open(&disk, &accepting).unwrap();
    assert_eq!(recorded(&disk, DIR), PLAIN);
    db.put(b"more", "value").unwrap();
    drop(db);
    // Durable, and nobody has to accept it again.
    let db = open(&disk.crash_clone(&Survival::Synced), &Options::default()).unwrap();
    assert_eq!(db.get(b"key").unwrap().unwrap().value, "value");
    assert_eq!(db.get(b"more").unwrap().unwrap().value, "value");
    db.close().unwrap();
    open(&disk, &flat()).unwrap_err();
}

/// A crash anywhere in the open that accepts another shape leaves the old one or the new one, and all keys.
#[test]
fn a_crash_while_another_shape_is_recorded_leaves_one_of_them() {
    let disk = MemVfs::new();
    let db = open(&disk, &flat()).unwrap();
    db.put(b"key", "value").unwrap();
    drop(db);
    let accepting = Options { accept_level_options: true, ..Options::default() };
    let (mut old, mut new) = (0, 0);
    for stop in 1.. {
        let stopped = disk.crash_clone(&Survival::Everything);
        stopped.stop_after(stop);
        let finished = open(&stopped, &accepting).map(drop).is_ok() && !stopped.is_off();
        for survival in [Survival::Synced, Survival::Everything, Survival::Subset { seed: stop }] {
            let found = stopped.crash_clone(&survival);
            let options = match recorded(&found, DIR).as_str() {
                FLAT => flat(),
                PLAIN => Options::default(),
                other => panic!("{other}"),
            };
            *if options.base_bytes == flat().base_bytes { &mut old } else { &mut new } += 1;
            let db = open(&found, &options).unwrap();
            assert_eq!(db.get(b"key").unwrap().unwrap().value, "value", "stopped at {stop}, {survival:?}");
        }
        if finished {
            break;
        }
    }
    assert!(old > 20 && new > 3, "{old} and {new}");
}

/// Broken by: a manifest of before, which names the comparator alone, that is refused or opened as anything.
#[test]
fn a_directory_of_before_opens_as_it_was() {
    let disk = MemVfs::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let options = [("comparator".to_owned(), "bytewise".to_owned())].into();
    let identity = Identity { cluster_id: [1; 16], incarnation: 1, options, ..Identity::default() };
    let clock = Arc::new(SystemClock::default());
    drop(Manifest::create(Arc::new(disk.clone()), clock, Path::new(DIR), identity).unwrap());

    let why = open(&disk, &flat()).unwrap_err().to_string();
    assert!(why.contains("base_bytes = 268435456 (the value of before it was recorded)"), "{why}");
    open(&disk, &Options::default()).unwrap().close().unwrap();
    assert_eq!(recorded(&disk, DIR), "comparator=bytewise");
    let accepting = Options { accept_level_options: true, ..flat() };
    open(&disk, &accepting).unwrap().close().unwrap();
    assert_eq!(recorded(&disk, DIR), FLAT);
}

#[test]
fn another_order_of_keys_is_refused_by_all_who_read_tables() {
    let disk = MemVfs::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    let options = [("comparator".to_owned(), "reverse".to_owned())].into();
    let identity = Identity { cluster_id: [1; 16], incarnation: 1, options, ..Identity::default() };
    let (vfs, clock): (Arc<dyn kv_vfs::Vfs>, _) = (Arc::new(disk.clone()), Arc::new(SystemClock::default()));
    drop(Manifest::create(vfs.clone(), clock, Path::new(DIR), identity).unwrap());

    let accepting = Options { accept_level_options: true, ..Options::default() };
    let opened = open(&disk, &accepting).map(drop);
    let checked = kv_lsm::offline::check(&vfs, Path::new(DIR), &|_| {}).map(drop);
    let into = Path::new("/new");
    let repaired =
        repair(&environment(&disk), Path::new(DIR), into, RepairOptions::default(), &|_| {}).map(drop);
    for refused in [opened, checked, repaired] {
        let why = refused.unwrap_err().to_string();
        assert!(why.contains("comparator = reverse, and this program knows bytewise only"), "{why}");
    }
    assert!(!disk.exists(into).unwrap());
}

#[test]
fn checkpoints_and_repairs_carry_the_shape_on() {
    let disk = MemVfs::new();
    let db = open(&disk, &flat()).unwrap();
    db.put(b"key", "value").unwrap();
    db.checkpoint(Path::new("/copy")).unwrap();
    db.close().unwrap();
    repair(&environment(&disk), Path::new(DIR), Path::new("/new"), RepairOptions::default(), &|_| {})
        .unwrap();
    assert_eq!((recorded(&disk, "/copy"), recorded(&disk, "/new")), (FLAT.to_owned(), FLAT.to_owned()));
}
