//! Loss of power before and after every mutating file operation, in every model of what survives it; and
//! again while what was left is opened.
//!
//! The disk as it is just before an operation is the disk as it is just after the one before, so one look
//! before each operation sees both. The workload runs once; at each operation the disk is copied as a loss of
//! power would leave it, opened, and held against what is known at that moment. From the first operation on
//! everything that is left must open, even where the data was never opened before.

mod figures;
mod subject;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kv_vfs::{MemVfs, Moment, Survival};
use parking_lot::Mutex;

use crate::coverage::Coverage;
use crate::share::{Doing, for_each};
use crate::world::{Life, shared};

pub use figures::Figures;
pub use subject::{Known, Subject};

/// How much of a workload is tried.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Every so many-th operation; which ones depends on the seed.
    pub operations: u64,
    /// Of the operations that are tried, every so many-th is followed by more crashes while recovering.
    pub recoveries: u64,
    /// Of the operations of a recovery, every so many-th.
    pub recovering: u64,
}

impl Share {
    /// What a continuous integration run has time for.
    pub const QUICK: Self = Self { operations: 2, recoveries: 12, recovering: 7 };
    /// All operations; recoveries from a few of them, at all their operations.
    pub const FULL: Self = Self { operations: 1, recoveries: 24, recovering: 3 };
}

/// Every model of what survives; those that choose, by a seed of their own for each place of a crash.
pub(crate) fn survivals(seed: u64) -> [Survival; 8] {
    [
        Survival::Synced,
        Survival::Everything,
        Survival::Torn { sector: 512, seed },
        Survival::Torn { sector: 4096, seed },
        Survival::Subset { seed },
        Survival::Subset { seed: seed + 1 },
        Survival::NamesLost { seed },
        Survival::NamesSubset { seed },
    ]
}

/// One in turn of the models, for the second crash.
fn second_survival(n: u64) -> Survival {
    let [a, _, b, _, c, _, d, e] = survivals(n);
    [a, b, c, d, e][n as usize % 5]
}

/// Runs the workloads of these seeds, each crash of the share; returns the figures of each.
///
/// # Panics
/// Where a crash leaves what it must not, after saying which: the seed, the operation, what survived.
pub fn enumerate<S: Subject>(
    subject: S,
    seeds: &[u64],
    share: Share,
    coverage: &Arc<Coverage>,
) -> Vec<(u64, Figures)> {
    let figures = Mutex::new(Vec::new());
    for_each(seeds, |seed| {
        let run = Arc::new(Enumeration {
            subject,
            seed: *seed,
            share,
            coverage: coverage.clone(),
            figures: Mutex::default(),
            failed: AtomicBool::new(false),
        });
        run.whole();
        figures.lock().push((*seed, *run.figures.lock()));
    });
    figures.into_inner()
}

struct Enumeration<S> {
    subject: S,
    seed: u64,
    share: Share,
    coverage: Arc<Coverage>,
    figures: Mutex<Figures>,
    failed: AtomicBool,
}

impl<S: Subject> Enumeration<S> {
    fn whole(self: &Arc<Self>) {
        let _doing = Doing(format!("{} workload of seed {}", S::NAME, self.seed));
        let (disk, life) = (MemVfs::new(), Life::new(S::Known::default()));
        let (this, watched) = (self.clone(), life.clone());
        disk.before_each(move |moment| this.look(moment, &watched));
        let ended = self.subject.run(self.seed, &shared(&disk), &life);
        disk.unwatch();
        assert!(!self.failed.load(Ordering::SeqCst), "seed {}: a crash left what it must not", self.seed);
        ended.unwrap_or_else(|error| panic!("seed {}: failed by itself: {error}", self.seed));
        // After the last operation.
        let at = disk.operations() + 1;
        for survival in survivals(at) {
            self.check(&disk.crash_clone(&survival), &life, Some(at));
        }
    }

