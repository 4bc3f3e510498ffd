//! Operations that fail, at every place in the engine that does one: nothing is acknowledged that is not
//! there, and after a failed write or sync nothing is acknowledged at all.

mod rare;
mod recovery;
mod sites;
mod sources;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use kv_lsm::StoreError;
use kv_vfs::fault::{Fault, Rule, Times};
use kv_vfs::{FaultVfs, MemVfs, OpKind, Survival, Vfs};
use parking_lot::Mutex;

use crate::coverage::Coverage;
use crate::crash::Subject;
use crate::embedded::Embedded;
use crate::node::Node;
use crate::share::for_each;
use crate::world::{Life, shared};
pub use sites::Site;
pub use sources::unseen;

/// Seed of the workloads.
const SEED: u64 = 1;

/// What came of the failures at one place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// How often the place is reached by the workloads.
    pub reached: u64,
    /// Failures that were tried.
    pub tried: u64,
    /// Of them, those after which nothing was written any more.
    pub stopped: u64,
    /// Of them, those which only the caller was told of.
    pub told: u64,
    /// Of them, those that did no harm.
    pub passed: u64,
}

/// What a sweep came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// By place.
    pub outcomes: BTreeMap<Site, Outcome>,
    /// What must not be.
    pub failures: Vec<String>,
}

/// The ways in which an operation of this kind can fail.
fn faults(op: OpKind) -> Vec<(Fault, Times)> {
    let mut faults = vec![(Fault::Eio, Times::Once), (Fault::Eio, Times::Forever)];
    if op.mutates() {
        faults.extend([(Fault::Enospc, Times::Once), (Fault::Enospc, Times::Forever)]);
    }
    if op == OpKind::Write {
        let short = [1, 512, 4096, 1 << 20].map(|bytes| (Fault::ShortWrite { bytes }, Times::Once));
        faults.extend(short);
    }
    faults
}

/// Fails operations at each place of the engine: `per_site` of them, spread over the run.
#[must_use]
pub fn sweep(per_site: usize) -> Tally {
    let mut tally = Tally::default();
    one(Node, per_site, &mut tally);
    one(Embedded, per_site, &mut tally);
    recovery::sweep(per_site, &mut tally);
    rare::second_failures(&mut tally);
    rare::verification(&mut tally);
    tally
}

/// Places, and the numbers of their operations among those of their kind.
type Reached = BTreeMap<Site, Vec<u64>>;

fn one<S: Subject>(subject: S, per_site: usize, tally: &mut Tally) {
    let reached: Reached = sites::record(subject, SEED);
    let mut tries = Vec::new();
    for (site, numbers) in &reached {
        tally.outcomes.entry(site.clone()).or_default().reached += numbers.len() as u64;
        for nth in spread(numbers, per_site) {
            tries.extend(faults(site.op).into_iter().map(|(fault, times)| (site, nth, fault, times)));
        }
    }
    run_all(&tries, tally, |(site, nth, error, times)| {
        let rule =
            Rule { op: site.op, path_contains: String::new(), nth: *nth, times: *times, error: *error };
        let what =
            format!("{} workload, {site}, number {nth} of {:?}, {error:?} {times:?}", S::NAME, site.op);
        (site, what, catch_unwind(AssertUnwindSafe(|| fail(subject, &[rule]))))
    });
}

/// Does all tries and takes the outcomes in.
fn run_all<'a, T: Sync>(
    tries: &[T],
    tally: &mut Tally,
    run: impl Fn(&T) -> (&'a Site, String, std::thread::Result<Result<End, String>>) + Sync,
) {
    let results = Mutex::new(Vec::new());
    for_each(tries, |one| {
        let result = run(one);
        results.lock().push(result);
    });
    for (site, what, result) in results.into_inner() {
        let outcome = tally.outcomes.entry(site.clone()).or_default();
        outcome.tried += 1;
        match result.unwrap_or_else(|_| Err("a panic".into())) {
            Ok(End::Stopped) => outcome.stopped += 1,
            Ok(End::Told) => outcome.told += 1,
            Ok(End::Passed) => outcome.passed += 1,
            Err(why) => tally.failures.push(format!("{what}: {why}")),
        }
    }
}

