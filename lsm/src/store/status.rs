//! What an operator is shown.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kv_manifest::State;
use kv_manifest::names::{self, FileName};
use kv_vfs::{DirEntry, Vfs};
use kv_vlog::Verified;

use super::open::segment_input;
use super::{Shared, Store};
use crate::error::StoreError;

/// One segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentLine {
    /// Logical number.
    pub segment: u64,
    /// Number of its file.
    pub file: u64,
    /// Bytes in use; of the open segment, what is written now.
    pub bytes: u64,
    /// Bytes that tables point to. What is not flushed yet is in none.
    pub live_bytes: u64,
    /// Whether it is no segment, but a file that held one and is kept to be written again; its number is 0 then.
    pub free: bool,
    /// Whether it is complete.
    pub sealed: bool,
    /// Whether its values are in the file of another segment; then the bytes are that segment's.
    pub moved: bool,
    /// First and last log index in it.
    pub indexes: Option<(u64, u64)>,
}

/// The segments that a manifest names, and the files that wait to be written again.
pub fn segment_lines(vfs: &Arc<dyn Vfs>, dir: &Path, state: &State) -> Result<Vec<SegmentLine>, StoreError> {
    let mut live: BTreeMap<u64, u64> = BTreeMap::new();
    for refs in state.tables.values().flat_map(|table| &table.refs) {
        *live.entry(refs.segment).or_default() += refs.bytes;
    }
    let line = |segment: &kv_manifest::SegmentState| {
        let sealed = segment.sealed.as_ref();
        let bytes = match sealed {
            _ if segment.remapped => 0,
            Some(info) => info.end,
            None => {
                let path = segment_input(dir, state, segment).path;
                vfs.open_read(&path, kv_vfs::IoMode::Buffered)?.len()?
            }
        };
        Ok(SegmentLine {
            segment: segment.segment,
            file: segment.file,
            bytes,
            live_bytes: live.get(&segment.segment).copied().unwrap_or_default(),
            free: false,
            sealed: sealed.is_some(),
            moved: segment.remapped,
            indexes: sealed
                .filter(|_| !segment.remapped)
                .and_then(|info| info.first_index.zip(info.last_index)),
        })
    };
    let mut lines = state.segments.values().map(line).collect::<Result<Vec<_>, StoreError>>()?;
    lines.extend(vfs.list(dir)?.iter().filter_map(free_line));
    Ok(lines)
}

fn free_line(entry: &DirEntry) -> Option<SegmentLine> {
    let Some(FileName::Free(file)) = names::parse(&entry.name) else { return None };
    let (segment, bytes, live_bytes) = (0, entry.len, 0);
    Some(SegmentLine {
        segment,
        file,
        bytes,
        live_bytes,
        free: true,
        sealed: false,
        moved: false,
        indexes: None,
    })
}

/// Reads and checks every record of a segment, and its footer; a running node's open segment up to what is written.
pub fn verify_segment(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    state: &State,
    segment: &kv_manifest::SegmentState,
) -> Result<Verified, StoreError> {
    let input = segment_input(dir, state, segment);
    Ok(kv_vlog::walk_segment(&**vfs, &input, &mut |_| {})?)
}

impl Store {
    /// The manifest's state now.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.changes.state()
    }

    /// The segments, and the files that wait to be written again.
    pub fn segments(&self) -> Result<Vec<SegmentLine>, StoreError> {
        let Shared { core, changes, log, .. } = &*self.shared;
        let mut lines = segment_lines(&core.vfs, &core.dir, &changes.state())?;
        for line in lines.iter_mut().filter(|line| !line.free && !line.sealed) {
            // The file may have held another segment before, and be longer.
            line.bytes = log.written(line.segment).unwrap_or(line.bytes);
        }
        Ok(lines)
    }

    /// Reads and checks every record of one segment.
    pub fn verify_segment(&self, segment: &kv_manifest::SegmentState) -> Result<Verified, StoreError> {
        let Shared { core, changes, log, .. } = &*self.shared;
        // The view first: a segment that is there then is not removed before this ends.
        let _view = core.view();
        let state = changes.state();
        // Dropped since it was listed, or read with the file that its values are in.
        if state.segments.get(&segment.segment).is_none_or(|now| now.remapped) {
            return Ok(Verified::default());
        }
        let input = segment_input(&core.dir, &state, segment);
        if input.sealed.is_some() {
            return Ok(kv_vlog::walk_segment(&*core.vfs, &input, &mut |_| {})?);
        }
        // It is being written: only up to where it was when this began. One that the log does not know yet has
        // been recorded a moment ago.
        let header = u64::from(kv_vlog::format::SEGMENT_HEADER_BYTES);
        let end = log.written(segment.segment).unwrap_or(header);
        Ok(kv_vlog::verify_segment(&*core.vfs, &input.path, &input.identity, Some(end))?)
    }

    /// Number, level, bytes and entries of each table.
    #[must_use]
    pub fn tables(&self) -> Vec<kv_manifest::TableMeta> {
        self.shared.core.view().tables.iter().map(|table| table.meta.clone()).collect()
    }
}
