//! What can go wrong in the manifest.

use std::path::Path;
use std::sync::Arc;

use kv_manifest::{Edit, Identity, Manifest, ManifestError};
use kv_vfs::fault::{Fault, Rule, Times};
use kv_vfs::{FaultVfs, ManualClock, MemVfs, OpKind, Survival, Vfs};

use super::run::{Run, Steps, at_every_loss, put};
use crate::world::{dir, shared};

fn open_manifest(vfs: Arc<dyn Vfs>) -> Manifest {
    Manifest::open(vfs, Arc::new(ManualClock::default()), dir()).unwrap()
}

/// Scenario 7: The manifest is switched, by renaming `CURRENT`, without a sync of the file or of the
/// directory.
pub fn a_manifest_switched_to_before_it_is_durable() {
    let run = Run::new();
    run.write(1, ["a", "b", "c"].map(|name| put(name, 2_000)));
    run.commit(3);
    let expected = run.contents();
    let disk = run.disk.clone();
    run.store.close().unwrap();
    let act = |_: &Run, steps: &Steps| {
        for _ in 0..4 {
            let mut manifest = open_manifest(shared(&disk));
            manifest.rewrite().unwrap();
            let epoch = manifest.state().epoch;
            manifest.append("scenario", vec![Edit::Epoch(epoch + 1)]).unwrap();
            steps.done();
        }
    };
    at_every_loss(run, act, |left, rewrites| {
        let epoch = kv_manifest::read(left, dir()).unwrap().state.epoch;
        assert!(epoch > rewrites, "{rewrites} acknowledged change-sets, the last one says {epoch}");
        assert!(Run::reopen(left).contents() == expected, "keys are missing");
    });
}

/// Scenario 9: The disk is full in the middle of a change-set, and a retry, when there is room again, is
/// appended behind the half-written one.
pub fn no_room_in_the_middle_of_a_change_set_and_a_retry() {
    let disk = MemVfs::new();
    let vfs = FaultVfs::new(shared(&disk));
    kv_vfs::create_dir(&vfs, dir()).unwrap();
    let shared_vfs: Arc<dyn Vfs> = Arc::new(vfs.clone());
    let clock = Arc::new(ManualClock::default());
    let mut manifest = Manifest::create(shared_vfs, clock, dir(), Identity::default()).unwrap();
    manifest.append("first", vec![Edit::Epoch(1)]).unwrap();
    let error = Fault::ShortWrite { bytes: 20 };
    vfs.fail(Rule { op: OpKind::Write, path_contains: String::new(), nth: 1, times: Times::Once, error });
    manifest.append("second", vec![Edit::Epoch(2)]).unwrap_err();
    assert_eq!(vfs.failed(), 1);
    let retried = manifest.append("third", vec![Edit::Epoch(3)]);
    drop(manifest);
    for left in [disk.kill_clone(), disk.crash_clone(&Survival::Synced)] {
        let epoch = open_manifest(shared(&left)).state().epoch;
        assert!(retried.is_err() || epoch == 3, "acknowledged, and not there: {epoch}");
    }
    assert!(matches!(retried, Err(ManifestError::Poisoned { .. })), "{retried:?}");
}

/// Scenario 11: After a failed sync the page cache shows what never reached the disk, and takes it for clean:
/// a process that starts then reads it, and no later sync writes it.
pub fn a_restart_after_a_failed_sync_reads_what_never_reached_the_disk() {
    let disk = MemVfs::new();
    let vfs = FaultVfs::new(shared(&disk));
    let first = Run::through(&disk, &(Arc::new(vfs.clone()) as _)).unwrap();
    first.write(1, [put("a", 2_000)]);
    first.commit(1);
    let before = kv_manifest::read(&disk, dir()).unwrap().change_sets.len();
    let (op, path_contains) = (OpKind::Sync, "MANIFEST".into());
    vfs.fail(Rule { op, path_contains, nth: 1, times: Times::Once, error: Fault::Eio });
    first.store.flush().unwrap_err();
    assert_eq!(vfs.failed(), 1);
    // What the next process sees.
    let cached = disk.kill_clone();
    let reading = kv_manifest::read(&cached, dir()).unwrap();
    assert_eq!(reading.change_sets.len(), before + 1, "the page cache holds the change-set");
    let lost = reading.change_sets.last().unwrap();
    let second = Run::reopen(&cached);
    second.write(2, [put("b", 2_000)]);
    second.commit(2);
    let expected = second.contents();
    assert_eq!(expected.len(), 2);
    // Now the power goes, and with it the pages that were taken for clean.
    let left = cached.crash_clone(&Survival::Synced);
    lose(&left, &dir().join(&reading.file), lost.offset, lost.length);
    let third = Run::open(&left).unwrap_or_else(|error| panic!("does not open: {error}"));
    assert!(third.contents() == expected, "what the second process acknowledged is gone");
    the_same_of_the_log();
}

/// Without direct I/O the log is read from the page cache, too.
fn the_same_of_the_log() {
    let disk = MemVfs::new();
    disk.refuse_direct();
    let vfs = FaultVfs::new(shared(&disk));
    let first = Run::through(&disk, &(Arc::new(vfs.clone()) as _)).unwrap();
    first.write(1, [put("a", 2_000)]);
    let (op, path_contains) = (OpKind::Sync, ".seg".into());
    vfs.fail(Rule { op, path_contains, nth: 1, times: Times::Once, error: Fault::Eio });
    first.append(1, put("b", 2_000), Box::new(|result| drop(result.unwrap_err()))).unwrap();
    first.store.log().wait_durable().unwrap_err();
    let open = disk.files().into_iter().rfind(|path| path.extension().is_some_and(|is| is == "seg"));
    disk.lose_unsynced(&open.unwrap()).unwrap();
    let cached = disk.kill_clone();
    let second = Run::reopen(&cached);
    assert_eq!(second.terms(), [1, 1], "the page cache holds the entry");
    second.write(2, [put("c", 2_000)]);
    let third = Run::open(&cached.crash_clone(&Survival::Synced));
    let third = third.unwrap_or_else(|error| panic!("does not open: {error}"));
    assert_eq!(third.terms(), [1, 1, 2], "what the second process has read is gone");
}

/// Zeroes a part of a file, as far as it is there.
fn lose(disk: &MemVfs, path: &Path, offset: u64, length: u64) {
    let Ok(mut bytes) = disk.read_file(path) else { return };
    bytes.iter_mut().skip(offset as usize).take(length as usize).for_each(|byte| *byte = 0);
    disk.write_file(path, &bytes).unwrap();
}
