//! The proofs in full: hours of them, in chunks that can be interrupted. See `docs/testing.md`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use kv_proof::full::{Full, Progress};
use kv_proof::scenarios::Counting;
use kv_proof::{corruption, errors, planted};

/// Scenarios ask how much memory they hold.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Proofs of the engine.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Loses power at every operation of the workloads of many seeds; goes on where it was interrupted.
    Crash {
        /// Workloads of each kind.
        #[arg(long, default_value_t = 40)]
        seeds: u64,
        /// Ends after about so many minutes; the next run goes on.
        #[arg(long, default_value_t = u64::MAX / 60)]
        minutes: u64,
        /// Where the figures of finished seeds are kept.
        #[arg(long, default_value = "target/crash-figures")]
        progress: PathBuf,
    },
    /// Damages every file of a directory in every way.
    Corruption {
        /// Of the bits and lengths, every so many-th.
        #[arg(long, default_value_t = 1)]
        every: u64,
    },
    /// Fails operations at every place in the engine.
    Errors {
        /// Operations of each place, spread over a run.
        #[arg(long, default_value_t = 20)]
        per_place: usize,
    },
    /// Has the proofs find bugs on purpose. Needs the feature `planted-bugs`.
    Planted {
        /// Only those whose name contains this.
        #[arg(default_value = "")]
        part: String,
        /// Has each scenario find its own bugs instead: a minute, not an hour.
        #[arg(long)]
        scenarios: bool,
    },
    /// Runs quick proofs until one fails: what `planted` runs for each bug.
    #[command(hide = true)]
    Proofs,
    /// Runs one scenario.
    #[command(hide = true)]
    Scenario { name: String },
}

fn main() -> anyhow::Result<ExitCode> {
    let done = match Args::parse().command {
        Command::Crash { seeds, minutes, progress } => {
            let progress = Progress::open(&progress).context("cannot read the figures of earlier runs")?;
            Full { seeds, minutes }.run(progress)?
        }
        Command::Corruption { every } => {
            let tally = corruption::sweep(corruption::Share { every });
            println!("{tally}");
            tally.failures.iter().for_each(|failure| println!("{failure}"));
            tally.failures.is_empty()
        }
        Command::Errors { per_place } => {
            let tally = errors::sweep(per_place);
            println!("{tally}");
            tally.failures.iter().for_each(|failure| println!("{failure}"));
            tally.failures.is_empty()
        }
        Command::Planted { .. } if !cfg!(feature = "planted-bugs") => {
            anyhow::bail!("there are no bugs in this build: run it with --features planted-bugs")
        }
        Command::Planted { scenarios: true, .. } => planted::hunt_scenarios()?,
        Command::Planted { part, .. } => planted::hunt(&part)?,
        Command::Proofs => planted::run_proofs(),
        Command::Scenario { name } => planted::run_scenario(&name),
    };
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
