//! Places that no run reaches by itself: what is done about a failure, and what only an operator asks for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use kv_lsm::{Store, StoreError};
use kv_vfs::fault::{Fault, Rule, Times};
use kv_vfs::{FaultVfs, MemVfs, OpKind, Survival};

use super::sites::{Site, watched, watched_on};
use super::{End, Reached, SEED, Tally, fail, faults, run_all, spread};
use crate::crash::Subject;
use crate::node::Node;
use crate::world::{Life, shared};

/// What is written then is taken away by whoever was writing it.
const FIRST: &str = "lsm/src/table/writer.rs";

/// First failures of each place: so many that compactions are among them, and not flushes alone.
const PER_FIRST: usize = 6;

fn rule(op: OpKind, nth: u64, times: Times, error: Fault) -> Rule {
    Rule { op, path_contains: String::new(), nth, times, error }
}

fn new<'a>(sites: &'a Reached, tally: &Tally) -> Vec<(&'a Site, &'a Vec<u64>)> {
    sites.iter().filter(|(site, _)| !tally.outcomes.contains_key(site)).collect()
}

/// Fails what a failure leads to: operations at places that are reached only after it.
pub(super) fn second_failures(reached: &Reached, tally: &mut Tally) {
    let mut tries: Vec<(Site, Rule, Rule)> = Vec::new();
    let firsts = reached.iter().filter(|(site, _)| site.file == FIRST && site.op.mutates());
    for (site, numbers) in firsts {
        for nth in spread(numbers, PER_FIRST) {
            let first = rule(site.op, nth, Times::Once, Fault::Eio);
            let vfs = FaultVfs::new(shared(&MemVfs::new()));
            vfs.fail(first.clone());
            let then = watched_on(vfs, |vfs| {
                let ended = Node.run(SEED, vfs, &Life::new(Default::default()));
                assert!(ended.is_err(), "{site}, number {nth}: goes on");
            });
            for (second, numbers) in new(&then, tally) {
                let faults = faults(second.op).into_iter();
                tries.extend(faults.map(|(fault, times)| {
                    (second.clone(), first.clone(), rule(second.op, numbers[0], times, fault))
                }));
            }
        }
    }
    for (site, ..) in &tries {
        tally.outcomes.entry(site.clone()).or_default().reached += 1;
    }
    run_all(&tries, tally, |(site, first, second)| {
        let what = format!("node workload, {site} after {first:?}: {second:?}");
        let rules = [first.clone(), second.clone()];
        (site, what, catch_unwind(AssertUnwindSafe(|| fail(Node, &rules))))
    });
}

/// Fails what only a verification does, which an operator may ask a running node for: it must say so.
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

/// What is wrong with the segments.
fn verify(store: &Arc<Store>) -> Vec<StoreError> {
    let segments = store.state().segments;
    segments.values().filter_map(|segment| store.verify_segment(segment).err()).collect()
}
