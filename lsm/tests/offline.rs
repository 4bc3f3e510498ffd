//! `offline::check` on the real disk: what is whole passes, what is damaged is named.
#![expect(clippy::disallowed_methods, reason = "tests damage files behind the engine's back")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kv_lsm::offline::{CheckReport, Problem, check};
use kv_lsm::{Db, Durability, Environment, Options, ScanRange, StoreError, WriteBatch};
use kv_manifest::{Edit, Manifest, Reading, names};
use kv_vfs::{ManualClock, RealVfs, SteppedExecutor, Vfs};
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_128;

fn small() -> Options {
    Options {
        memtable_bytes_max: 32 << 10,
        log_flush_bytes_max: 512 << 10,
        segment_bytes: 64 << 10..=256 << 10,
        table_bytes: 4 << 10,
        ..Options::default()
    }
}

/// Puts, overwrites and deletes; some values inline, some separated, some compressible.
fn work(db: &Db, rounds: std::ops::Range<u32>) {
    for round in rounds {
        for n in 0..120u32 {
            let key = format!("key{:03}", n * 7 % 120);
            let mut noise = u64::from(round * 1000 + n) | 1;
            let mut byte = || {
                noise = noise.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (noise >> 56) as u8
            };
            let len = [3, 400, 1500, 6000][(n % 4) as usize];
            let mut batch = WriteBatch::default();
            match (n + round) % 9 {
                0 => batch.delete(key.as_bytes()),
                1 => batch.put(key.as_bytes(), vec![7; len]),
                _ => batch.put(key.as_bytes(), (0..len).map(|_| byte()).collect::<Vec<_>>()),
            };
            batch.durability(if n % 20 == 19 { Durability::Sync } else { Durability::Batched });
            db.write(batch).unwrap();
        }
    }
}

/// A directory with several segments and tables in two levels, closed.
fn closed() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    work(&db, 0..6);
    db.store().flush().unwrap();
    work(&db, 6..8);
    db.close().unwrap();
    dir
}

fn look(dir: &Path) -> Result<CheckReport, StoreError> {
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let last = std::cell::Cell::new(0);
    check(&vfs, dir, &|progress| {
        assert!(progress.done_bytes >= last.get() && progress.done_bytes <= progress.total_bytes);
        last.set(progress.done_bytes);
    })
}

#[track_caller]
fn whole(dir: &Path) -> CheckReport {
    let report = look(dir).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    report
}

fn manifest(dir: &Path) -> Reading {
    kv_manifest::read(&RealVfs, dir).unwrap()
}

/// The documented hash, computed through the running database.
fn hash_of(db: &Db) -> String {
    let mut all = Vec::new();
    for item in db.scan(ScanRange::default()).unwrap().map(Result::unwrap) {
        let value = db.get(&item.key).unwrap().unwrap().value;
        all.extend_from_slice(&(item.key.len() as u64).to_le_bytes());
        all.extend_from_slice(&item.key);
        all.extend_from_slice(&item.revision.to_le_bytes());
        all.extend_from_slice(&(value.len() as u64).to_le_bytes());
        all.extend_from_slice(&value);
    }
    format!("{:032x}", xxh3_128(&all))
}

fn listing(dir: &Path) -> Vec<(PathBuf, u64, std::time::SystemTime)> {
    let entry = |entry: fs::DirEntry| {
        let meta = entry.metadata().unwrap();
        (entry.path(), meta.len(), meta.modified().unwrap())
    };
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|e| entry(e.unwrap())).collect();
    files.sort();
    files
}

/// The real disk, with time that passes when it is told to.
fn stepped() -> (Environment, SteppedExecutor) {
    let clock = Arc::new(ManualClock::default());
    let executor = SteppedExecutor::new(clock.clone());
    (Environment { vfs: Arc::new(RealVfs), clock, executor: Arc::new(executor.clone()) }, executor)
}

