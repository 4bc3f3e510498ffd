//! Operations that fail while what a crash left is opened.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use kv_vfs::fault::Rule;
use kv_vfs::{FaultVfs, MemVfs, Survival};
use parking_lot::Mutex;

use super::sites::{Site, watched};
use super::{End, SEED, Tally, check_left, faults, is_sync, run_all, spread};
use crate::coverage::Coverage;
use crate::crash::Subject;
use crate::node::Node;
use crate::world::{Life, shared};

type Known = <Node as Subject>::Known;

/// Every so many-th operation of the workload is the place of a crash.
const EVERY: u64 = 5;

/// What a crash left, and what is known.
struct Left {
    disk: MemVfs,
    known: Known,
}

/// Fails operations at each place that only a recovery reaches, and at the others too.
pub(super) fn sweep(per_site: usize, tally: &mut Tally) {
    let all = crashes();
    let mut reached: BTreeMap<Site, Vec<(usize, u64)>> = BTreeMap::new();
    for (at, left) in all.iter().enumerate() {
        let life = Life::new(left.known.clone());
        let mut opened = None;
        let sites = watched(&left.disk.crash_clone(&Survival::Everything), |vfs| {
            opened = Some(Node.open(vfs, &life).unwrap());
        });
        opened.into_iter().for_each(|opened| Node.stop(opened));
        for (site, numbers) in sites {
            reached.entry(site).or_default().extend(numbers.into_iter().map(|number| (at, number)));
        }
    }
    let mut tries = Vec::new();
    for (site, places) in &reached {
        tally.outcomes.entry(site.clone()).or_default().reached += places.len() as u64;
        for (at, nth) in spread(places, per_site) {
            tries.extend(faults(site.op).into_iter().map(|(error, times)| (site, at, nth, error, times)));
        }
    }
    run_all(&tries, tally, |(site, at, nth, error, times)| {
        let rule =
            Rule { op: site.op, path_contains: String::new(), nth: *nth, times: *times, error: *error };
        let what = format!("recovery {at}, {site}, number {nth} of {:?}, {error:?} {times:?}", site.op);
        (*site, what, catch_unwind(AssertUnwindSafe(|| fail(&all[*at], rule))))
    });
}

/// Disks as crashes of a workload leave them, by one model of what survives after the other.
fn crashes() -> Vec<Left> {
    let (disk, life) = (MemVfs::new(), Life::new(Known::default()));
    let all: Arc<Mutex<Vec<Left>>> = Arc::default();
    let (keep, knowing) = (all.clone(), life.clone());
    disk.before_each(move |moment| {
        let seed = moment.number();
        if seed.is_multiple_of(EVERY) {
            let survival = match seed / EVERY % 3 {
                0 => Survival::Everything,
                1 => Survival::Torn { sector: 512, seed },
                _ => Survival::Subset { seed },
            };
            keep.lock().push(Left { disk: moment.crash_clone(&survival), known: knowing.known().clone() });
        }
    });
    Node.run(SEED, &shared(&disk), &life).unwrap();
    disk.unwatch();
    std::mem::take(&mut *all.lock())
}

fn fail(left: &Left, rule: Rule) -> Result<End, String> {
    let (disk, life) = (left.disk.crash_clone(&Survival::Everything), Life::new(left.known.clone()));
    let (vfs, nth, is_sync) = (FaultVfs::new(shared(&disk)), rule.nth, is_sync(rule.op));
    vfs.fail(rule);
    let opened = Node.open(&(Arc::new(vfs.clone()) as _), &life);
    if vfs.failed() == 0 {
        return Err("the operation was not reached".into());
    }
    vfs.clear();
    let end = match opened {
        Err(_) => End::Stopped,
        Ok(_) if is_sync => return Err("opens after a failed sync".into()),
        Ok(opened) => {
            Node.compare(&opened, &life, &Coverage::default());
            Node.stop(opened);
            End::Passed
        }
    };
    check_left(Node, &disk, &life, nth)?;
    Ok(end)
}
