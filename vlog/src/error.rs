//! What can go wrong with segments, by what the caller does about it.

use std::io;
use std::path::Path;

/// An error of the log.
#[derive(Debug, thiserror::Error)]
pub enum VlogError {
    /// Bytes are not what was written. Nothing that was acknowledged may be cut away because of it.
    #[error("{file}, offset {offset}: {why}")]
    Corruption {
        /// File name.
        file: String,
        /// Offset in the file, in bytes.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// The file was written by a newer version, or is of another kind.
    #[error("{file}: {why}")]
    Unsupported {
        /// File name.
        file: String,
        /// What is unknown.
        why: String,
    },
    /// The entry was given up: it lies below the purge floor.
    #[error("log entry {index} was purged")]
    Purged {
        /// Its index.
        index: u64,
    },
    /// An earlier write or sync failed; nothing is acknowledged any more. Restart to recover.
    #[error("the log stopped after a failed write: {why}")]
    Poisoned {
        /// The first failure.
        why: String,
    },
    /// The entry is beyond what the format holds; nothing was appended.
    #[error("not appended: {why}")]
    Refused {
        /// Which bound, and by how much.
        why: String,
    },
    /// The operating system said no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl VlogError {
    pub(crate) fn corruption(path: &Path, offset: u64, why: impl Into<String>) -> Self {
        VlogError::Corruption { file: file_name(path), offset, why: why.into() }
    }
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
