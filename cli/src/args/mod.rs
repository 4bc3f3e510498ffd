//! The command line; each group of commands in a file of its own.

mod bench;
mod cluster;
mod files;
mod keys;
mod node;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand};

pub use bench::{Bench, Workload};
pub use cluster::Cluster;
pub use files::{Gc, HistoryFilter, Manifest, Repair, Shown, Sst, Vlog};
pub use keys::{Delete, Export, Get, Import, Put, Scan};
pub use node::{Checkpoint, Compact};

use crate::bytes_text::{self, BadEscape};
use crate::output::Format;

/// Reads, writes and inspects a kvnode store.
///
/// Keys are bytes: on the command line and in tables as text with \xNN for any byte and \\ for a backslash,
/// in JSON as base64.
///
/// Exit: 0 ok, 1 error, 2 usage, 3 unhealthy, 4 not found, 5 refused (needs --yes), 6 corruption,
/// 7 unreachable.
#[derive(Debug, Parser)]
#[command(name = "kvadmin", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// What every command needs.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command needs.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Nodes to ask, any of the cluster.
    #[arg(
        long,
        global = true,
        env = "KVADMIN_ENDPOINTS",
        value_name = "HOST:PORT,...",
        value_delimiter = ',',
        default_value = "127.0.0.1:7400",
        value_parser = endpoint
    )]
    pub endpoints: Vec<String>,

    /// Form of the result: for people or for programs.
    #[arg(short, long, global = true, value_enum, value_name = "FORM", default_value = "table")]
    pub output: Format,

    /// How long one request may take, retries and a change of leader included.
    /// [default: 10; import and export: 60, so that they wait for a node that restarts; flush, compact, checkpoint, verify,
    /// vlog verify and vlog gc run: a week]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// Show the progress of long commands even where standard error is no terminal.
    #[arg(long, global = true)]
    pub progress: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a value; prints its revision.
    Put(Put),
    /// Read a value: its bytes, as they are.
    Get(Get),
    /// Delete a key, or all keys with a prefix.
    Delete(Delete),
    /// List keys in order.
    Scan(Scan),
    /// Store the files of a directory tree, each under its path.
    Import(Import),
    /// Write keys as files of a directory tree.
    Export(Export),
    /// Measure the cluster with keys under `bench/`.
    Bench(Bench),
    /// The cluster and its nodes.
    #[command(subcommand)]
    Cluster(Cluster),
    /// What a node's store holds, writes, reads and takes on the disk.
    Stats,
    /// Have a node write what is in memory out into tables.
    Flush,
    /// Have a node compact its tables, all or those of a range of keys.
    Compact(Compact),
    /// Have a node make a copy of its store in a new directory on its machine.
    Checkpoint(Checkpoint),
    /// Have a node read and check all its tables and segments. Exit 6 on damage.
    ///
    /// Of a node that is stopped `check` finds out more: whether each pointer leads to its value.
    Verify,
    /// The manifest: what a data directory holds.
    #[command(subcommand)]
    Manifest(Manifest),
    /// Segments: the files that hold log and values.
    #[command(subcommand)]
    Vlog(Vlog),
    /// Tables: the files that hold keys and say where their values are.
    #[command(subcommand)]
    Sst(Sst),
    /// Check everything in the data directory of a node that is stopped. Exit 6 on damage.
    ///
    /// Reads all there is: manifest, tables, segments, pointers, values. What a kill left behind is a note,
    /// not damage. Changes nothing but the content of the lock file.
    Check(DataDir),
    /// Make a new directory of what is left of a damaged one, which is only read. Exit 6 if something is lost.
    ///
    /// Restores all that proves to be whole: the newest version of each key. Lists what is lost, and keys that may have
    /// been overwritten or deleted by something that is lost. The new directory has an identity of its own. A node
    /// started on it is alone.
    Repair(Repair),
}

/// The data directory that an offline command looks at.
#[derive(Debug, Args)]
pub struct DataDir {
    /// The data directory.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
}

/// A key, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(pub Vec<u8>);

/// Keys on the command line are text with escapes, and may hold any byte as it is.
fn key() -> impl clap::builder::TypedValueParser<Value = Key> {
    OsStringValueParser::new()
        .try_map(|text| -> Result<Key, BadEscape> { bytes_text::parse(text.as_bytes()).map(Key) })
}

/// A value on the command line stands for itself.
pub fn literal(value: OsString) -> Vec<u8> {
    value.into_vec()
}

fn endpoint(text: &str) -> Result<String, String> {
    let text = text.trim();
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    match port.map(str::parse::<u16>) {
        Some(Ok(1..)) => Ok(text.to_owned()),
        _ => Err("write HOST:PORT, for instance 127.0.0.1:7400 or [::1]:7400".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    // A year is as good as for ever, and far from where instants overflow.
    const MAX: Duration = Duration::from_secs(365 * 24 * 3600);
    match seconds {
        Some(seconds) if !seconds.is_zero() && seconds <= MAX => Ok(seconds),
        _ => Err("give a number of seconds above 0, for instance 10 or 0.5".into()),
    }
}

#[cfg(test)]
mod tests;
