//! What a repair found, brought over, and lost.

use bytes::Bytes;
use kv_vlog::Position;

use crate::key::Seq;
use crate::offline::Problem;

/// Keys that a report names of each kind, further ones being counted; and problems.
const KEYS_MAX: u64 = 10_000;

/// A version of a key, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairedKey {
    /// The key.
    pub key: Bytes,
    /// The version.
    pub revision: Seq,
    /// Why it is lost, or why it is doubtful.
    pub why: String,
}

/// Keys, with how many there are in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairedKeys {
    /// The first 10,000, ascending.
    pub listed: Vec<RepairedKey>,
    /// How many.
    pub count: u64,
}

/// A range in which versions were lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRange {
    /// The table that held them.
    pub file: String,
    /// First key, inclusive; `None`: not known.
    pub from: Option<Bytes>,
    /// Last key, inclusive; `None`: not known.
    pub to: Option<Bytes>,
    /// Versions in the range, and tombstones among them, if all of the table was lost; `None`: not known.
    pub versions: Option<(u64, u64)>,
}

/// All that a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Whether a manifest said which files count. Otherwise all there were did.
    pub by_manifest: bool,
    /// The last entry of the log that the new directory includes; `None`: it is empty.
    pub applied: Option<Position>,
    /// Entries behind it that were left out, because nothing says that they are committed.
    pub uncommitted: u64,
    /// Keys in the new directory.
    pub keys: u64,
    /// Length of their values, in bytes.
    pub value_bytes: u64,
    /// Of what is in the new directory, as a check computes it.
    pub content_hash: String,
    /// Tables and segments that were read.
    pub files: u64,
    /// What is wrong with the old directory, as far as the repair met it, and 10,000 at most; a check finds all.
    pub problems: Vec<Problem>,
    /// Keys whose newest version is known, but cannot be read. They are not in the new directory: an older version
    /// would be a wrong value.
    pub lost_keys: RepairedKeys,
    /// Ranges of tables that cannot be read. What else is known of their keys is in the new directory.
    pub lost_ranges: Vec<LostRange>,
    /// First and last of the entries of the log that are missing; their keys are not known. The last is `u64::MAX` where
    /// the end of the log cannot be read.
    pub lost_entries: Vec<(u64, u64)>,
    /// Keys in the new directory that may have been overwritten, or deleted, by something that is lost.
    pub doubtful_keys: RepairedKeys,
    /// What is worth knowing, and no damage.
    pub notes: Vec<String>,
}

impl RepairReport {
    /// Whether the new directory holds exactly what the old one did.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.lost_keys.count == 0
            && self.doubtful_keys.count == 0
            && self.lost_ranges.is_empty()
            && self.lost_entries.is_empty()
    }

    pub(super) fn problem(&mut self, file: impl Into<String>, offset: Option<u64>, why: impl Into<String>) {
        if (self.problems.len() as u64) < KEYS_MAX {
            self.problems.push(Problem { file: file.into(), offset, why: why.into() });
        }
    }
}

impl RepairedKeys {
    pub(super) fn add(&mut self, key: &Bytes, revision: Seq, why: impl Into<String>) {
        self.count += 1;
        if self.count <= KEYS_MAX {
            self.listed.push(RepairedKey { key: key.clone(), revision, why: why.into() });
        }
    }
}
