//! Measuring.

use std::time::Duration;

use clap::Args;

use super::seconds;

/// Measure.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("length"))]
pub struct Bench {
    /// fill: write keys bench/0000000000 .. in a shuffled order, the same keys at each run.
    /// overwrite: write them at random.
    /// read: read existing ones at random, and check them.
    #[arg(long, value_name = "NAME", default_value = "fill", value_parser = workload)]
    pub workload: Workload,
    /// Length of the values that are written, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 4096)]
    pub value_size: u32,
    /// How many operations are under way at once. They share up to 8 connected clients.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub clients: u16,
    /// Stop after so many seconds. [default: 10]
    #[arg(long, group = "length", value_name = "N", value_parser = seconds)]
    pub seconds: Option<Duration>,
    /// Stop after so many operations.
    #[arg(long, group = "length", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub ops: Option<u64>,
    /// How many different keys. [default: as many as --ops; with --seconds: fill 1000000, read all there are; overwrite: 1000000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=crate::workload::values::KEYS_MAX))]
    pub keys: Option<u64>,
}

/// What `bench` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Writes every key.
    Fill,
    /// Writes keys at random, so that most are written again and again.
    Overwrite,
    /// Reads keys at random.
    Read,
}

fn workload(name: &str) -> Result<Workload, String> {
    match name {
        "fill" => Ok(Workload::Fill),
        "overwrite" => Ok(Workload::Overwrite),
        "read" => Ok(Workload::Read),
        "a" | "b" | "c" | "d" | "e" | "f" => {
            Err(format!("workload {name} is not supported yet; use fill, overwrite or read"))
        }
        _ => Err("there is no such workload; use fill, overwrite or read".into()),
    }
}
