//! What is not damaged comes over as it is.

use std::fs;
use std::time::Duration;

use kv_lsm::Db;
use kv_lsm::repair::{RepairOptions, repair};

use crate::fixture::*;

#[test]
fn a_whole_directory_comes_over_as_it_is() {
    for (collected, closed) in [(false, true), (true, true), (false, false), (true, false)] {
        let old = Fixture::make(collected, closed);
        let before = look(old.path()).unwrap();
        assert!(before.problems.is_empty() && before.uncommitted == 0, "{before:?}");
        let state = old.manifest().state;
        assert_eq!(state.segments.values().any(|segment| segment.remapped), collected);
        assert_eq!(before.applied.map(|at| at.index) > state.flushed.map(|at| at.index), !closed);

        let new = repaired(old.path(), RepairOptions::default());
        assert!(new.report.is_complete() && new.report.by_manifest, "{:?}", new.report);
        assert!(new.report.problems.is_empty(), "{:?}", new.report.problems);
        assert_eq!(Some(&new.report.content_hash), before.content_hash.as_ref());
        assert_eq!(new.report.applied, before.applied);
        assert_eq!(values(&new.contents), values(&old.contents));
        // Nobody takes the new directory for the old node.
        let identity = kv_manifest::read(&kv_vfs::RealVfs, &new.path).unwrap().identity;
        assert_ne!(identity.cluster_id, state.identity.cluster_id);
        assert_ne!(identity.incarnation, state.identity.incarnation);
    }
}

#[test]
fn what_was_repaired_can_be_repaired() {
    let old = Fixture::make(true, true);
    let once = repaired(old.path(), RepairOptions::default());
    let twice = repaired(&once.path, RepairOptions::default());
    assert!(twice.report.is_complete());
    let mut expected = values(&once.contents);
    let after = twice.contents[&b"after"[..]].clone();
    expected.insert("after".into(), (after.revision, after.value));
    assert_eq!(values(&twice.contents), expected);
}

#[test]
fn nothing_is_replaced_and_nothing_is_made_of_nothing() {
    let old = Fixture::make(false, true);
    let home = tempfile::tempdir().unwrap();
    let (environment, _executor) = stepped();
    let refused = |dir: &std::path::Path, name: &str| {
        let into = home.path().join(name);
        repair(&environment, dir, &into, RepairOptions::default(), &|_| {}).unwrap_err().to_string()
    };
    fs::create_dir(home.path().join("there")).unwrap();
    assert!(refused(old.path(), "there").contains("there already"));
    fs::create_dir(home.path().join("half.tmp")).unwrap();
    assert!(refused(old.path(), "half").contains("half.tmp is there already"));
    fs::create_dir(home.path().join("empty")).unwrap();
    assert!(refused(&home.path().join("empty"), "new").contains("holds no data"));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 3);
}

/// What has expired is not brought back, what has not goes on to expire when it should have.
#[test]
fn what_expires_goes_on_to_expire() {
    for closed in [true, false] {
        let home = tempfile::tempdir().unwrap();
        let (environment, executor) = stepped();
        let dir = home.path().join("old");
        let db = Db::open_in(&environment, &dir, small()).unwrap();
        for (key, seconds) in [("soon", 10), ("later", 100)] {
            for length in [50, 5_000] {
                let key = format!("{key}{length}");
                db.put_for(key.as_bytes(), vec![7; length], Duration::from_secs(seconds)).unwrap();
            }
        }
        db.flush().unwrap();
        // Some of it in tables, some in the log only; what time it is, in the log only.
        db.put_for(b"soon", "x", Duration::from_secs(10)).unwrap();
        executor.advance(Duration::from_secs(50));
        db.put(b"stays", "x").unwrap();
        let time = db.store().time();
        if closed {
            db.close().unwrap();
        } else {
            executor.advance(Duration::from_secs(1)); // an idle log names its last entries as committed
            drop(db);
        }
        let before = look(&dir).unwrap();
        assert_eq!((before.keys, before.problems.len()), (3, 0));

        let new = repaired(&dir, RepairOptions::default());
        assert!(new.report.is_complete(), "{:?}", new.report);
        assert_eq!(Some(&new.report.content_hash), before.content_hash.as_ref());
        let (environment, executor) = stepped();
        executor.advance(Duration::from_secs(60));
        let db = Db::open_in(&environment, &new.path, small()).unwrap();
        assert!(db.store().time() >= time);
        assert_eq!(db.get(b"later5000").unwrap().unwrap().expires.time(), Some(101));
        executor.advance(Duration::from_secs(60));
        assert_eq!(db.multi_get(&["later50", "later5000"]).unwrap(), [None, None]);
        assert!(db.get(b"stays").unwrap().is_some());
        db.close().unwrap();
    }
}
