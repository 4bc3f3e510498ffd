//! The same random operations under many option sets give the answers of a sorted map: writes, conditional
//! writes, reads, iterators, snapshots, checkpoints, with restarts and losses of power in between.
//!
//! `KV_MODEL_SEQUENCES`: how many sequences run (each under one option set; default: twenty for each).
//! `KV_MODEL_SEED`: only the sequence of this seed, which a failure prints.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may panic")]

mod dice;
mod iterators;
mod model;
mod options;
mod run;

use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, thread};

/// Sequences where nothing else is said: some for each option set.
const SEQUENCES: u64 = 20 * options::SETS as u64;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Says which sequence it was if the test fails while it lives.
struct Doing(u64);

impl Drop for Doing {
    fn drop(&mut self) {
        if thread::panicking() {
            let set = options::of(self.0).0;
            eprintln!("while: KV_MODEL_SEED={} (options: {set})", self.0);
        }
    }
}

#[test]
fn every_option_set_answers_like_a_sorted_map() {
    if let Some(seed) = number("KV_MODEL_SEED") {
        let _doing = Doing(seed);
        return run::run(seed);
    }
    let (next, last) = (AtomicU64::new(0), number("KV_MODEL_SEQUENCES").unwrap_or(SEQUENCES));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= last {
                break;
            }
            let _doing = Doing(seed);
            run::run(seed);
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
}
