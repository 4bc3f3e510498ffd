//! Commands that have a node do something with its store.

use clap::Args;

use super::{Key, key};

/// Have a node compact its tables.
#[derive(Debug, Args)]
pub struct Compact {
    /// Only keys with this prefix.
    #[arg(long, value_name = "PREFIX", value_parser = key())]
    pub prefix: Option<Key>,
    /// First key, inclusive.
    #[arg(long, value_name = "KEY", value_parser = key())]
    pub from: Option<Key>,
    /// End, exclusive.
    #[arg(long, value_name = "KEY", value_parser = key())]
    pub to: Option<Key>,
}

/// Have a node make a copy of its store.
#[derive(Debug, Args)]
pub struct Checkpoint {
    /// Where, on the machine of the node: an absolute path to nothing that is there yet, on the file system of its data
    /// directory and outside it.
    pub directory: String,
}
