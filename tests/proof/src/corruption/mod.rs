//! Damage to the files of a directory that was closed cleanly: what is read is what was written, or it is an
//! error that names the file.

mod damage;
mod fixture;
mod verdict;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parking_lot::Mutex;

use crate::share::for_each;
pub use damage::{Damage, Kind};
pub use fixture::Fixture;
pub use verdict::Verdict;

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Of the bits, and of the lengths, every so many-th; coprime to 8, so that all bits of a byte come.
    pub every: u64,
}

/// What came of the damages.
#[derive(Debug, Default)]
pub struct Tally {
    /// By kind of damage and kind of file: how many were refused, noticed in reading, without effect.
    pub counts: BTreeMap<(Kind, &'static str), [u64; 3]>,
    /// What must not be.
    pub failures: Vec<String>,
}

/// Damages every file in turn in each way; see the module.
#[must_use]
pub fn sweep(share: Share) -> Tally {
    let (fixture, other) = (Fixture::new(1), Fixture::new(2));
    let tally = Mutex::new(Tally::default());
    for_each(&damage::all(&fixture, &other, share.every), |damage| {
        let disk = fixture.disk();
        let damaged = damage.apply(&disk, &fixture, &other);
        let judged = catch_unwind(AssertUnwindSafe(|| verdict::judge(&fixture, &disk, &damaged)));
        let mut tally = tally.lock();
        match judged {
            Ok(Ok(verdict)) => {
                let counts = tally.counts.entry((damage.kind(), fixture::kind_of(&damaged[0]))).or_default();
                counts[verdict as usize] += 1;
            }
            Ok(Err(why)) => tally.failures.push(format!("{damage:?}: {why}")),
            Err(_) => tally.failures.push(format!("{damage:?}: a panic")),
        }
    });
    tally.into_inner()
}

impl Tally {
    /// How many damages were tried.
    #[must_use]
    pub fn tried(&self) -> u64 {
        self.counts.values().flatten().sum::<u64>() + self.failures.len() as u64
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<16} {:<9} {:>9} {:>9} {:>9}", "damage", "file", "refused", "noticed", "no effect")?;
        for ((kind, file), [refused, noticed, none]) in &self.counts {
            writeln!(f, "{:<16} {file:<9} {refused:>9} {noticed:>9} {none:>9}", format!("{kind:?}"))?;
        }
        let failures = self.failures.len();
        write!(f, "{} damages tried, {failures} of them with a wrong outcome", self.tried())
    }
}
