//! Which operations are tried, on all processors, and what a failure was doing.

use std::env;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Numbers from 1 to `last`: every `stride`-th, or as the environment says (see the crate's first lines).
pub fn share_of(last: u64, stride: u64) -> Vec<u64> {
    if let Some(at) = env::var("KV_CRASH_AT").ok().and_then(|at| at.parse().ok()) {
        return vec![at];
    }
    let stride = if env::var("KV_CRASH_ALL").is_ok_and(|all| all == "1") { 1 } else { stride };
    (1..=last).step_by(stride as usize).collect()
}

/// Whether all of a test runs, not one operation of it.
pub fn is_whole() -> bool {
    env::var("KV_CRASH_AT").is_err()
}

/// Gives each number to `f`, on as many threads as there are processors.
pub fn for_each(numbers: &[u64], f: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let work = || {
        while let Some(number) = numbers.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            f(*number);
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
}

/// Says what was being done if the test fails while it lives; the database itself may be what panics.
pub struct Doing(pub String);

impl Drop for Doing {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("while: {}", self.0);
        }
    }
}