    /// Looks at the moment before an operation of the workload. What fails is told at the end: a panic here
    /// would unwind through the engine in the middle of its work.
    fn look(&self, moment: &Moment<'_>, life: &Life<S::Known>) {
        let n = moment.number();
        if self.failed.load(Ordering::SeqCst)
            || n % self.share.operations != self.seed % self.share.operations
        {
            return;
        }
        self.figures.lock().operations += 1;
        self.coverage.note_point(life.stage(), life.worker(), moment.op());
        life.known().under_way(&mut |what| self.coverage.note(format!("{what} under way")));
        let looked = catch_unwind(AssertUnwindSafe(|| {
            let _doing =
                Doing(format!("seed {}, power lost before operation {n}: {:?}", self.seed, moment.op()));
            let recover = (n / self.share.operations).is_multiple_of(self.share.recoveries);
            for (at, survival) in (0..).zip(survivals(n)) {
                let _doing = Doing(format!("{survival:?}"));
                let left = moment.crash_clone(&survival);
                if recover {
                    self.crash_again(&left.crash_clone(&Survival::Everything), life, n);
                }
                self.check(&left, life, (n % 8 == at).then_some(n));
            }
            let _doing = Doing("the process killed, not the machine".into());
            self.kill(moment, life, recover);
        }));
        if looked.is_err() {
            self.failed.store(true, Ordering::SeqCst);
        }
    }

    /// What a crash left must open, and hold what it must; `thoroughly`, it also goes on from there.
    fn check(&self, left: &MemVfs, life: &Life<S::Known>, thoroughly: Option<u64>) {
        self.figures.lock().states += 1;
        let life = Life::new(life.known().clone());
        let opened = self.open(left, &life);
        match thoroughly {
            Some(seed) => self.subject.go_on(opened, left, &life, seed),
            None => self.subject.stop(opened),
        }
    }

    /// Opens what a crash left, and compares.
    fn open(&self, left: &MemVfs, life: &Arc<Life<S::Known>>) -> S::Opened {
        let opened = self.subject.open(&shared(left), life);
        let opened = opened.unwrap_or_else(|error| panic!("does not open: {error}"));
        self.subject.compare(&opened, life, &self.coverage);
        self.coverage.note_recovery(&left.log());
        opened
    }

    /// A process is killed, not the machine: the next one sees what only the page cache holds. What it has
    /// let anybody read must still be there when the power goes then.
    fn kill(&self, moment: &Moment<'_>, life: &Life<S::Known>, recover: bool) {
        let n = moment.number();
        if recover {
            self.crash_again(&moment.kill_clone(), life, n);
        }
        self.figures.lock().states += 1;
        let (left, life) = (moment.kill_clone(), Life::new(life.known().clone()));
        let opened = self.open(&left, &life);
        let survival = second_survival(n);
        let _doing = Doing(format!("then power lost: {survival:?}"));
        self.check(&left.crash_clone(&survival), &life, None);
        self.subject.stop(opened);
    }

    /// The power goes again while what a crash left is opened.
    fn crash_again(&self, left: &MemVfs, life: &Life<S::Known>, n: u64) {
        let life = Life::new(life.known().clone());
        let moments = Arc::new(Mutex::new(Vec::new()));
        let (kept, every) = (moments.clone(), self.share.recovering);
        left.before_each(move |moment| {
            if moment.number() % every == n % every {
                let again = second_survival(n / 3 + moment.number() / every);
                kept.lock().push((moment.number(), again, moment.crash_clone(&again)));
            }
        });
        let before = life.known().clone();
        let opened = self.open(left, &life);
        left.unwatch();
        self.subject.stop(opened);
        let moments = std::mem::take(&mut *moments.lock());
        for (m, again, left) in moments {
            let _doing = Doing(format!("power lost again before operation {m} of the recovery, {again:?}"));
            self.figures.lock().recoveries += 1;
            self.check(&left, &Life::new(before.clone()), None);
        }
    }
}
