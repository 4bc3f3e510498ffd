//! What the log asks of its owner: to remember durably which segments there are.

use std::io;
use std::path::PathBuf;

use crate::footer::SegmentSummary;

/// A segment that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSegment {
    /// Logical segment.
    pub segment: u64,
    /// What it holds.
    pub summary: SegmentSummary,
}

/// A segment that takes records from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedSegment {
    /// Logical segment.
    pub segment: u64,
    /// Number of its file.
    pub file: u64,
    /// How often the file was recycled.
    pub generation: u32,
    /// Which open of the directory began it.
    pub epoch: u64,
}

/// A file for the next segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextFile {
    /// Its number; never used before.
    pub file: u64,
    /// Its path. The directory is synced after it is created.
    pub path: PathBuf,
    /// When the segment is full, in bytes.
    pub bytes: u64,
}

/// The owner's record of segments: the manifest, seen from here.
///
/// The owner counts its change-sets. Every group names the count that was durable when it was written,
/// so that change-sets which were lost are noticed.
pub trait Ledger: Send + Sync + 'static {
    /// Where the next segment goes.
    fn next_file(&self) -> NextFile;

    /// Remembers, in one step and durably, that one segment is sealed and another one begins. The new
    /// segment's first acknowledgement comes after this. Nothing begins at a clean close, and nothing is
    /// sealed at the first open and after one. Returns the owner's count.
    fn record(&self, sealed: Option<SealedSegment>, opened: Option<OpenedSegment>) -> io::Result<u64>;
}
