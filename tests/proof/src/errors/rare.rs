//! Places that no run reaches by itself: what is done about a failure, and what only an operator asks for.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use kv_lsm::{Store, StoreError};
use kv_vfs::fault::{Fault, Rule, Times};
use kv_vfs::{FaultVfs, MemVfs, OpKind, Survival, Vfs};
use parking_lot::Mutex;

use super::sites::{Site, watched, watched_on};
use super::{End, Reached, SEED, Tally, fail, faults, run_all, spread};
use crate::crash::Subject;
use crate::node::Node;
use crate::world::{Life, shared};

fn rule(op: OpKind, nth: u64, times: Times, error: Fault) -> Rule {
    Rule { op, path_contains: String::new(), nth, times, error }
}

fn new<'a>(sites: &'a Reached, tally: &Tally) -> Vec<(&'a Site, &'a Vec<u64>)> {
    sites.iter().filter(|(site, _)| !tally.outcomes.contains_key(site)).collect()
}

/// Fails what a failed compaction leads to: it takes away what it has written, which may fail, too.
pub(super) fn second_failures(tally: &mut Tally) {
    let mut found: Vec<(Site, Rule, Rule)> = Vec::new();
    for first in first_of_a_compaction() {
        let vfs = FaultVfs::new(shared(&MemVfs::new()));
        vfs.fail(first.clone());
        let then = watched_on(vfs, |vfs| {
            let ended = Node.run(SEED, vfs, &Life::new(Default::default()));
            assert!(ended.is_err(), "goes on after {first:?}");
        });
        for (second, numbers) in new(&then, tally) {
            let faults = faults(second.op).into_iter();
            found.extend(faults.map(|(fault, times)| {
                (second.clone(), first.clone(), rule(second.op, numbers[0], times, fault))
            }));
        }
    }
    for (site, ..) in &found {
        tally.outcomes.entry(site.clone()).or_default().reached += 1;
    }
    let tries: Vec<_> = found.iter().map(|(site, first, second)| (site, first, second)).collect();
    run_all(&tries, tally, |(site, first, second)| {
        let what = format!("node workload, {site} after {first:?}: {second:?}");
        let rules = [Rule::clone(first), Rule::clone(second)];
        (*site, what, catch_unwind(AssertUnwindSafe(|| fail(Node, &rules))))
    });
}

/// The first write and the first sync of a compaction, failing.
fn first_of_a_compaction() -> Vec<Rule> {
    let life = Life::new(Default::default());
    let (vfs, firsts) =
        (FaultVfs::new(shared(&MemVfs::new())), Arc::<Mutex<BTreeMap<OpKind, u64>>>::default());
    let (watched, noted) = (life.clone(), firsts.clone());
    vfs.observe(move |op, number| {
        if matches!(op, OpKind::Write | OpKind::Sync) && watched.worker().as_deref() == Some("compactor") {
            noted.lock().entry(op).or_insert(number);
        }
    });
    Node.run(SEED, &(Arc::new(vfs) as Arc<dyn Vfs>), &life).unwrap();
    let firsts = std::mem::take(&mut *firsts.lock());
    assert_eq!(firsts.len(), 2, "no compaction");
    firsts.into_iter().map(|(op, nth)| rule(op, nth, Times::Once, Fault::Eio)).collect()
}

/// Fails what only a verification and the figures of a store do, which an operator may ask a running node for: they must
/// say so.
pub(super) fn verification(tally: &mut Tally) {
    let (disk, life) = (MemVfs::new(), Life::new(Default::default()));
    Node.run(SEED, &shared(&disk), &life).unwrap();
    let known = life.known().clone();
    let again = || disk.crash_clone(&Survival::Everything);
    let sites = watched(&again(), |vfs| {
        let opened = Node.open(vfs, &Life::new(known.clone())).unwrap();
        assert!(verify(opened.store()).is_empty());
        Node.stop(opened);
    });
    let mut tries = Vec::new();
    for (site, numbers) in new(&sites, tally) {
        for nth in spread(numbers, 2) {
            tries.extend(
                faults(site.op).into_iter().map(|(fault, times)| (site, rule(site.op, nth, times, fault))),
            );
        }
    }
    for (site, numbers) in new(&sites, tally) {
        tally.outcomes.entry(site.clone()).or_default().reached += numbers.len() as u64;
    }
    run_all(&tries, tally, |(site, rule)| {
        let failed = || {
            let vfs = FaultVfs::new(shared(&again()));
            vfs.fail(rule.clone());
            let opened = Node.open(&(Arc::new(vfs.clone()) as _), &Life::new(known.clone()));
            let opened = opened.map_err(|error| format!("does not open: {error}"))?;
            let errors = verify(opened.store());
            Node.stop(opened);
            match (vfs.failed(), errors.is_empty()) {
                (0, _) => Err("the operation was not reached".into()),
                (_, true) => Err("a failed operation, and all is said to be well".into()),
                (_, false) => Ok(End::Told),
            }
        };
        (*site, format!("verification, {site}: {rule:?}"), catch_unwind(AssertUnwindSafe(failed)))
    });
}

/// What is wrong with the segments, or keeps the store from saying what it holds.
fn verify(store: &Arc<Store>) -> Vec<StoreError> {
    let segments = store.state().segments;
    let damaged = segments.values().filter_map(|segment| store.verify_segment(segment).err());
    damaged.chain(store.stats().err()).collect()
}