/// The first, the last and others between.
fn spread<T: Copy>(numbers: &[T], count: usize) -> Vec<T> {
    let last = numbers.len() - 1;
    let mut at: Vec<_> = (0..count).map(|n| n * last / count.saturating_sub(1).max(1)).collect();
    at.dedup();
    at.into_iter().map(|at| numbers[at]).collect()
}

enum End {
    Stopped,
    Told,
    Passed,
}

/// A run in which this fails, one after the other, and what is left then: as it is, and after a loss of power.
fn fail<S: Subject>(subject: S, rules: &[Rule]) -> Result<End, String> {
    let (disk, life) = (MemVfs::new(), Life::new(S::Known::default()));
    let vfs = FaultVfs::new(shared(&disk));
    let (op, nth) = (rules[0].op, rules[0].nth);
    rules.iter().for_each(|rule| vfs.fail(rule.clone()));
    let ended = subject.run(SEED, &(Arc::new(vfs.clone()) as Arc<dyn Vfs>), &life);
    if vfs.failed() < rules.len() as u64 {
        return Err("the operation was not reached".into());
    }
    let end = match (&ended, life.refused()) {
        (Ok(()), _) if is_sync(op) => return Err("goes on after a failed sync".into()),
        (Ok(()), _) => End::Passed,
        // Nothing relies on a table before it is recorded: it is written later.
        (Err(StoreError::NoRoom { .. }), Some(false)) if !is_sync(op) => End::Told,
        (Err(error), Some(false)) if op.mutates() && !is_transfer(life.stage(), op) => {
            return Err(format!("takes writes after {error}"));
        }
        (Err(_), Some(false)) => End::Told,
        (Err(_), _) => End::Stopped,
    };
    if life.fatal() > 1 || (op.mutates() && life.refused() == Some(true) && life.fatal() != 1) {
        return Err(format!("the process was told {} times to end, after {ended:?}", life.fatal()));
    }
    check_left(subject, &disk, &life, nth)?;
    Ok(end)
}

/// Whether this is what makes things durable: whoever goes on after it has failed has retried it, or not looked.
fn is_sync(op: OpKind) -> bool {
    matches!(op, OpKind::Sync | OpKind::SyncDir)
}

/// Whether this writes what a peer sends into files of its own, which nobody relies on before they are synced: a
/// transfer that fails there is given up, and the node goes on. So it is with the new files of value GC, and with those of
/// a copy, whatever fails.
fn is_transfer(stage: &str, op: OpKind) -> bool {
    stage == "checkpoint"
        || matches!(stage, "install" | "gc") && matches!(op, OpKind::Create | OpKind::Write | OpKind::SetLen)
}

/// What is left after a failure must open, with all that was acknowledged: after a kill and after a crash.
fn check_left<S: Subject>(subject: S, disk: &MemVfs, life: &Life<S::Known>, seed: u64) -> Result<(), String> {
    let torn = Survival::Torn { sector: 512, seed };
    for left in [disk.crash_clone(&torn), disk.crash_clone(&Survival::Synced), disk.kill_clone()] {
        let life = Life::new(life.known().clone());
        let opened = subject.open(&shared(&left), &life).map_err(|e| format!("does not open then: {e}"))?;
        subject.compare(&opened, &life, &Coverage::default());
        subject.go_on(opened, &left, &life, seed);
    }
    Ok(())
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["reached", "tried", "stopped", "told", "passed"];
        let [a, b, c, d, e] = head;
        writeln!(f, "{a:>8} {b:>6} {c:>8} {d:>6} {e:>6}  place")?;
        for (site, Outcome { reached, tried, stopped, told, passed }) in &self.outcomes {
            writeln!(f, "{reached:>8} {tried:>6} {stopped:>8} {told:>6} {passed:>6}  {site}")?;
        }
        let tried: u64 = self.outcomes.values().map(|outcome| outcome.tried).sum();
        let (places, failures) = (self.outcomes.len(), self.failures.len());
        write!(f, "{places} places, {tried} failures tried, {failures} of them with a wrong outcome")
    }
}
