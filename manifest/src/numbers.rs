//! The counter that tables, segments and manifests draw their file numbers from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_vfs::DirEntry;

use crate::names::{self, FileName};

/// Hands out file numbers, each once. Clones share one counter.
///
/// The numbers taken are recorded by the next [`crate::Manifest::append`]. Those taken and not recorded when a
/// crash comes are not handed out again either if a file was made with them: [`crate::Manifest::open`] starts
/// above every number it finds in the directory.
#[derive(Clone, Debug)]
pub struct FileNumbers(Arc<AtomicU64>);

impl FileNumbers {
    /// A counter whose next number is this one.
    pub(crate) fn from(next: u64) -> Self {
        Self(Arc::new(AtomicU64::new(next)))
    }

    /// The same, but above the number of every file in the directory.
    pub(crate) fn above(next: u64, entries: &[DirEntry]) -> Self {
        let numbers = Self::from(next);
        for entry in entries {
            if let Some(n) = names::parse(&entry.name).and_then(FileName::number) {
                numbers.raise_to(n.saturating_add(1));
            }
        }
        numbers
    }

    /// Takes the next free number; from any thread, without waiting for the manifest.
    #[must_use]
    pub fn take(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// The next free number.
    pub(crate) fn next(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes all numbers below `next`, too.
    pub(crate) fn raise_to(&self, next: u64) {
        self.0.fetch_max(next, Ordering::Relaxed);
    }
}
