//! The command line.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand};

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
    /// [default: 10; import and export: 60, so that they wait for a node that restarts; vlog verify and vlog gc run: a week]
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
}

/// The data directory that an offline command looks at.
#[derive(Debug, Args)]
pub struct DataDir {
    /// The data directory.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
}

/// Write a value.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub struct Put {
    /// The key.
    #[arg(value_parser = key())]
    pub key: Key,
    /// The value, taken as it is; `-`: read it from standard input.
    #[arg(group = "source", allow_hyphen_values = true)]
    pub value: Option<OsString>,
    /// Read the value from a file.
    #[arg(long, group = "source", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Read a value.
#[derive(Debug, Args)]
pub struct Get {
    /// The key.
    #[arg(value_parser = key())]
    pub key: Key,
    /// Write the value to this file, which appears when it is complete.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Only from this byte on.
    #[arg(long, value_name = "BYTES")]
    pub offset: Option<u64>,
    /// Only so many bytes.
    #[arg(long, value_name = "BYTES")]
    pub length: Option<u64>,
}

/// Delete keys.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct Delete {
    /// The key.
    #[arg(group = "what", value_parser = key())]
    pub key: Option<Key>,
    /// All keys with this prefix; needs --yes.
    #[arg(long, group = "what", value_name = "PREFIX", value_parser = key())]
    pub prefix: Option<Key>,
    /// Do it, instead of saying how many keys would go.
    #[arg(long)]
    pub yes: bool,
}

/// List keys.
#[derive(Debug, Args)]
pub struct Scan {
    /// Only keys with this prefix.
    #[arg(long, value_name = "PREFIX", value_parser = key())]
    pub prefix: Option<Key>,
    /// First key, inclusive.
    #[arg(long, value_name = "KEY", value_parser = key())]
    pub from: Option<Key>,
    /// End, exclusive.
    #[arg(long, value_name = "KEY", value_parser = key())]
    pub to: Option<Key>,
    /// At most so many keys.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Leave the values out.
    #[arg(long)]
    pub keys_only: bool,
}

/// Store a directory tree.
#[derive(Debug, Args)]
pub struct Import {
    /// The directory.
    pub directory: PathBuf,
    /// Put this before each path; end it with a slash to make it a directory.
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true, value_parser = key())]
    pub prefix: Key,
    /// How many requests may be under way at once.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
}

/// Write a directory tree.
#[derive(Debug, Args)]
pub struct Export {
    /// The directory; made if there is none.
    pub directory: PathBuf,
    /// Only keys with this prefix, which is not part of the paths.
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true, value_parser = key())]
    pub prefix: Key,
    /// Write into a directory that is not empty; files of the same name are replaced, others stay.
    #[arg(long, visible_alias = "overwrite")]
    pub yes: bool,
    /// How many requests may be under way at once.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
}

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

/// The cluster.
#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Nodes, their roles and how far their logs are. Exit 3 when there is no leader.
    Status,
    /// Have another node lead.
    TransferLeader {
        /// Its number.
        id: u64,
    },
}

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
        /// At most so many records; operations come with their entry.
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// Value GC: gives back the room of values that nobody can read any more. It runs by itself.
    #[command(subcommand)]
    Gc(Gc),
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("kvadmin").chain(line.split_whitespace()))
    }

    fn command(line: &str) -> Command {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}")).command
    }

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_anywhere() {
        let cli = parse("bench --timeout 0.5 -o json --endpoints a:1,[::1]:2 --ops 5").expect("parses");
        assert_eq!(cli.global.timeout, Some(Duration::from_millis(500)));
        assert_eq!(cli.global.output, Format::Json);
        assert_eq!(cli.global.endpoints, ["a:1", "[::1]:2"]);
        assert!(parse("-o json cluster status").is_ok());
    }

    #[test]
    fn keys_have_escapes_and_values_have_none() {
        let Command::Put(put) = command(r"put a\x00\\b C:\dir") else { panic!("put") };
        assert_eq!(put.key.0, b"a\0\\b");
        assert_eq!(put.value.map(literal), Some(br"C:\dir".to_vec()));
        let odd = OsString::from_vec(b"\xff\xfe".to_vec());
        let cli = Cli::try_parse_from([OsString::from("kvadmin"), "get".into(), odd]).expect("parses");
        assert!(matches!(cli.command, Command::Get(Get { key: Key(key), .. }) if key == b"\xff\xfe"));
        assert!(matches!(command("put k -"), Command::Put(Put { value: Some(value), .. }) if value == "-"));
    }

    #[test]
    fn wrong_usage_is_refused_with_what_to_do() {
        for (line, hint) in [
            (r"get a\n", "\\xNN"),
            ("put k", "--file"),
            ("put k v --file f", "cannot be used"),
            ("delete", "--prefix"),
            ("delete k --prefix p", "cannot be used"),
            ("--timeout 0 cluster status", "above 0"),
            ("--timeout -1 cluster status", ""),
            ("--timeout nan cluster status", "above 0"),
            ("--timeout 1e300 cluster status", "above 0"),
            ("--endpoints host cluster status", "HOST:PORT"),
            ("--endpoints :7400 cluster status", "HOST:PORT"),
            ("--endpoints h:0 cluster status", "HOST:PORT"),
            ("bench --workload a", "workload a is not supported yet"),
            ("bench --workload x", "fill, overwrite or read"),
            ("bench --seconds 1 --ops 1", "cannot be used"),
            ("bench --clients 0", "1..=4096"),
            ("scan --reverse", "--reverse"),
            ("manifest inspect", "--data-dir"),
            ("check", "--data-dir"),
            ("vlog inspect x --data-dir d", "invalid digit"),
            ("sst inspect 1 --limit 5 --data-dir d", "--keys"),
            ("cluster", ""),
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(hint), "{line}: {error}");
        }
        assert_eq!(parse("--help").expect_err("help").kind(), ErrorKind::DisplayHelp);
        assert_eq!(parse("--help").expect_err("help").exit_code(), 0);
    }
}
