//! The files of all segments, by logical segment: where a pointer leads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kv_vfs::Vfs;
use parking_lot::RwLock;

use crate::error::VlogError;
use crate::read::SegmentFile;
use crate::recover::{Recovered, SegmentKind};
use crate::remap::PageCache;
use crate::types::Pointer;

/// A file that holds values of a segment.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub file: Arc<SegmentFile>,
    /// Whether it is the file of another segment, where value GC has moved them.
    pub moved: bool,
}

/// The files of all segments, by logical segment. A reader that only looks has nothing else.
///
/// A segment that value GC has moved is looked up in its new place first. Its former places stay as long as
/// somebody may read them: what is not found in the new one was not live any more when it was moved, and only
/// such a reader asks for it.
#[derive(Debug, Default)]
pub struct SegmentFiles {
    /// Newest place first; never empty.
    files: RwLock<BTreeMap<u64, Vec<Location>>>,
    /// The newest segment of the log; 0: none.
    newest: AtomicU64,
    pages: PageCache,
}

impl SegmentFiles {
    /// The segments that recovery found, each up to its end.
    pub fn open(vfs: &dyn Vfs, recovered: &Recovered) -> Result<Self, VlogError> {
        let files = Self::default();
        for segment in &recovered.segments {
            if !matches!(segment.kind, SegmentKind::Moved { .. })
                && let Some(summary) = recovered.summary_of(segment)
            {
                let file = SegmentFile::open(vfs, segment.path.clone(), segment.identity, summary.end)?;
                files.insert(segment.identity.segment, file, segment.kind);
            }
        }
        for segment in &recovered.segments {
            if let SegmentKind::Moved { into } = segment.kind {
                files.move_into(files.expect(into)?, &[segment.identity.segment]);
            }
        }
        Ok(files)
    }

    /// The value that a pointer names, uncompressed; fails unless the record holds this key and version.
    pub fn value(&self, pointer: Pointer, key: &[u8], seq: u64) -> Result<Bytes, VlogError> {
        let (file, at) = self.locate(pointer)?;
        let value = file.value(at, key, seq)?;
        value.decode().map_err(|why| file.corruption(u64::from(at.offset), why))
    }

    /// The file that holds the value, and where in it.
    pub(crate) fn locate(&self, pointer: Pointer) -> Result<(Arc<SegmentFile>, Pointer), VlogError> {
        let mut tried = None;
        for n in 0.. {
            let Some(Location { file, moved }) = self.location(pointer.segment, n) else { break };
            if !moved {
                return Ok((file, pointer));
            }
            if let Some(offset) = file.moved(pointer.segment, pointer.offset, &self.pages)? {
                return Ok((file, Pointer { offset, ..pointer }));
            }
            tried.get_or_insert(file);
        }
        let Some(file) = tried else { return Err(nowhere(pointer.segment)) };
        let Pointer { segment, offset, .. } = pointer;
        let why = format!(
            "a pointer names offset {offset} of segment {segment}, whose values are here: no such one"
        );
        Err(file.corruption(file.written(), why))
    }

    /// The pages of remaps that were read last.
    pub(crate) fn pages(&self) -> &PageCache {
        &self.pages
    }

    pub(crate) fn insert(&self, segment: u64, file: Arc<SegmentFile>, kind: SegmentKind) {
        self.files.write().insert(segment, vec![Location { file, moved: false }]);
        if kind == SegmentKind::Log {
            self.newest.fetch_max(segment, Ordering::AcqRel);
        }
    }

    /// Looks the values of these segments up in that file from now on, first.
    pub(crate) fn move_into(&self, file: Arc<SegmentFile>, segments: &[u64]) {
        let mut files = self.files.write();
        for segment in segments {
            let places = files.entry(*segment).or_default();
            places.insert(0, Location { file: file.clone(), moved: true });
        }
    }

    pub(crate) fn remove(&self, segment: u64) {
        self.files.write().remove(&segment);
    }

    /// Lets go of one place of a segment: of the segment, if it has no other. Gives the file, for the last of its users to
    /// close it where nobody waits for the lock.
    pub(crate) fn remove_place(&self, segment: u64, file: u64) -> Option<Arc<SegmentFile>> {
        let mut files = self.files.write();
        let places = files.get_mut(&segment)?;
        let at = places.iter().position(|place| place.file.identity().file == file)?;
        let removed = places.remove(at).file;
        if places.is_empty() {
            files.remove(&segment);
        }
        Some(removed)
    }

    /// Where a segment's values are: the `n`-th place, newest first.
    pub(crate) fn location(&self, segment: u64, n: usize) -> Option<Location> {
        self.files.read().get(&segment)?.get(n).cloned()
    }

    /// The file of a segment, unless its values were moved elsewhere.
    pub(crate) fn get(&self, segment: u64) -> Option<Arc<SegmentFile>> {
        self.location(segment, 0).filter(|place| !place.moved).map(|place| place.file)
    }

    pub(crate) fn expect(&self, segment: u64) -> Result<Arc<SegmentFile>, VlogError> {
        self.get(segment).ok_or_else(|| nowhere(segment))
    }

    /// The newest segment of the log that is recorded; 0: none.
    pub(crate) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }
}

fn nowhere(segment: u64) -> VlogError {
    VlogError::Corruption {
        file: format!("segment {segment}"),
        offset: 0,
        why: "a pointer names this segment, but there is none".into(),
    }
}
