//! What can go wrong, said so that an operator knows what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::state::InvalidEdit;

/// Why a manifest could not be made, opened, read or extended.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// There is no manifest and nothing that would need one: the directory holds no data yet.
    #[error("{} holds no data yet (no CURRENT, no tables, no segments)", dir.display())]
    Missing {
        /// The data directory.
        dir: PathBuf,
    },
    /// A manifest was to be created where there is one.
    #[error("{} already holds data: open it, or name an empty directory", dir.display())]
    Exists {
        /// The data directory.
        dir: PathBuf,
    },
    /// There is no `CURRENT`, but files that belong to one: the directory is damaged, not empty.
    #[error(
        "{} has no CURRENT although it holds {found}: the directory lost a file and is not empty; nothing \
         was changed. See `kvadmin check --data-dir {}`; restore CURRENT or the whole directory from a backup, \
         or wipe it and let the node rejoin as a new one", dir.display(), dir.display()
    )]
    LostCurrent {
        /// The data directory.
        dir: PathBuf,
        /// One of the files that tell.
        found: String,
    },
    /// Bytes that a manifest acknowledged are not what was written.
    #[error(
        "{} is damaged at offset {offset}: {why}; nothing was changed. See `kvadmin check --data-dir {}`, \
         and restore the directory from a backup or from the other nodes",
        file.display(), data_dir(file)
    )]
    Corruption {
        /// The damaged file.
        file: PathBuf,
        /// Where the damage was noticed, in bytes from the start of the file.
        offset: u64,
        /// What was noticed.
        why: String,
    },
    /// A newer program wrote this.
    #[error("{what} of {file} is newer than this program's {known}: upgrade kvnode")]
    Newer {
        /// What is too new (`format version 7`).
        what: String,
        /// Name of the file.
        file: String,
        /// The newest this program knows.
        known: u32,
    },
    /// The change-set contradicts the state. Nothing was written: a bug of the caller.
    #[error("refused before anything was written: {0}")]
    InvalidEdit(#[from] InvalidEdit),
    /// An earlier write or sync failed, so what is on the disk is unknown until the manifest is opened again.
    #[error("the manifest takes no more change-sets since an error: {why}; restart the node")]
    Poisoned {
        /// The first error.
        why: String,
    },
    /// The file system refused. The message names the operation and the path.
    #[error("{0}; what was acknowledged before is kept: see to the disk, then start the node again")]
    Io(#[from] io::Error),
}

impl ManifestError {
    pub(crate) fn corruption(file: &Path, offset: u64, why: impl Into<String>) -> Self {
        Self::Corruption { file: file.to_path_buf(), offset, why: why.into() }
    }
}

/// The directory a file is in, for a command line.
fn data_dir(file: &Path) -> String {
    match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.display().to_string(),
        _ => ".".to_string(),
    }
}
