//! Commands on keys.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Key, key};

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
    /// Have the key go away by itself after this time, for instance 30s, 5m, 2h, 7d; a second to 50 years.
    #[arg(long, value_name = "TIME", value_parser = ttl)]
    pub ttl: Option<Duration>,
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
    /// As it was once the write of this revision had taken effect, where the node keeps that (engine.keep_versions,
    /// engine.keep_age_ms).
    #[arg(long, value_name = "N")]
    pub revision: Option<u64>,
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
    /// The keys as they were once the write of this revision had taken effect, where the node keeps that.
    #[arg(long, value_name = "N")]
    pub revision: Option<u64>,
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

fn ttl(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; give a time with its unit, for instance 30s, 5m, 2h, 7d"))
}
