//! Randomness of the simulation itself, one stream for each purpose.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A stream of choices; clones share it.
#[derive(Clone, Debug)]
pub struct Rng(Arc<Mutex<StdRng>>);

impl Rng {
    /// The stream of this name. One that draws more does not change what another one draws.
    pub fn new(seed: u64, name: &str) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(xxh3_64_with_seed(name.as_bytes(), seed)))))
    }

    /// A number of the range.
    pub fn range(&self, range: Range<u64>) -> u64 {
        self.0.lock().random_range(range)
    }

    /// True once in `n`.
    pub fn one_in(&self, n: u64) -> bool {
        self.range(0..n) == 0
    }

    /// A time of so many milliseconds.
    pub fn millis(&self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.range(range))
    }

    /// One of these.
    pub fn pick<T: Copy>(&self, choices: &[T]) -> Option<T> {
        choices.get(self.range(0..choices.len().max(1) as u64) as usize).copied()
    }
}