#[test]
fn a_closed_directory_is_whole_and_stays_as_it_is() {
    let dir = closed();
    let before = listing(dir.path());
    let report = whole(dir.path());
    assert_eq!(listing(dir.path()), before);
    assert!(report.notes.is_empty(), "{:?}", report.notes);
    let state = manifest(dir.path()).state;
    assert!(state.tables.values().any(|table| table.level == 6) && state.segments.len() > 2);
    assert_eq!((report.tables, report.segments), (state.tables.len() as u64, state.segments.len() as u64));
    assert_eq!(report.applied.map(|at| at.index), state.flushed.map(|at| at.index));
    assert!(report.keys > 50 && report.records > 900 && report.uncommitted == 0);

    let db = Db::open(dir.path(), small()).unwrap();
    assert_eq!(report.content_hash, Some(hash_of(&db)));
    assert_eq!(report.keys, db.scan(ScanRange::default()).unwrap().count() as u64);
    db.close().unwrap();
    let again = whole(dir.path());
    assert_eq!((again.content_hash, again.applied), (report.content_hash, report.applied));
}

#[test]
fn a_killed_directory_is_whole_and_comes_to_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for round in 0..4 {
        let (environment, executor) = stepped();
        let db = Db::open_in(&environment, dir.path(), small()).unwrap();
        work(&db, round..round + 1);
        let (expected, applied) = (hash_of(&db), db.store().applied());
        executor.advance(Duration::from_secs(1)); // an idle log names its last entries as committed
        drop(db);
        let report = whole(dir.path());
        assert_eq!((report.applied, report.uncommitted), (applied, 0), "round {round}");
        assert_eq!(report.content_hash, Some(expected.clone()), "round {round}");
        seen.push(expected);
    }
    Db::open(dir.path(), small()).unwrap().close().unwrap();
    assert_eq!(whole(dir.path()).content_hash, seen.pop());
}

#[test]
fn what_is_not_known_to_be_committed_is_left_out_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    db.put(b"a", "1").unwrap();
    drop(db); // before the log was idle: no group says that the entry is committed
    let report = whole(dir.path());
    assert_eq!(report.keys + report.uncommitted, 1);
    assert_eq!(report.notes.len() as u64, report.uncommitted);
    Db::open(dir.path(), small()).unwrap().close().unwrap();
    assert_eq!(whole(dir.path()).keys, 1);
}

#[test]
fn a_torn_tail_and_strange_files_are_notes() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), small()).unwrap();
    work(&db, 0..1);
    drop(db);
    let hash = whole(dir.path()).content_hash;
    let open = manifest(dir.path()).state.segments.into_values().find(|s| s.sealed.is_none()).unwrap();
    let segment = names::segment_name(open.file);
    let mut bytes = fs::read(dir.path().join(&segment)).unwrap();
    bytes.extend_from_slice(&[b'x'; 5000]);
    fs::write(dir.path().join(&segment), bytes).unwrap();
    let current = dir.path().join(manifest(dir.path()).file);
    let mut bytes = fs::read(&current).unwrap();
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    bytes.extend_from_slice(b"KVCS\x09");
    fs::write(&current, bytes).unwrap();
    fs::write(dir.path().join("00900000.sst"), "left by a crash").unwrap();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();

    let report = whole(dir.path());
    assert_eq!(report.content_hash, hash);
    let notes = report.notes.join("\n");
    for name in [&segment, "MANIFEST-", "00900000.sst", "notes.txt"] {
        assert!(notes.contains(name), "{name}: {notes}");
    }
}

/// A directory with the same files, to damage.
fn copy(of: &Path) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(of).unwrap().map(Result::unwrap) {
        fs::hard_link(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

/// Replaces a file, whose bytes other directories share.
fn replace(file: &Path, bytes: &[u8]) {
    fs::remove_file(file).unwrap();
    fs::write(file, bytes).unwrap();
}

/// Has the check name `file` in a problem of the damaged copy.
#[track_caller]
fn named(of: &Path, file: &str, damage: impl FnOnce(&Path)) -> CheckReport {
    let dir = copy(of);
    damage(dir.path());
    let report = look(dir.path()).unwrap();
    assert!(report.problems.iter().any(|problem| problem.file == file), "{file}: {report:?}");
    report
}

fn flip(file: &Path, at: u64) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at as usize] ^= 0x10;
    replace(file, &bytes);
}

#[test]
fn a_flipped_byte_in_a_table_is_named() {
    let dir = closed();
    for table in manifest(dir.path()).state.tables.values() {
        let file = names::table_name(table.id);
        for at in (0..table.bytes).step_by(table.bytes as usize / 9).chain([table.bytes - 1]) {
            named(dir.path(), &file, |dir| flip(&dir.join(&file), at));
        }
    }
}

