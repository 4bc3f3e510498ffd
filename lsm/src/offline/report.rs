//! What a check comes to.

use std::io::ErrorKind;
use std::path::Path;

use kv_manifest::{ManifestError, names};
use kv_vlog::{Position, VlogError};

use crate::error::StoreError;
use crate::table::TableError;

/// Problems that a report names; further ones are counted.
const PROBLEMS_MAX: usize = 10_000;

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Name of the file, without its directory.
    pub file: String,
    /// Where in the file, in bytes from its start, if at any one place.
    pub offset: Option<u64>,
    /// What is wrong.
    pub why: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, offset, why } = self;
        match offset {
            Some(offset) => write!(f, "{file}, offset {offset}: {why}"),
            None => write!(f, "{file}: {why}"),
        }
    }
}

/// All that a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// The last entry of the log that the contents below include; `None` where there is none, or where
    /// damage hides it.
    pub applied: Option<Position>,
    /// Entries behind it that are not known to be committed: no part of the contents.
    pub uncommitted: u64,
    /// XXH3 (128 bits, hexadecimal) over all keys there are, in order: for each the length of the key
    /// (u64), the key, its revision (u64), the length of the value (u64) and the value; numbers are
    /// little-endian. Equal on replicas that have applied the same entries. `None` where damage keeps
    /// something of it from being read.
    pub content_hash: Option<String>,
    /// Keys that are there and whose values could be read.
    pub keys: u64,
    /// Length of their values, in bytes.
    pub value_bytes: u64,
    /// Tables that were read and checked.
    pub tables: u64,
    /// Segments that were read and checked.
    pub segments: u64,
    /// Records in them, operations included.
    pub records: u64,
    /// What is damaged, by file.
    pub problems: Vec<Problem>,
    /// What is worth knowing, and no damage.
    pub notes: Vec<String>,
    /// Problems that are not listed: those after the first 10,000.
    pub unlisted: u64,
}

impl CheckReport {
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub(super) fn problem(&mut self, problem: Problem) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.unlisted += 1;
        }
    }

    /// Puts the problems in order, each once: two steps of a check may meet the same one.
    pub(super) fn finish(&mut self) {
        self.problems.sort_unstable();
        self.problems.dedup();
        if self.unlisted > 0 {
            self.notes.push(format!("{} more problems are not listed", self.unlisted));
        }
    }
}

/// What an error says is damaged; `file` was being read, for errors that name none. What is no damage, but
/// keeps the check from going on, comes back as the error it is.
pub(crate) fn problem_of(file: &str, error: StoreError) -> Result<Problem, StoreError> {
    let at = |file: &str, offset, why| Ok(Problem { file: file.into(), offset, why });
    match error {
        StoreError::Vlog(VlogError::Corruption { file, offset, why }) => at(&file, Some(offset), why),
        StoreError::Table(TableError::Corruption { file, offset, why })
        | StoreError::Manifest(ManifestError::Corruption { file, offset, why }) => {
            at(&file_name(&file), Some(offset), why)
        }
        StoreError::Table(TableError::Foreign { file, field, found, expected }) => {
            let why = format!("foreign or misplaced: its {field} is {found}, expected {expected}");
            at(&file_name(&file), None, why)
        }
        StoreError::Manifest(ManifestError::LostCurrent { found, .. }) => {
            at(names::CURRENT, None, format!("missing, although there is {found}"))
        }
        StoreError::Damaged(why) => at(file, None, why),
        // A sector that cannot be read is damage; a file that one may not read is not.
        StoreError::Io(error) | StoreError::Table(TableError::Io(error))
            if error.kind() != ErrorKind::PermissionDenied =>
        {
            at(file, None, format!("cannot be read: {error}"))
        }
        other => Err(other),
    }
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
