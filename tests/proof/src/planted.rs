//! The proofs prove themselves: bugs on purpose, each of which one of them must find.
//!
//! The bugs stand in the engine, at the places that ask [`kv_vfs::planted`]. Each runs in a process of its own.

use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use kv_vfs::planted::VARIABLE;

use crate::corruption;
use crate::coverage::Coverage;
use crate::crash::{Share, enumerate};
use crate::embedded::Embedded;
use crate::errors;
use crate::node::Node;
use crate::scenarios::{self, Scenario};

/// Bugs that the large proofs find, by the names they have in the engine.
pub const BUGS: &[&str] = &[
    "group not synced",
    "callbacks before the sync",
    "vote acknowledged before it is durable",
    "failed write acknowledged",
    "log goes on after a failed flush",
    "segment header not synced",
    "name of a segment not synced",
    "name of the data directory not synced",
    "vote not carried into the next segment",
    "recovered end of the log not synced",
    "log cut at any bad checksum",
    "cut not recorded",
    "truncation not replayed",
    "truncation in a header not replayed",
    "purge not recorded",
    "replay from behind what is in tables",
    "flush ahead of the log",
    "table not synced",
    "name of a flushed table not synced",
    "name of a compacted table not synced",
    "inputs of a compaction removed too early",
    "tombstones dropped by a flush",
    "change-set not synced",
    "manifest not synced before CURRENT names it",
    "name of a manifest not synced before CURRENT",
    "CURRENT before its content",
    "name of CURRENT not synced",
    "segment not identified",
    "checksum of a value not verified",
    "failed sync retried",
    "floor of a snapshot not recorded",
    "membership of a snapshot not installed",
    "snapshot installed in two change-sets",
    "segment files removed before the manifest drops them",
    "position of a flush ahead of its table",
    "moved values not synced",
    "name of a file of moved values not synced",
    "collected files removed too early",
    "a moved value left out of the remap",
    "codec of a moved value lost",
];

/// The longest that finding a bug may take.
const LIMIT: Duration = Duration::from_secs(600);

/// A proof that is run against a bug, and says whether all is well.
type Proof = (&'static str, fn() -> bool);

/// The proofs, quickest first.
const PROOFS: [Proof; 4] = [
    ("corruption sweep", || corruption::sweep(corruption::Share { every: 401 }).failures.is_empty()),
    ("crashes, node", || {
        crashes(&[1, 2], |seeds, share, coverage| drop(enumerate(Node, seeds, share, coverage)))
    }),
    ("crashes, embedded", || {
        crashes(&[1, 2], |seeds, share, coverage| drop(enumerate(Embedded, seeds, share, coverage)))
    }),
    ("I/O errors", || errors::sweep(2).failures.is_empty()),
];

fn crashes(seeds: &[u64], run: fn(&[u64], Share, &Arc<Coverage>)) -> bool {
    run(seeds, Share::QUICK, &Arc::default());
    true
}

/// Runs one proof after the other until one fails; tells on stdout which one runs. Says whether none failed.
#[must_use]
pub fn run_proofs() -> bool {
    PROOFS.iter().all(|(name, proof)| {
        println!("{name}");
        let _ = io::stdout().flush();
        catch_unwind(AssertUnwindSafe(proof)).unwrap_or(false)
    })
}

/// Runs the proofs against each bug whose name contains `part`, and against none; prints a table. Says
/// whether all bugs were found, and nothing where there was none.
///
/// # Errors
/// Those of starting processes.
pub fn hunt(part: &str) -> io::Result<bool> {
    let (mut found, mut hunted) = (0, 0);
    println!("| bug | found by | seconds |\n|---|---|---|");
    let sound = run_against("")?;
    for bug in BUGS.iter().filter(|bug| bug.contains(part)) {
        hunted += 1;
        found += usize::from(run_against(bug)?);
    }
    println!("\n{found} of {hunted} planted bugs found");
    Ok(found == hunted && !sound)
}

/// Runs each scenario without a bug, and against each of the bugs that it must find; prints a table. Says
/// whether it found all of them, and nothing where there was none.
///
/// # Errors
/// Those of starting processes.
pub fn hunt_scenarios() -> io::Result<bool> {
    println!("| scenario | bug | found |\n|---|---|---|");
    let mut good = true;
    for Scenario { number, name, bugs, .. } in scenarios::ALL {
        for bug in [""].iter().chain(*bugs) {
            let mut child = this_program(bug)?.args(["scenario", name]).stdout(Stdio::null()).spawn()?;
            let is_found = !child.wait()?.success();
            good &= is_found != bug.is_empty();
            let (bug, found) =
                (if bug.is_empty() { "(none)" } else { bug }, if is_found { "yes" } else { "no" });
            println!("| {number} {name} | {bug} | {found} |");
        }
    }
    Ok(good)
}

/// Runs the scenario of this name; panics where it is not as it must be. Says whether there is one.
#[must_use]
pub fn run_scenario(name: &str) -> bool {
    let found = scenarios::ALL.iter().find(|scenario| scenario.name == name);
    found.inspect(|scenario| (scenario.run)()).is_some()
}

/// This program with this bug.
fn this_program(bug: &str) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(VARIABLE, bug).stderr(Stdio::null());
    Ok(command)
}

/// Runs the proofs in a process with this bug; says whether one failed.
fn run_against(bug: &str) -> io::Result<bool> {
    let start = Instant::now();
    let mut child = this_program(bug)?.arg("proofs").stdout(Stdio::piped()).spawn()?;
    let proofs = output_within(&mut child, LIMIT)?;
    let failed = !child.wait()?.success();
    let by = proofs.lines().last().filter(|_| failed).unwrap_or("none");
    let bug = if bug.is_empty() { "(none)" } else { bug };
    println!("| {bug} | {by} | {} |", start.elapsed().as_secs());
    Ok(failed)
}

/// What the process says until it ends; it is ended when the time is over.
fn output_within(child: &mut Child, limit: Duration) -> io::Result<String> {
    let (done, finished) = mpsc::channel();
    let stdout = child.stdout.take();
    thread::spawn(move || done.send(stdout.map(io::read_to_string)));
    match finished.recv_timeout(limit) {
        Ok(text) => text.unwrap_or_else(|| Ok(String::new())),
        Err(_) => {
            child.kill()?;
            Ok("the time limit".into())
        }
    }
}