#[test]
fn a_flipped_byte_in_a_segment_is_named() {
    let dir = closed();
    for segment in manifest(dir.path()).state.segments.values() {
        let (file, end) = (names::segment_name(segment.file), segment.sealed.as_ref().unwrap().end);
        // Header, group header, record header, operation, key or value; then group and body of the footer.
        let bytes = fs::read(dir.path().join(&file)).unwrap();
        // Not in the zeros behind a group, which may be a short one.
        let used = |from: usize| (from..).find(|at| bytes[*at] != 0).unwrap() as u64;
        let in_group = [4100, 4096 + 100, used(4096 + 130), used(4096 + 170)];
        for at in [3, 20, 150].into_iter().chain(in_group).chain([end + 8, end + 100, end + 140]) {
            let report = named(dir.path(), &file, |dir| flip(&dir.join(&file), at));
            let offset = report.problems.iter().find(|problem| problem.file == file).unwrap().offset;
            assert!(offset.is_some_and(|offset| offset <= at), "{at}: {:?}", report.problems);
        }
    }
}

#[test]
fn a_flipped_byte_in_the_manifest_is_named() {
    let dir = closed();
    let file = manifest(dir.path()).file;
    for at in [0, 9, 30, 4096, 4110, 4150] {
        named(dir.path(), &file, |dir| flip(&dir.join(&file), at));
    }
    for at in [0, 12, 17] {
        named(dir.path(), "CURRENT", |dir| flip(&dir.join("CURRENT"), at));
    }
    named(dir.path(), "CURRENT", |dir| fs::remove_file(dir.join("CURRENT")).unwrap());
    named(dir.path(), "CURRENT", |dir| fs::remove_file(dir.join(&file)).unwrap());
}

#[test]
fn a_manifest_that_lost_its_end_is_named() {
    let dir = closed();
    let intact = whole(dir.path());
    let Reading { file, change_sets, .. } = manifest(dir.path());
    let last = change_sets.last().unwrap().offset;
    assert_eq!(change_sets.last().unwrap().change_set.cause, "close");
    for recorded in change_sets.iter().filter(|recorded| (8192..last).contains(&recorded.offset)) {
        let shorter = copy(dir.path());
        cut(&shorter.path().join(&file), recorded.offset);
        let problems = look(shorter.path()).unwrap().problems;
        let tells =
            |problem: &Problem| problem.file == file && problem.why.contains("change-sets are missing");
        assert!(problems.iter().any(tells), "{problems:?}");
    }
    // Nobody was told of anything after the last one, so it looks torn; the segment is then still open.
    let dir = copy(dir.path());
    cut(&dir.path().join(&file), last);
    assert_eq!(whole(dir.path()).content_hash, intact.content_hash);
}

/// What value GC goes by stands in the manifest; what tables point to, in them.
#[test]
fn a_manifest_that_counts_wrongly_is_named_with_the_file_that_it_is_wrong_about() {
    let dir = closed();
    let Reading { file, change_sets, state, .. } = manifest(dir.path());
    let lying = state.tables.values().find(|table| !table.refs.is_empty()).unwrap();
    let lied_about = lying.refs[0].segment;
    let lies = |edit: &Edit| match edit {
        Edit::Identity(_) => None,
        Edit::AddTable(table) if table.id == lying.id => {
            let mut table = table.clone();
            (table.refs[0].bytes, table.refs[0].count) = (table.refs[0].bytes + 1, table.refs[0].count + 1);
            Some(Edit::AddTable(table))
        }
        edit => Some(edit.clone()),
    };
    // The same again, but for that.
    let copy = tempfile::tempdir().unwrap();
    let (clock, identity) = (Arc::new(ManualClock::default()), state.identity.clone());
    let mut again = Manifest::create(Arc::new(RealVfs), clock, copy.path(), identity).unwrap();
    for set in change_sets.iter().map(|recorded| &recorded.change_set).skip(1) {
        again.append(&set.cause, set.edits.iter().filter_map(lies).collect()).unwrap();
    }
    let others = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    for name in others.filter(|name| *name != *file && name != "CURRENT" && name != names::LOCK) {
        fs::hard_link(dir.path().join(&name), copy.path().join(&name)).unwrap();
    }
    let problems = look(copy.path()).unwrap().problems;
    let is_named = |file: &str, why: &str| problems.iter().any(|at| at.file == file && at.why.contains(why));
    let file = names::segment_name(state.segments[&lied_about].file);
    assert!(is_named(&file, "value GC takes"), "{problems:?}");
    assert!(is_named(&names::table_name(lying.id), "references per segment"), "{problems:?}");
}

