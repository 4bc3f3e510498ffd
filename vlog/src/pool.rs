//! Files of segments that are given up, kept to be written again.
//!
//! A sync of blocks that were written before makes nothing durable but the data, which takes half the time or less. A file
//! goes round like this:
//!
//! ```text
//! 00000012.seg --(dropped in the manifest, closed by all readers, no other name)--> 00000012.free
//!              --(renamed, header of the next generation synced, directory synced)--> 00000093.seg
//! ```
//!
//! What it held stays in it behind the end of what is written now, valid and chained. Whoever reads groups believes none
//! that was not written for the segment which the manifest says the file holds (`docs/format/segment.md`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_vfs::{AlignedBuf, BLOCK, File, IoMode, Vfs, planted};
use parking_lot::Mutex;

use crate::error::VlogError;
use crate::format::round_up;
use crate::header::{SegmentHeader, SegmentIdentity};

/// Ends the name of a file in the pool, in place of what it ended with.
const FREE: &str = "free";
/// More than this many are not kept: they would be small ones.
const FILES_MAX: usize = 64;

/// A file that waits to be written again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
}

/// See the module. Safe to use from many threads; a call takes as long as some operations on names.
#[derive(Debug)]
pub struct FilePool {
    vfs: Arc<dyn Vfs>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<FreeFile>,
    /// Never more than this in sum.
    bytes_max: u64,
}

/// A file for a segment.
#[derive(Debug)]
pub(crate) struct Recycled {
    pub file: Arc<dyn File>,
    /// That its header must say.
    pub generation: u32,
}

impl State {
    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.files.len() < FILES_MAX && self.bytes().saturating_add(bytes) <= self.bytes_max
    }
}

impl FilePool {
    /// A pool that keeps nothing until it is told how much it may ([`FilePool::set_bytes_max`]).
    #[must_use]
    pub fn new(vfs: Arc<dyn Vfs>) -> Arc<Self> {
        Arc::new(Self { vfs, state: Mutex::default() })
    }

    /// From now on it keeps so many bytes at most; what is above goes. 0 empties it.
    pub fn set_bytes_max(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.bytes_max = bytes;
        while state.bytes() > bytes {
            let Some(file) = state.files.pop() else { break };
            self.remove(&file.path);
        }
    }

    /// Takes in files that are in the pool by their names: what an earlier process left.
    pub fn adopt(&self, found: impl IntoIterator<Item = FreeFile>) {
        let mut state = self.state.lock();
        for file in found {
            if state.has_room(file.bytes) {
                state.files.push(file);
            } else {
                self.remove(&file.path);
            }
        }
    }

    /// What is in it.
    #[must_use]
    pub fn files(&self) -> Vec<FreeFile> {
        self.state.lock().files.clone()
    }

    /// Takes the file of a segment that is durably given up and that nobody has open; removes it where it cannot be used
    /// again. A failure loses nothing: the next open finds an orphan and removes it.
    pub fn give(&self, path: &Path) {
        match self.keep(path) {
            Ok(true) => {}
            Ok(false) => self.remove(path),
            Err(error) => {
                tracing::warn!(%error, "could not keep the file of a segment that is given up");
                self.remove(path);
            }
        }
    }

    /// Nothing is synced: with the new name lost, the old one is an orphan.
    fn keep(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.state.lock();
        if state.bytes_max == 0 {
            return Ok(false);
        }
        let bytes = self.vfs.open_read(path, IoMode::Buffered)?.len()?;
        if !state.has_room(bytes) || !self.has_one_name(path)? {
            return Ok(false);
        }
        let free = path.with_extension(FREE);
        self.vfs.rename(path, &free)?;
        state.files.push(FreeFile { path: free, bytes });
        Ok(true)
    }

    /// Whether what is written into the file shows nowhere else: a checkpoint gives files a second name. It does so while
    /// it keeps them from being given up, so this cannot change once they are.
    fn has_one_name(&self, path: &Path) -> io::Result<bool> {
        Ok(self.vfs.link_count(path)? == 1 || planted::is("recycled while linked"))
    }

    /// A file of about `bytes` bytes, renamed to `to`, for a segment of the same directory as `ours`; `None`: there is none.
    /// Neither the name nor that its content is no longer what it was is durable.
    pub(crate) fn take(
        &self,
        to: &Path,
        bytes: u64,
        ours: &SegmentIdentity,
    ) -> Result<Option<Recycled>, VlogError> {
        while let Some(free) = self.pop(bytes) {
            let taken = self.generation(&free.path, ours).and_then(|generation| {
                let Some(generation) = generation else { return Ok(None) };
                self.vfs.rename(&free.path, to)?;
                Ok(Some(generation))
            });
            match taken {
                Ok(Some(generation)) => {
                    let file = self.vfs.open(to, IoMode::Direct)?;
                    let wanted = round_up(bytes);
                    if free.bytes > wanted {
                        file.set_len(wanted)?;
                    }
                    return Ok(Some(Recycled { file, generation }));
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "could not write into a file once more"),
            }
            // A new file does as well.
            self.remove(&free.path);
        }
        Ok(None)
    }

    /// The one whose length is nearest.
    fn pop(&self, bytes: u64) -> Option<FreeFile> {
        let mut state = self.state.lock();
        let (at, _) = state.files.iter().enumerate().min_by_key(|(_, file)| file.bytes.abs_diff(bytes))?;
        Some(state.files.swap_remove(at))
    }

    /// The next generation of a file, unless it must not be used: somebody has given it another name, or its header is not
    /// one of ours.
    fn generation(&self, path: &Path, ours: &SegmentIdentity) -> Result<Option<u32>, VlogError> {
        if !self.has_one_name(path)? {
            return Ok(None);
        }
        let mut block = AlignedBuf::new();
        block.resize(BLOCK);
        self.vfs.open_read(path, IoMode::Direct)?.read_exact_at(block.as_mut_slice(), 0)?;
        let before = SegmentHeader::decode(path, block.as_slice())?.identity;
        if (before.cluster_id, before.incarnation) != (ours.cluster_id, ours.incarnation) {
            return Ok(None);
        }
        let next = if planted::is("generation not advanced") { 0 } else { 1 };
        Ok(before.generation.checked_add(next))
    }

    fn remove(&self, path: &Path) {
        if let Err(error) = self.vfs.remove(path) {
            tracing::warn!(%error, "could not remove the file of a segment that is no longer needed");
        }
    }
}
