//! Fills three nodes of kvnode and three of etcd with the same load, one after the other in rounds, and
//! prints medians and ratios. Both sync every write before they acknowledge it.

mod etcd;
mod kvnode;
mod nodes;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;

use nodes::Outcome;

/// Three nodes of kvnode against three of etcd.
#[derive(Parser)]
struct Args {
    /// Directory with the release builds of kvnode and kvadmin.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// The etcd server.
    #[arg(long, default_value = "etcd")]
    etcd: PathBuf,
    /// Runs of each; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Loads as VALUE_BYTES:CLIENTS:OPS.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "256:64:40000,4096:64:30000,65536:64:6000,1048576:32:400"
    )]
    loads: Vec<String>,
}

/// What is written: `ops` keys in shuffled order, values that do not compress.
#[derive(Clone, Copy)]
pub struct Load {
    /// Length of a value.
    pub value_bytes: usize,
    /// Writers at a time.
    pub clients: usize,
    /// Writes.
    pub ops: usize,
}

impl Load {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let numbers: Result<Vec<usize>, _> = text.split(':').map(str::parse).collect();
        let numbers = numbers.with_context(|| format!("{text} is not VALUE_BYTES:CLIENTS:OPS"))?;
        let [value_bytes, clients, ops] = numbers[..] else {
            anyhow::bail!("{text} is not VALUE_BYTES:CLIENTS:OPS")
        };
        Ok(Self { value_bytes, clients, ops })
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    println!(
        "fsync: every write, on a majority, before it is acknowledged; {} rounds, medians (least-most)",
        args.rounds
    );
    println!("| load | who | ops/s | p50 ms | p99 ms | written per user byte and node | peak MB a node |");
    println!("|---|---|---|---|---|---|---|");
    for load in &args.loads {
        let load = Load::parse(load)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            ours.push(kvnode::fill(&args.programs, load).await?);
            theirs.push(etcd::fill(&args.etcd, load).await?);
        }
        let name = format!("{} B x {}", load.value_bytes, load.clients);
        let (ours, theirs) = (row(&name, "kvnode", &ours), row(&name, "etcd", &theirs));
        println!(
            "| {name} | **ratio** | **{:.2}** | {:.2} | {:.2} | | |",
            ours.0 / theirs.0,
            ours.1 / theirs.1,
            ours.2 / theirs.2
        );
    }
    Ok(())
}

/// Prints the medians of the rounds; returns those of ops/s, p50 and p99.
fn row(load: &str, who: &str, rounds: &[Outcome]) -> (f64, f64, f64) {
    let sorted = |of: fn(&Outcome) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        (all[all.len() / 2], all[0], all[all.len() - 1])
    };
    let (ops, least, most) = sorted(|round| round.ops_per_second);
    let (p50, ..) = sorted(|round| round.p50_ms);
    let (p99, ..) = sorted(|round| round.p99_ms);
    let (written, ..) = sorted(|round| round.written_per_user_byte);
    let (memory, ..) = sorted(|round| round.peak_mb);
    println!(
        "| {load} | {who} | {ops:.0} ({least:.0}-{most:.0}) | {p50:.1} | {p99:.1} | {written:.2} | {memory:.0} |"
    );
    (ops, p50, p99)
}
