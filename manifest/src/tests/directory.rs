//! The directory against the state.

use kv_vfs::{MemVfs, Vfs};

use super::make::*;
use crate::names::{manifest_name, segment_name, table_name};
use crate::{CrossCheck, Edit, Problem, cross_check, remove_orphans};

/// A store with a table, an open segment, a sealed one and two remapped ones, all of their files there.
fn store() -> (MemVfs, crate::State) {
    let vfs = empty();
    let mut manifest = create(&vfs);
    let opened: Vec<Edit> = (1..=4).map(|n| open_segment(n, 10 + n)).collect();
    let edits = vec![Edit::NextFile(50), add(30, 1, "a", "b"), seal(2), seal(3), seal(4)];
    let gc = vec![add_values(5, 20), remap(3, 20), remap(4, 20)];
    manifest.append("all", [opened, edits, gc].concat()).unwrap();
    put(&vfs, &table_name(30), 100);
    put(&vfs, &segment_name(11), 0);
    put(&vfs, &segment_name(12), 9000);
    put(&vfs, &segment_name(20), 9000);
    (vfs, manifest.state().clone())
}

fn put(vfs: &MemVfs, name: &str, len: usize) {
    write(vfs, &dir().join(name), &vec![7; len]);
}

fn problem(file: String, why: &str) -> Problem {
    Problem { file, why: why.to_string() }
}

#[test]
fn a_sound_store_has_nothing_to_say() {
    let (vfs, state) = store();
    put(&vfs, "LOCK", 3);
    assert_eq!(cross_check(&vfs, dir(), &state).unwrap(), CrossCheck::default());
}

#[test]
fn what_is_missing_or_too_short_is_named() {
    let (vfs, state) = store();
    for name in [table_name(30), segment_name(11), segment_name(12), segment_name(20)] {
        vfs.remove(&dir().join(name)).unwrap();
    }
    let check = cross_check(&vfs, dir(), &state).unwrap();
    let expected = [
        problem(segment_name(11), "the file of segment 1 is missing"),
        problem(segment_name(12), "the file of segment 2 is missing"),
        problem(segment_name(20), "the file of segment 5 is missing"),
        problem(table_name(30), "the table is missing"),
    ];
    assert_eq!(check.problems, expected);

    put(&vfs, &table_name(30), 101);
    put(&vfs, &segment_name(11), 0);
    put(&vfs, &segment_name(12), 8191);
    put(&vfs, &segment_name(20), 0);
    let check = cross_check(&vfs, dir(), &state).unwrap();
    let expected = [
        problem(segment_name(12), "the file of segment 2 is 8191 bytes long instead of at least 8192"),
        problem(segment_name(20), "the file of segment 5 is 0 bytes long instead of at least 8192"),
        problem(table_name(30), "the table is 101 bytes long instead of 100"),
    ];
    assert_eq!(check.problems, expected);
}

#[test]
fn orphans_go_and_foreign_names_stay() {
    let (vfs, state) = store();
    // Of the segments that were remapped the old files are left, too.
    let orphans = [
        segment_name(13),
        segment_name(14),
        table_name(31),
        "CURRENT.tmp".to_string(),
        manifest_name(40),
        format!("{}.tmp", table_name(32)),
    ];
    let foreign = ["lost+found", "notes.tmp", "12.sst"];
    for name in &orphans {
        put(&vfs, name, 10);
    }
    for name in foreign.iter().skip(1) {
        put(&vfs, name, 10);
    }
    vfs.create_dir_all(&dir().join("lost+found")).unwrap();
    // A directory is none of ours whatever its name.
    vfs.create_dir_all(&dir().join(table_name(33))).unwrap();

    let check = cross_check(&vfs, dir(), &state).unwrap();
    let mut expected = orphans.to_vec();
    expected.sort();
    assert_eq!(check.orphans, expected);
    let mut expected: Vec<String> = foreign.iter().map(|name| name.to_string()).collect();
    expected.push(table_name(33));
    expected.sort();
    assert_eq!(check.foreign, expected);
    assert_eq!(check.problems, []);

    remove_orphans(&vfs, dir(), &check).unwrap();
    let again = cross_check(&vfs, dir(), &state).unwrap();
    assert_eq!((again.orphans, again.foreign), (vec![], expected));
    open(&vfs).unwrap();
}
