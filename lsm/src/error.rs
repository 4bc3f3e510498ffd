//! What can go wrong in the engine, by what the caller does about it.

use std::fmt::Display;
use std::io;

use kv_manifest::ManifestError;
use kv_vlog::VlogError;

use crate::table::TableError;

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Settings or arguments make no sense.
    #[error("invalid: {0}")]
    Invalid(String),
    /// A segment, or the log in it.
    #[error("{}", advised(.0, matches!(.0, VlogError::Corruption { .. })))]
    Vlog(#[source] VlogError),
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A table.
    #[error("{}", advised(.0, is_damaged_table(.0)))]
    Table(#[source] TableError),
    /// Files that are missing or of a wrong length.
    #[error("{}", advised(.0, true))]
    Damaged(String),
    /// What a peer sent as its state is not that; nothing of it is used.
    #[error("a snapshot that was received is wrong: {0}")]
    Received(String),
    /// The log cannot be given up so far: it is all there is of some entries.
    #[error("the log cannot be purged up to entry {index}: in tables is {}", flushed.map_or("nothing".into(), |at| format!("what is up to {at}")))]
    NotFlushed {
        /// The entry up to which it was to be purged.
        index: u64,
        /// The last entry that is in tables.
        flushed: Option<u64>,
    },
    /// An earlier state was asked for that is not kept any more.
    #[error(
        "the state as of revision {asked} is not kept any more; the oldest one is that of revision {oldest}"
    )]
    Compacted {
        /// The revision that was asked for.
        asked: u64,
        /// The oldest one whose state can be read.
        oldest: u64,
    },
    /// A collection was given up; everything is as before.
    #[error("not collected: {0}")]
    Cancelled(String),
    /// The disk has no room for a table. Nothing is lost, and it is tried again by itself.
    #[error("no room on the disk for a table, which is written later: {why}")]
    NoRoom {
        /// What was refused.
        why: String,
    },
    /// An earlier write or sync failed; nothing is acknowledged any more. Open the directory again.
    #[error("stopped after a failed write: {why}")]
    Poisoned {
        /// The first failure.
        why: String,
    },
    /// The operating system said no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl StoreError {
    /// Whether bytes on disk are damaged: reading again will not help.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            StoreError::Damaged(_) => true,
            StoreError::Vlog(error) => matches!(error, VlogError::Corruption { .. }),
            StoreError::Table(error) => is_damaged_table(error),
            StoreError::Manifest(error) => {
                matches!(error, ManifestError::Corruption { .. } | ManifestError::LostCurrent { .. })
            }
            StoreError::Invalid(_)
            | StoreError::Received(_)
            | StoreError::NotFlushed { .. }
            | StoreError::Compacted { .. }
            | StoreError::Cancelled(_)
            | StoreError::NoRoom { .. }
            | StoreError::Poisoned { .. }
            | StoreError::Io(_) => false,
        }
    }
}

impl StoreError {
    /// Whether the disk had no room for a file that nothing relies on yet. A sync that failed is never that.
    pub(crate) fn is_out_of_space(&self) -> bool {
        let refused = match self {
            StoreError::Io(error) | StoreError::Table(TableError::Io(error)) => error,
            _ => return false,
        };
        matches!(refused.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// A table in the place of another is damage, too: the one that belongs there is not.
fn is_damaged_table(error: &TableError) -> bool {
    matches!(error, TableError::Corruption { .. } | TableError::Foreign { .. })
}

/// Says of damage what helps, if nothing below has said it.
fn advised(error: &dyn Display, is_damage: bool) -> String {
    let text = error.to_string();
    if !is_damage || text.contains("kvadmin") {
        return text;
    }
    format!("{text}; with the node stopped, `kvadmin check --data-dir D` lists all that is damaged")
}

impl From<VlogError> for StoreError {
    fn from(error: VlogError) -> Self {
        match error {
            VlogError::Io(error) => StoreError::Io(error),
            VlogError::Poisoned { why } => StoreError::Poisoned { why },
            other => StoreError::Vlog(other),
        }
    }
}

impl From<TableError> for StoreError {
    fn from(error: TableError) -> Self {
        StoreError::Table(error)
    }
}
