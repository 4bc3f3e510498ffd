//! Loss of power at every operation, in every model of what survives it, and again while recovering.

use std::sync::Arc;

use kv_vfs::{MemVfs, Survival, Vfs};

use super::make::*;
use super::script::{Run, run};
use crate::{Edit, ManifestError, cross_check, remove_orphans};

fn survivals(seeds: u64) -> Vec<Survival> {
    let seeded = (0..seeds).flat_map(|seed| {
        [
            Survival::Torn { sector: 512, seed },
            Survival::Torn { sector: 4096, seed },
            Survival::Subset { seed },
            Survival::NamesLost { seed },
        ]
    });
    [Survival::Synced, Survival::Everything].into_iter().chain(seeded).collect()
}

/// What is found after a crash is what was acknowledged, with or without what was under way.
#[track_caller]
fn check(run: &Run, vfs: &MemVfs, context: &str) {
    match open(vfs) {
        Ok(manifest) => {
            manifest.require(run.acknowledged.as_ref().map_or(0, |state| state.number)).unwrap();
            assert!(run.allows(manifest.state()), "{context}: {:?}", manifest.state());
        }
        Err(ManifestError::Missing { .. }) if run.acknowledged.is_none() => {}
        Err(e) => panic!("{context}: {e}"),
    }
}

#[test]
fn every_crash_leaves_what_was_acknowledged() {
    let mut crashes = 0;
    for stop in 1.. {
        let vfs = empty();
        vfs.stop_after(stop);
        let run = run(&(Arc::new(vfs.clone()) as Arc<dyn Vfs>));
        assert!(run.error.is_none() || vfs.is_off(), "{:?}", run.error);
        for survival in survivals(24) {
            check(&run, &vfs.crash_clone(&survival), &format!("stopped at {stop}, {survival:?}"));
            crashes += 1;
        }
        if run.error.is_none() {
            assert!(stop > 60, "the script does enough to be worth it: {stop}");
            break;
        }
    }
    assert!(crashes > 5_000, "{crashes}");
}

/// Opens, gives up what a crash left, and records one more change-set, as a node does on start.
fn recover(vfs: &MemVfs, run: &mut Run) -> Result<(), ManifestError> {
    let mut manifest = match open(vfs) {
        Err(ManifestError::Missing { .. }) => return Ok(()),
        opened => opened?,
    };
    manifest.settle()?;
    // From here on the state that was seen is acted on, and never goes back.
    run.acknowledged = Some(manifest.state().clone());
    run.under_way = None;
    let orphans = cross_check(vfs, dir(), manifest.state())?;
    remove_orphans(vfs, dir(), &orphans)?;
    let epoch = manifest.state().epoch + 1;
    run.append(&mut manifest, "recover", vec![Edit::Epoch(epoch)])?;
    let manifests = vfs.list(dir())?.into_iter().filter(|entry| entry.name.starts_with("MANIFEST"));
    assert_eq!(manifests.count(), 1);
    Ok(())
}

#[test]
fn every_crash_while_recovering_leaves_what_was_acknowledged() {
    let mut crashes = 0;
    for stop in (1..).step_by(3) {
        let vfs = empty();
        vfs.stop_after(stop);
        let first = run(&(Arc::new(vfs.clone()) as Arc<dyn Vfs>));
        assert!(first.error.is_none() || vfs.is_off(), "{:?}", first.error);
        for survival in survivals(1) {
            for second_stop in 1.. {
                let vfs = vfs.crash_clone(&survival);
                vfs.stop_after(second_stop);
                let mut second = first.clone();
                let recovered = recover(&vfs, &mut second);
                assert!(recovered.is_ok() || vfs.is_off(), "{survival:?}: {recovered:?}");
                for again in survivals(2) {
                    let context =
                        format!("stopped at {stop}, {survival:?}, then at {second_stop}, {again:?}");
                    check(&second, &vfs.crash_clone(&again), &context);
                    crashes += 1;
                }
                if recovered.is_ok() {
                    break;
                }
            }
        }
        if first.error.is_none() {
            break;
        }
    }
    assert!(crashes > 5_000, "{crashes}");
}

/// A process is killed, not the machine: the next one sees what only the page cache holds and acts on it.
/// What it has settled and what it removed must agree after the power goes.
#[test]
fn what_was_acted_on_after_a_kill_survives_a_power_loss() {
    for stop in 1.. {
        let vfs = empty();
        vfs.stop_after(stop);
        let mut run = run(&(Arc::new(vfs.clone()) as Arc<dyn Vfs>));
        if run.error.is_none() {
            break;
        }
        assert!(vfs.is_off(), "{:?}", run.error);
        // The process ended at this operation; the machine, and all that was not synced, is still there.
        vfs.stop_after(u64::MAX);
        if let Err(ManifestError::Missing { .. }) = open(&vfs) {
            continue;
        }
        recover(&vfs, &mut run).unwrap();
        for survival in survivals(6) {
            check(&run, &vfs.crash_clone(&survival), &format!("killed at {stop}, {survival:?}"));
        }
    }
}
