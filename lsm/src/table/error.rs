//! What can go wrong with a table, by what the caller does about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a table could not be written, opened or read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The bytes are not what was written. Reading again will not help; a replica has the keys.
    #[error("{} is damaged at offset {offset}: {why}", file.display())]
    Corruption {
        /// The damaged file.
        file: PathBuf,
        /// Where the damaged part begins, in bytes from the start of the file.
        offset: u64,
        /// What was noticed.
        why: String,
    },
    /// A newer program wrote the table.
    #[error("{} has format {version}, newer than this program's {known}: upgrade kvnode", file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// What the file says.
        version: u32,
        /// The newest this program reads.
        known: u32,
    },
    /// A whole table, but not the one that belongs here: it was made elsewhere, or renamed.
    #[error("{} is foreign or misplaced: its {field} is {found}, expected {expected}", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What differs (`cluster id`).
        field: &'static str,
        /// What the file says.
        found: String,
        /// What it should say.
        expected: String,
    },
    /// A sync failed: what the disk holds is unknown. Fatal to the process, never retried.
    #[error("could not make a table durable: {0}")]
    SyncFailed(#[source] io::Error),
    /// The file system refused. The message names the operation and the path.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl TableError {
    pub(crate) fn corruption(file: &Path, offset: u64, why: impl Into<String>) -> Self {
        Self::Corruption { file: file.to_path_buf(), offset, why: why.into() }
    }
}