/// Whatever happens to one byte or to the end of one file: it is named, or it does not matter.
#[test]
fn no_damage_passes_for_other_contents() {
    let dir = closed();
    let intact = whole(dir.path());
    let files = listing(dir.path());
    let mut dice = 1u64;
    let mut roll = |below: u64| {
        dice = dice.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (dice >> 33) % below.max(1)
    };
    for round in 0..300 {
        let (file, len, _) = &files[roll(files.len() as u64) as usize];
        if *len == 0 || file.ends_with("LOCK") {
            continue;
        }
        let damaged = copy(dir.path());
        let (target, at) = (damaged.path().join(file.file_name().unwrap()), roll(*len));
        if round % 4 == 0 {
            cut(&target, at)
        } else {
            flip(&target, at)
        }
        let report = look(damaged.path()).unwrap();
        if report.problems.is_empty() {
            let found = (report.content_hash, report.applied);
            assert_eq!(found, (intact.content_hash.clone(), intact.applied), "{target:?} at {at}");
        }
    }
}

#[test]
fn a_damaged_value_leaves_the_others_and_no_hash() {
    let dir = closed();
    let intact = whole(dir.path());
    let segment = manifest(dir.path()).state.segments.into_values().rev().nth(1).unwrap();
    let file = names::segment_name(segment.file);
    let middle = segment.sealed.unwrap().end / 2;
    let report = named(dir.path(), &file, |dir| {
        (0..8).for_each(|n| flip(&dir.join(&file), middle + n * 1000));
    });
    assert!(report.content_hash.is_none() && report.keys < intact.keys, "{report:?}");
}

#[test]
fn missing_cut_and_swapped_files_are_named() {
    let (dir, other) = (closed(), closed());
    let state = manifest(dir.path()).state;
    let tables: Vec<String> = state.tables.keys().map(|id| names::table_name(*id)).collect();
    for table in &tables {
        named(dir.path(), table, |dir| fs::remove_file(dir.join(table)).unwrap());
        named(dir.path(), table, |dir| cut(&dir.join(table), 1000));
    }
    let [first, second, ..] = &tables[..] else { panic!("one table only") };
    for named_one in [first, second] {
        named(dir.path(), named_one, |dir| {
            fs::rename(dir.join(first), dir.join("aside")).unwrap();
            fs::rename(dir.join(second), dir.join(first)).unwrap();
            fs::rename(dir.join("aside"), dir.join(second)).unwrap();
        });
    }
    let foreign = manifest(other.path()).state.segments.into_values().next().unwrap();
    for segment in state.segments.values() {
        let (file, end) = (names::segment_name(segment.file), segment.sealed.as_ref().unwrap().end);
        named(dir.path(), &file, |dir| fs::remove_file(dir.join(&file)).unwrap());
        for to in [0, 4096, end - 4096, end] {
            named(dir.path(), &file, |dir| cut(&dir.join(&file), to));
        }
        let theirs = other.path().join(names::segment_name(foreign.file));
        named(dir.path(), &file, |dir| replace(&dir.join(&file), &fs::read(theirs).unwrap()));
    }
}

fn cut(file: &Path, to: u64) {
    let bytes = fs::read(file).unwrap();
    replace(file, &bytes[..to as usize]);
}

#[test]
fn an_open_segment_that_lost_what_tables_point_to_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    work(&db, 0..2);
    db.store().flush().unwrap();
    drop(db);
    let open = manifest(dir.path()).state.segments.into_values().find(|s| s.sealed.is_none()).unwrap();
    let file = names::segment_name(open.file);
    let report = named(dir.path(), &file, |dir| cut(&dir.join(&file), 4096));
    assert!(report.problems.iter().any(|problem| problem.file.starts_with("MANIFEST")), "{report:?}");
    assert!(report.problems.iter().any(|problem| problem.offset > Some(4096)), "{report:?}");
}

#[test]
fn what_is_no_data_directory_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(look(dir.path()).unwrap_err().to_string().contains("holds no data"));
    assert!(look(&dir.path().join("nowhere")).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
