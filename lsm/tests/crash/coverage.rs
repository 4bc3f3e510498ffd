//! What a test has reached: one that never saw a kind of thing proves nothing about it.

use std::collections::BTreeMap;

use kv_manifest::names;
use kv_vfs::{MemVfs, OpKind};
use parking_lot::Mutex;

use crate::check::shared;
use crate::run::run_watched;
use crate::script::{Step, script};
use crate::share::is_whole;
use crate::world::dir;

/// How often each kind of thing was seen.
#[derive(Debug, Default)]
pub struct Coverage {
    seen: Mutex<BTreeMap<String, u64>>,
}

impl Coverage {
    pub fn note(&self, what: impl Into<String>) {
        *self.seen.lock().entry(what.into()).or_default() += 1;
    }

    /// Notes what an open has done to the disk, which counts its operations from there.
    pub fn note_recovery(&self, disk: &MemVfs) {
        let log = disk.log();
        let removed = |kind: &str| {
            let of_kind = |path: &std::path::Path| path.extension().is_some_and(|ext| ext == kind);
            log.iter().any(|op| op.kind == OpKind::Remove && of_kind(&op.path))
        };
        // Nothing else removes segments, and an open by itself no table.
        for (kind, what) in [("seg", "orphan segment"), ("sst", "orphan table")] {
            if removed(kind) {
                self.note(what);
            }
        }
        if let Ok(reading) = kv_manifest::read(disk, dir()) {
            let causes = reading.change_sets.iter().map(|recorded| recorded.change_set.cause.as_str());
            causes.filter(|cause| cause.contains("recovery")).for_each(|cause| self.note(cause));
        }
    }

    /// Fails unless each of these was seen; not where only a part was asked for.
    #[track_caller]
    pub fn require(&self, kinds: &[&str]) {
        let seen = self.seen.lock();
        eprintln!("seen: {seen:?}");
        let missing: Vec<_> = kinds.iter().filter(|kind| !seen.contains_key(**kind)).collect();
        assert!(missing.is_empty() || !is_whole(), "never reached: {missing:?}, only {seen:?}");
    }
}

#[test]
fn the_script_reaches_every_kind_of_step() {
    let (disk, coverage) = (MemVfs::new(), Coverage::default());
    let script = script(crate::power_loss::SEED);
    let mut last = 0;
    let mut watch = |db: &kv_lsm::Db| {
        let reading = kv_manifest::read(&disk, dir()).unwrap();
        let sets = reading.change_sets.iter().map(|recorded| &recorded.change_set);
        sets.filter(|set| set.number > last).for_each(|set| coverage.note(&set.cause));
        last = reading.state.number;
        if db.store().torn_tail().is_some() {
            coverage.note("torn tail");
        }
    };
    let run = run_watched(&shared(&disk), &script, &mut watch, &mut |_, _, _| {});
    assert!(run.error.is_none(), "{:?}", run.error);
    for op in disk.log() {
        let name = op.to.as_ref().unwrap_or(&op.path).file_name().and_then(|name| name.to_str());
        match (op.kind, name.and_then(names::parse)) {
            (OpKind::Rename, Some(names::FileName::Current)) => coverage.note("manifest replaced"),
            (OpKind::Remove, Some(names::FileName::Table(_))) => coverage.note("table removed"),
            _ => {}
        }
    }
    let longest = script.iter().flat_map(changes).filter_map(|(_, value)| Some(value.as_ref()?.len())).max();
    assert!(longest > Some(256 << 10), "no value in chunks: {longest:?}");
    coverage.require(&[
        "flush",
        "compact to L1",
        "open",
        "roll",
        "close",
        "manifest replaced",
        "table removed",
    ]);
}

fn changes(step: &Step) -> &[crate::script::Change] {
    match step {
        Step::Write(changes, _) | Step::Update(changes) => changes,
        Step::Mistaken(change) => std::slice::from_ref(change),
        Step::Flush | Step::Pass(_) | Step::Close | Step::Stop => &[],
    }
}
