//! The model of a crash, as the other crates rely on it.

use std::collections::BTreeSet;
use std::io::{ErrorKind, IoSlice};

use super::*;
use crate::{AlignedBuf, BLOCK};

fn path(path: &str) -> &Path {
    Path::new(path)
}

/// A disk with the synced directory `/d`.
fn disk() -> MemVfs {
    let disk = MemVfs::new();
    disk.create_dir_all(path("/d")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    disk
}

/// A new file with this data; neither is synced.
fn put(disk: &MemVfs, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.create(path(name), IoMode::Buffered).unwrap();
    file.write_at(bytes, 0).unwrap();
    file
}

fn names_after(disk: &MemVfs, survival: Survival) -> Vec<String> {
    disk.crash_clone(&survival).files().iter().map(|path| path.display().to_string()).collect()
}

fn data_after(disk: &MemVfs, name: &str, survival: Survival) -> Vec<u8> {
    disk.crash_clone(&survival).read_file(path(name)).unwrap()
}

#[test]
fn a_synced_file_in_a_directory_not_synced_is_lost() {
    let disk = disk();
    let file = put(&disk, "/d/a", b"data");
    file.sync_data().unwrap();
    assert!(names_after(&disk, Survival::Synced).is_empty());
    disk.sync_dir(path("/d")).unwrap();
    assert_eq!(names_after(&disk, Survival::Synced), ["/d/a"]);
    assert_eq!(data_after(&disk, "/d/a", Survival::Synced), b"data");
}

#[test]
fn a_directory_whose_own_name_was_not_synced_is_lost_with_all_in_it() {
    let disk = MemVfs::new();
    disk.create_dir_all(path("/x/y")).unwrap();
    put(&disk, "/x/y/a", b"data").sync_data().unwrap();
    disk.sync_dir(path("/x/y")).unwrap();
    disk.sync_dir(path("/x")).unwrap();
    assert!(!disk.crash_clone(&Survival::Synced).exists(path("/x")).unwrap());
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(names_after(&disk, Survival::Synced), ["/x/y/a"]);
}

#[test]
fn a_name_without_synced_data_is_an_empty_file() {
    let disk = disk();
    put(&disk, "/d/a", b"data");
    disk.sync_dir(path("/d")).unwrap();
    assert_eq!(data_after(&disk, "/d/a", Survival::Synced), b"");
    assert_eq!(data_after(&disk, "/d/a", Survival::Everything), b"data");
}

#[test]
fn a_rename_not_synced_may_come_back() {
    let disk = disk();
    disk.write_file(path("/d/CURRENT"), b"old").unwrap();
    put(&disk, "/d/tmp", b"new").sync_data().unwrap();
    disk.rename(path("/d/tmp"), path("/d/CURRENT")).unwrap();
    assert_eq!(disk.read_file(path("/d/CURRENT")).unwrap(), b"new");
    assert_eq!(names_after(&disk, Survival::Synced), ["/d/CURRENT"]);
    assert_eq!(data_after(&disk, "/d/CURRENT", Survival::Synced), b"old");

    let outcomes: BTreeSet<_> = (0..50)
        .map(|seed| {
            let after = disk.crash_clone(&Survival::NamesLost { seed });
            (after.files().len(), after.read_file(path("/d/CURRENT")).unwrap())
        })
        .collect();
    // Nothing, the new file alone, or the rename as well; never a half of it.
    assert_eq!(outcomes, [(1, b"old".to_vec()), (2, b"old".to_vec()), (1, b"new".to_vec())].into());

    disk.sync_dir(path("/d")).unwrap();
    assert_eq!(data_after(&disk, "/d/CURRENT", Survival::Synced), b"new");
}

#[test]
fn a_removal_not_synced_may_come_back() {
    let disk = disk();
    disk.write_file(path("/d/a"), b"data").unwrap();
    disk.remove(path("/d/a")).unwrap();
    assert!(disk.files().is_empty());
    assert_eq!(data_after(&disk, "/d/a", Survival::Synced), b"data");
    disk.sync_dir(path("/d")).unwrap();
    assert!(names_after(&disk, Survival::Synced).is_empty());
}

#[test]
fn a_rename_between_directories_is_one_change_in_each() {
    let disk = disk();
    disk.create_dir_all(path("/e")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    disk.write_file(path("/d/a"), b"data").unwrap();
    disk.rename(path("/d/a"), path("/e/a")).unwrap();
    assert_eq!(disk.link_count(path("/e/a")).unwrap(), 1);
    disk.sync_dir(path("/e")).unwrap();
    let after = disk.crash_clone(&Survival::Synced);
    assert_eq!(after.files(), [path("/d/a"), path("/e/a")]);
    assert_eq!(after.link_count(path("/d/a")).unwrap(), 2);
}

#[test]
fn a_directory_does_not_get_two_places_in_the_tree() {
    let disk = MemVfs::new();
    disk.write_file(path("/x/y/f"), b"").unwrap();
    // Were the first to survive without the second, x would be in y and y in x.
    disk.rename(path("/x/y"), path("/y")).unwrap();
    disk.rename(path("/x"), path("/y/x")).unwrap();
    assert_eq!(disk.rename(path("/y"), path("/y/x/y")).unwrap_err().kind(), ErrorKind::InvalidInput);
    for seed in 0..50 {
        assert!(names_after(&disk, Survival::NamesLost { seed }).len() <= 1);
    }
}

#[test]
fn torn_writes_survive_in_order_and_end_at_a_sector() {
    for sector in [512, 4096] {
        let disk = disk();
        let file = put(&disk, "/d/a", &[1; 10_000]);
        file.sync_data().unwrap();
        file.write_at(&[2; 10_000], 0).unwrap();
        file.write_at(&[3; 10_000], 10_000).unwrap();
        let outcomes: BTreeSet<_> =
            (0..300).map(|seed| data_after(&disk, "/d/a", Survival::Torn { sector, seed })).collect();
        for bytes in &outcomes {
            let [ones, twos, threes] = [1, 2, 3].map(|v| bytes.iter().filter(|b| **b == v).count());
            let mut expected = vec![2; twos];
            expected.resize(twos + ones, 1);
            expected.resize(twos + ones + threes, 3);
            assert_eq!(*bytes, expected);
            assert!(threes == 0 || ones == 0, "a later write without an earlier one");
            let cut = if threes > 0 { 10_000 + threes } else { twos };
            assert!(cut % sector == 0 || cut == 10_000 || cut == 20_000, "cut at {cut}");
        }
        assert!(outcomes.len() > 3, "{}", outcomes.len());
        assert!(outcomes.iter().any(|bytes| bytes.len() == 20_000));
    }
}

#[test]
fn a_subset_of_sectors_survives_and_holes_are_zero() {
    let disk = disk();
    let file = put(&disk, "/d/a", &[1; 512]);
    file.sync_data().unwrap();
    disk.sync_dir(path("/d")).unwrap();
    for n in 0..4 {
        file.write_at(&[2; 512], n * 512).unwrap();
    }
    let outcomes: BTreeSet<_> = (0..500)
        .map(|seed| {
            let bytes = data_after(&disk, "/d/a", Survival::Subset { seed });
            let sectors: Vec<u8> = bytes.chunks(512).map(|sector| sector[0]).collect();
            assert!(bytes.chunks(512).all(|sector| sector.iter().all(|b| *b == sector[0])));
            sectors
        })
        .collect();
    // Two states of the first sector, and any subset of the others; the last that survives is the end.
    assert_eq!(outcomes.len(), 2 * 8);
    assert!(outcomes.contains(&vec![1, 0, 0, 2]) && outcomes.contains(&vec![1]));
}

#[test]
fn lengths_survive_as_writes_do() {
    let disk = disk();
    let file = put(&disk, "/d/a", &[1; 1000]);
    file.sync_data().unwrap();
    disk.sync_dir(path("/d")).unwrap();
    file.set_len(10).unwrap();
    file.set_len(2000).unwrap();
    let lens: BTreeSet<_> =
        (0..100).map(|seed| data_after(&disk, "/d/a", Survival::Subset { seed }).len()).collect();
    assert_eq!(lens, [10, 1000, 2000].into());
    let torn: BTreeSet<_> =
        (0..100).map(|seed| data_after(&disk, "/d/a", Survival::Torn { sector: 512, seed }).len()).collect();
    assert_eq!(torn, [10, 1000, 2000].into());
    file.sync_data().unwrap();
    let synced = data_after(&disk, "/d/a", Survival::Synced);
    assert_eq!((&synced[..10], &synced[10..]), (&[1; 10][..], &[0; 1990][..]));
}

#[test]
fn the_same_seed_has_the_same_outcome_and_the_clone_is_independent() {
    let disk = disk();
    let file = put(&disk, "/d/a", &[1; 9000]);
    let survival = Survival::Subset { seed: 7 };
    let clone = disk.crash_clone(&survival);
    assert_eq!(clone.read_file(path("/d/a")).unwrap(), data_after(&disk, "/d/a", survival));
    file.write_at(&[2; 9000], 0).unwrap();
    clone.remove(path("/d/a")).unwrap();
    assert_eq!(disk.read_file(path("/d/a")).unwrap(), [2; 9000]);
    assert_eq!(clone.operations(), 1);
}

#[test]
fn operations_are_counted_logged_and_stopped() {
    let disk = disk();
    assert_eq!(disk.operations(), 2);
    disk.stop_after(3);
    let file = put(&disk, "/d/a", b"data");
    assert!(disk.is_off());
    assert_eq!(file.write_at(b"more", 4).unwrap_err().kind(), POWER_LOSS);
    assert_eq!(file.sync_data().unwrap_err().kind(), POWER_LOSS);
    assert_eq!(disk.remove(path("/d/a")).unwrap_err().kind(), POWER_LOSS);
    assert_eq!(disk.create_dir_all(path("/e")).unwrap_err().kind(), POWER_LOSS);
    assert_eq!(disk.read_file(path("/d/a")).unwrap(), b"data");
    assert_eq!(disk.operations(), 4);
    let op = |kind, path: &str, len| Op { kind, path: path.into(), to: None, offset: 0, len };
    let expected = [
        op(OpKind::CreateDir, "/d", 0),
        op(OpKind::SyncDir, "/", 0),
        op(OpKind::Create, "/d/a", 0),
        op(OpKind::Write, "/d/a", 4),
    ];
    assert_eq!(disk.log(), expected);
    let after = disk.crash_clone(&Survival::Everything);
    after.remove(path("/d/a")).unwrap();
}

#[test]
fn what_fails_is_not_counted() {
    let disk = disk();
    put(&disk, "/d/a", b"data");
    let before = disk.operations();
    assert_eq!(disk.create(path("/d/a"), IoMode::Buffered).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(disk.remove(path("/d/b")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.remove(path("/d")).unwrap_err().kind(), ErrorKind::IsADirectory);
    assert_eq!(disk.rename(path("/d/b"), path("/d/a")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.hard_link(path("/d/a"), path("/d/a")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(disk.create_dir_all(path("/d/a")).unwrap_err().kind(), ErrorKind::NotADirectory);
    assert_eq!(disk.open(path("/d/../a"), IoMode::Buffered).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(disk.sync_dir(path("/nowhere")).unwrap_err().kind(), ErrorKind::NotFound);
    let read_only = disk.open_read(path("/d/a"), IoMode::Buffered).unwrap();
    let refused = read_only.write_at(b"x", 0).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert!(refused.to_string().starts_with("write /d/a: "), "{refused}");
    assert_eq!(disk.operations(), before);
}

#[test]
fn links_are_counted_and_a_removed_file_stays_readable() {
    let disk = disk();
    let file = put(&disk, "/d/a", b"data");
    disk.hard_link(path("/d/a"), path("/d/b")).unwrap();
    assert_eq!(disk.link_count(path("/d/b")).unwrap(), 2);
    disk.sync_dir(path("/d")).unwrap();
    file.sync_data().unwrap();
    let after = disk.crash_clone(&Survival::Synced);
    assert_eq!(after.link_count(path("/d/a")).unwrap(), 2);
    after.open(path("/d/b"), IoMode::Buffered).unwrap().write_at(b"DA", 0).unwrap();
    assert_eq!(after.read_file(path("/d/a")).unwrap(), b"DAta");

    disk.remove(path("/d/a")).unwrap();
    assert_eq!(disk.link_count(path("/d/b")).unwrap(), 1);
    put(&disk, "/d/c", b"other");
    disk.rename(path("/d/c"), path("/d/b")).unwrap();
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"data");
}

#[test]
fn room_is_limited_and_comes_back() {
    let disk = disk();
    let file = put(&disk, "/d/a", &[1; 100]);
    disk.set_space(50);
    assert_eq!(disk.space(path("/d")).unwrap(), Space { available: 50, total: 150 });
    file.write_at(&[2; 100], 0).unwrap(); // does not grow
    for failed in [file.write_at(&[3; 51], 100), file.set_len(151), file.preallocate(151)] {
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::StorageFull);
    }
    assert_eq!(file.len().unwrap(), 100);
    file.preallocate(150).unwrap();
    assert_eq!(disk.space(path("/d")).unwrap().available, 0);
    file.write_at(&[3; 50], 100).unwrap();
    file.set_len(20).unwrap();
    assert_eq!(disk.space(path("/d")).unwrap().available, 130);
    assert_eq!(disk.crash_clone(&Survival::Everything).space(path("/")).unwrap().available, 130);
    drop(file);
    disk.remove(path("/d/a")).unwrap();
    disk.sync_dir(path("/d")).unwrap();
    assert_eq!(disk.space(path("/d")).unwrap().available, 150);
}

#[test]
fn damage_is_in_what_is_there_and_in_what_survives() {
    let disk = disk();
    disk.write_file(path("/d/e/a"), b"abc").unwrap();
    disk.corrupt(path("/d/e/a"), 1, 0x20).unwrap();
    assert_eq!(disk.read_file(path("/d/e/a")).unwrap(), b"aBc");
    assert_eq!(data_after(&disk, "/d/e/a", Survival::Synced), b"aBc");
    assert_eq!(disk.corrupt(path("/d/e/a"), 3, 1).unwrap_err().kind(), ErrorKind::InvalidInput);
    disk.write_file(path("/d/e/a"), b"x").unwrap();
    assert_eq!(data_after(&disk, "/d/e/a", Survival::Synced), b"x");
    assert_eq!(disk.link_count(path("/d/e/a")).unwrap(), 1);
    assert_eq!(disk.operations(), 2);
}

#[test]
fn direct_io_is_done_with_aligned_buffers() {
    let disk = disk();
    let file = disk.create(path("/d/a"), IoMode::Direct).unwrap();
    assert!(file.is_direct());
    let mut buf = AlignedBuf::new();
    buf.resize(2 * BLOCK);
    buf.as_mut_slice().fill(7);
    file.write_vectored_at(&[IoSlice::new(&buf), IoSlice::new(&buf[..BLOCK])], BLOCK as u64).unwrap();
    assert_eq!(file.len().unwrap(), 4 * BLOCK as u64);
    assert_eq!(file.read_at(buf.as_mut_slice(), 3 * BLOCK as u64).unwrap(), BLOCK);
}

#[test]
#[should_panic(expected = "/d/a: direct I/O with offset, length or address not aligned")]
fn direct_io_that_is_not_aligned_is_a_bug() {
    let file = disk().create(path("/d/a"), IoMode::Direct).unwrap();
    let mut buf = AlignedBuf::new();
    buf.resize(BLOCK);
    let _ = file.write_at(&buf, 100);
}

#[test]
fn a_lock_is_held_in_one_file_system_and_forgotten_by_a_crash() {
    let disk = disk();
    let lock = disk.lock(path("/d/LOCK"), "pid 1").unwrap();
    match disk.clone().lock(path("d/LOCK"), "pid 2") {
        Err(LockError::Held { holder }) => assert_eq!(holder, "pid 1"),
        other => panic!("{other:?}"),
    }
    assert_eq!(disk.read_file(path("/d/LOCK")).unwrap(), b"pid 1");
    disk.crash_clone(&Survival::Everything).lock(path("/d/LOCK"), "pid 3").unwrap();
    drop(lock);
    disk.lock(path("/d/LOCK"), "a").unwrap();
    assert_eq!(disk.read_file(path("/d/LOCK")).unwrap(), b"a");
    disk.stop_after(1);
    assert!(matches!(disk.lock(path("/d/LOCK"), "b"), Err(LockError::Io(e)) if e.kind() == POWER_LOSS));
    assert!(matches!(disk.lock(path("/d/LOCK"), "b"), Err(LockError::Io(_))), "the failed one lets go");
}

#[test]
fn names_are_listed_and_directories_renamed() {
    let disk = disk();
    put(&disk, "/d/b", b"12345");
    disk.create_dir_all(path("/d/a/x")).unwrap();
    let entry = |name: &str, is_dir, len| DirEntry { name: name.into(), is_dir, len, disk_bytes: len };
    assert_eq!(disk.list(path("/d")).unwrap(), [entry("a", true, 0), entry("b", false, 5)]);
    assert_eq!([path("/d"), path("/d/b")].map(|p| disk.permissions(p).unwrap()), [0o700, 0o600]);
    assert_eq!(disk.rename(path("/d/a"), path("/d/b")).unwrap_err().kind(), ErrorKind::NotADirectory);
    assert_eq!(disk.rename(path("/d/b"), path("/d/a")).unwrap_err().kind(), ErrorKind::IsADirectory);
    put(&disk, "/d/a/x/f", b"");
    disk.rename(path("/d/a"), path("/d/c")).unwrap();
    assert_eq!(disk.files(), [path("/d/b"), path("/d/c/x/f")]);
    disk.create_dir_all(path("/d/full")).unwrap();
    put(&disk, "/d/full/f", b"");
    assert_eq!(disk.rename(path("/d/c"), path("/d/full")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
}

#[test]
fn a_watch_sees_the_disk_before_each_operation() {
    let disk = disk();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (seeing, before) = (seen.clone(), disk.operations());
    disk.before_each(move |moment| {
        let files = moment.crash_clone(&Survival::Everything).files().len();
        seeing.lock().push((moment.number(), moment.op().kind, files));
    });
    put(&disk, "/d/a", b"data").sync_data().unwrap();
    disk.stop_after(1);
    disk.sync_dir(path("/d")).unwrap_err();
    disk.stop_after(u64::MAX);
    disk.unwatch();
    disk.sync_dir(path("/d")).unwrap();
    let expected = [(OpKind::Create, 0), (OpKind::Write, 1), (OpKind::Sync, 1)];
    let expected: Vec<_> = (before + 1..).zip(expected).map(|(n, (op, files))| (n, op, files)).collect();
    assert_eq!(*seen.lock(), expected);
}

#[test]
fn a_kill_clone_has_everything_and_knows_what_is_not_synced() {
    let disk = disk();
    let file = put(&disk, "/d/a", b"data");
    file.sync_data().unwrap();
    disk.sync_dir(path("/d")).unwrap();
    file.write_at(b"DA", 0).unwrap();
    put(&disk, "/d/b", b"new");
    disk.rename(path("/d/b"), path("/d/c")).unwrap();
    let killed = disk.kill_clone();
    assert_eq!(killed.read_file(path("/d/a")).unwrap(), b"DAta");
    assert_eq!(killed.read_file(path("/d/c")).unwrap(), b"new");
    assert_eq!(names_after(&killed, Survival::Synced), ["/d/a"]);
    assert_eq!(data_after(&killed, "/d/a", Survival::Synced), b"data");
    // Neither knows of the other.
    killed.open(path("/d/a"), IoMode::Buffered).unwrap().sync_data().unwrap();
    killed.sync_dir(path("/d")).unwrap();
    assert_eq!(names_after(&killed, Survival::Synced), ["/d/a", "/d/c"]);
    assert_eq!(data_after(&killed, "/d/a", Survival::Synced), b"DAta");
    assert_eq!(names_after(&disk, Survival::Synced), ["/d/a"]);
    assert_eq!(data_after(&disk, "/d/a", Survival::Synced), b"data");
}

#[test]
fn names_survive_in_any_order_where_that_is_asked_for() {
    let disk = disk();
    put(&disk, "/d/a", b"");
    put(&disk, "/d/b", b"");
    let after = |seed| names_after(&disk, Survival::NamesSubset { seed });
    let outcomes: BTreeSet<_> = (0..40).map(after).collect();
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
}

#[test]
fn what_a_failed_sync_lost_is_read_until_the_power_goes() {
    let disk = disk();
    let file = put(&disk, "/d/a", &[1; 9000]);
    file.sync_data().unwrap();
    disk.sync_dir(path("/d")).unwrap();
    file.write_at(&[2; 512], 100).unwrap();
    disk.lose_unsynced(path("/d/a")).unwrap();
    file.write_at(&[3; 512], 5000).unwrap();
    let killed = disk.kill_clone();
    assert_eq!(killed.read_file(path("/d/a")).unwrap()[100..612], [2; 512]);
    killed.open(path("/d/a"), IoMode::Buffered).unwrap().sync_data().unwrap();
    let left = data_after(&killed, "/d/a", Survival::Synced);
    assert_eq!((&left[..4096], &left[5000..5512]), (&[1; 4096][..], &[3; 512][..]));
}

#[test]
fn without_direct_io_files_say_so() {
    let disk = disk();
    disk.refuse_direct();
    let disk = disk.kill_clone();
    let file = disk.create(path("/d/a"), IoMode::Direct).unwrap();
    file.write_at(b"not aligned", 3).unwrap();
    assert!(!file.is_direct());
}
