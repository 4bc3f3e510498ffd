//! Commands on the files of a node.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{DataDir, Key, key};

/// The manifest. Works beside a running node.
#[derive(Debug, Subcommand)]
pub enum Manifest {
    /// Whose data it is, how far it is in tables, and which tables and segments there are.
    Inspect {
        /// Where.
        #[command(flatten)]
        at: DataDir,
        /// Also list the change-sets: number, time, cause and edits.
        #[arg(long)]
        changes: bool,
    },
    /// Read the manifest and compare it with the files that are there. Exit 6 on damage.
    Check(DataDir),
    /// The change-sets, oldest first: number, time, cause and edits. A rewrite drops those before it.
    History {
        /// Where.
        #[command(flatten)]
        at: DataDir,
        /// Which.
        #[command(flatten)]
        filter: HistoryFilter,
    },
    /// What there was after a change-set, as `inspect` shows what there is.
    At {
        /// Number of the change-set.
        number: u64,
        /// Where.
        #[command(flatten)]
        at: DataDir,
    },
    /// Write the state down afresh, without its history. Takes the lock: not beside a running node.
    Rewrite(DataDir),
}

/// Which change-sets are shown.
#[derive(Debug, Default, Args)]
pub struct HistoryFilter {
    /// From this number on.
    #[arg(long, value_name = "N")]
    pub from: Option<u64>,
    /// Up to this number.
    #[arg(long, value_name = "N")]
    pub to: Option<u64>,
    /// Whose cause contains this: flush, compact, gc, roll, ...
    #[arg(long, value_name = "TEXT")]
    pub cause: Option<String>,
    /// That say something of this segment.
    #[arg(long, value_name = "N")]
    pub segment: Option<u64>,
    /// The last so many of them.
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,
}

/// Segments.
#[derive(Debug, Subcommand)]
pub enum Vlog {
    /// The segments of a running node, or of a data directory.
    List {
        /// Look at this data directory, instead of asking a node.
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Read and check every record of all segments: let a running node do it, or do it here.
    /// Exit 6 on damage.
    Verify {
        /// Look at this data directory, instead of asking a node.
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Header, groups and records of one segment. Works beside a running node.
    Inspect {
        /// Number of the segment, as `vlog list` shows it.
        segment: u64,
        /// Where.
        #[command(flatten)]
        at: DataDir,
        /// What of it.
        #[command(flatten)]
        shown: Shown,
    },
    /// Value GC: gives back the room of values that nobody can read any more. It runs by itself.
    #[command(subcommand)]
    Gc(Gc),
}

/// What of a segment is shown. Of the filters, all have to hold.
#[derive(Debug, Default, Args)]
pub struct Shown {
    /// At most so many records; operations come with their entry.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Only records that begin at this offset of the file or behind it.
    #[arg(long, value_name = "BYTES")]
    pub from: Option<u64>,
    /// Only entries from this index on.
    #[arg(long, value_name = "N")]
    pub from_index: Option<u64>,
    /// Only entries up to this index.
    #[arg(long, value_name = "N")]
    pub to_index: Option<u64>,
    /// Only entries and votes of this term.
    #[arg(long, value_name = "N")]
    pub term: Option<u64>,
    /// Only records of this kind: entry, blank, membership, values, vote, truncate, footer, put, delete, check.
    #[arg(long, value_name = "KIND", value_parser = record_kind)]
    pub kind: Option<String>,
    /// Only operations on this key, with their records.
    #[arg(long, value_name = "KEY", value_parser = key())]
    pub key: Option<Key>,
    /// Instead: where in this file the values are that pointers into other segments name.
    #[arg(long, conflicts_with_all = ["dump_value", "key", "kind", "term", "from", "from_index", "to_index"])]
    pub remap: bool,
    /// Instead: the value whose record begins at this offset, verified and uncompressed.
    #[arg(long, value_name = "OFFSET", conflicts_with_all = ["key", "kind", "term", "from", "from_index", "to_index", "limit"])]
    pub dump_value: Option<u64>,
    /// Write the value to this file, which appears when it is complete, instead of standard output.
    #[arg(long, value_name = "FILE", requires = "dump_value")]
    pub out: Option<PathBuf>,
}

/// Value GC.
#[derive(Debug, Subcommand)]
pub enum Gc {
    /// What is collected next, what that costs and brings, and why the other files are not.
    Plan {
        /// Look at this data directory, instead of asking a node; as if the settings were the defaults.
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// As if any garbage had to go, however little and young.
        #[arg(long)]
        any_garbage: bool,
    },
    /// Why a segment is, or is not, collected.
    Explain {
        /// Number of the segment, as `vlog list` shows it.
        segment: u64,
        /// Look at this data directory, instead of asking a node.
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Have a node collect any garbage now, until nothing is gained.
    Run,
    /// Have a node not collect by itself, until it is resumed or ends.
    Pause,
    /// Have a node collect by itself again.
    Resume,
}

/// Tables. Works beside a running node.
#[derive(Debug, Subcommand)]
pub enum Sst {
    /// The tables that the manifest names.
    List(DataDir),
    /// What a table says of itself, and where it points to.
    Inspect {
        /// Number of the table, as `sst list` shows it.
        id: u64,
        /// Where.
        #[command(flatten)]
        at: DataDir,
        /// Also list the versions in it.
        #[arg(long)]
        keys: bool,
        /// At most so many versions.
        #[arg(long, value_name = "N", requires = "keys")]
        limit: Option<u64>,
    },
}

/// Make a new directory of what is left of a damaged one.
#[derive(Debug, Args)]
pub struct Repair {
    /// The damaged directory. It is only read.
    pub directory: PathBuf,
    /// The new directory; must not exist.
    #[arg(long, value_name = "NEWDIR")]
    pub into: PathBuf,
    /// Number of the node that it is for. [default: that of the old one, where it is known]
    #[arg(long, value_name = "N")]
    pub node_id: Option<u64>,
    /// Take entries of the log as well that are not known to be committed: right for a node that was alone, whose log
    /// nobody else could have voided. [default: for embedded stores only]
    #[arg(long)]
    pub whole_log: bool,
}

fn record_kind(name: &str) -> Result<String, String> {
    const KINDS: [&str; 10] =
        ["entry", "blank", "membership", "values", "vote", "truncate", "footer", "put", "delete", "check"];
    match KINDS.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!("there is no such kind; use {}", KINDS.join(", "))),
    }
}
