//! What is not damaged comes over as it is.

use std::fs;

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
