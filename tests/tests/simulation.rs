//! A whole cluster in one process, one thread and simulated time: a seed decides all that happens to it.
//!
//! `KV_SIM_SEEDS=100..200` runs these seeds instead of the few of an ordinary run. A seed that fails prints the
//! command that repeats it, event by event.
#![expect(clippy::panic, reason = "a test that cannot go on has failed")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::ops::Range;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const SIMULATE: &str = env!("CARGO_BIN_EXE_simulate");
/// Seeds of an ordinary run.
const SEEDS: Range<u64> = 1..11;

fn simulate(args: &[&str]) -> Output {
    // Backtraces are of no use for what went wrong long before, and slow.
    Command::new(SIMULATE).args(args).env("RUST_BACKTRACE", "0").output().unwrap()
}

/// Runs a seed; what it printed, or why it failed.
fn run(seed: u64) -> Result<String, String> {
    let output = simulate(&[&seed.to_string()]);
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        return Ok(said.into_owned());
    }
    Err(format!("seed {seed} failed; repeat it with: {SIMULATE} {seed} --show\n{errors}"))
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("KV_SIM_SEEDS") else { return SEEDS };
    let bounds = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    bounds.unwrap_or_else(|| panic!("KV_SIM_SEEDS={text} is not of the form 1..11"))
}

/// Runs seeds on all processors; returns why some failed.
fn failures(seeds: Range<u64>) -> Vec<String> {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mine = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        mine.take_while(|seed| *seed < seeds.end).filter_map(|seed| run(seed).err()).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

/// Broken by: an acknowledgement before the sync or before a quorum has it, a vote that is forgotten, a recovery
/// that loses or brings back entries, a stale read, replicas that differ, a cluster that does not come back.
#[test]
fn what_clients_were_told_stays_true_whatever_fails() {
    let failures = failures(seeds());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Broken by: a thread, a clock, a random number or an order of addresses that the seed does not decide. A
/// failure could then not be repeated.
#[test]
fn the_seed_decides_everything() {
    let first = run(1).unwrap();
    assert_eq!(first, run(1).unwrap());
    assert_ne!(first, run(2).unwrap(), "the seed decides nothing");
}

/// A leader sends an entry before it has written it. Broken by: a leader that goes on with its term after it was
/// killed in between, and gives the number of that entry to another one. The second half shows that the scenario
/// would notice.
#[test]
fn a_leader_that_resumed_its_term_would_make_replicas_differ() {
    let contents = |flag: &str| {
        let output = simulate(&["1", flag]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        said.lines().next().unwrap().to_owned()
    };
    assert_eq!(contents("--kill-leader"), "contents=same");
    assert_eq!(contents("--kill-leader-and-resume"), "contents=different");
}
