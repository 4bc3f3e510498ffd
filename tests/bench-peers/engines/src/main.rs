//! Runs the same work on kv-lsm and on other embedded engines, in rounds, each run in a process of its own, and
//! prints how fast each was as a multiple of the others.

mod engine;
mod report;
mod work;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use engine::Kind;
use report::Report;
use work::{Outcome, Work};

/// kv-lsm against RocksDB, fjall and SurrealKV.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    one: Option<One>,
    /// Runs of each; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Loads as VALUE_BYTES:KEYS.
    #[arg(long, value_delimiter = ',', default_value = "100:500000,1024:150000,4096:50000,65536:3000")]
    loads: Vec<Work>,
    /// Engines; kv-lsm is always among them.
    #[arg(long, value_delimiter = ',', value_enum)]
    engines: Vec<Kind>,
    /// Seconds for which each kind of read and of synced writes goes on.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Where the data is while it is there, at most some GiB; by default where temporary files go.
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum One {
    /// One run; prints its figures as JSON.
    Run {
        #[arg(value_enum)]
        kind: Kind,
        work: Work,
        dir: PathBuf,
        seconds: f64,
    },
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(One::Run { kind, work, dir, seconds }) = args.one {
        let outcome = work.run(kind, &dir, Duration::try_from_secs_f64(seconds)?)?;
        return Ok(println!("{}", serde_json::to_string(&outcome)?));
    }
    let mut report = Report::default();
    for round in 0..args.rounds {
        for work in &args.loads {
            let mut kinds = kinds(&args.engines, work);
            // Not always the same one behind the one that leaves the most dirty pages.
            let first = round % kinds.len();
            kinds.rotate_left(first);
            for kind in kinds {
                let outcome = run(kind, work, &args)?;
                eprintln!("{kind:?} {} B, round {}: {outcome:?}", work.value_bytes, round + 1);
                report.add(kind, work.value_bytes, outcome);
            }
        }
    }
    println!("{report}");
    Ok(())
}

/// Engines that differ at this length of values.
fn kinds(wanted: &[Kind], work: &Work) -> Vec<Kind> {
    let mut kinds = Kind::all();
    kinds.retain(|kind| *kind == Kind::Kv || wanted.is_empty() || wanted.contains(kind));
    kinds.retain(|kind| !kind.separates_only() || work.value_bytes >= engine::SEPARATED_BYTES_MIN);
    kinds
}

/// Runs in a process of its own, so that its memory and its writes are known.
fn run(kind: Kind, work: &Work, args: &Args) -> anyhow::Result<Outcome> {
    let dir = match &args.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let name = clap::ValueEnum::to_possible_value(&kind).context("name of an engine")?;
    let output = Command::new(std::env::current_exe()?)
        .arg("run")
        .args([name.get_name(), &work.to_string()])
        .arg(dir.path())
        .arg(args.seconds.to_string())
        .output()?;
    anyhow::ensure!(output.status.success(), "{kind:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}
