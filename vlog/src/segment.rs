//! Beginning a segment of the log: in a file that held another one before, if there is one, else in a new file.

use std::path::PathBuf;
use std::sync::Arc;

use kv_vfs::{AlignedBuf, File, IoMode, Vfs, planted};

use crate::error::VlogError;
use crate::format::{SEGMENT_HEADER_BYTES, round_up};
use crate::header::{LogEnd, SegmentHeader, SegmentIdentity};
use crate::ledger::{Ledger, NextFile};
use crate::pool::Recycled;
use crate::read::SegmentFile;
use crate::state::Shared;

/// The segment that is being written.
pub(crate) struct Active {
    pub identity: SegmentIdentity,
    pub path: PathBuf,
    pub file: Arc<dyn File>,
    pub reader: Arc<SegmentFile>,
    pub end: u64,
    pub previous_crc: u32,
    pub number: u32,
}

impl Active {
    /// Makes the file with its header, durable by contents and by name. It counts when the ledger has recorded it; before
    /// that a crash leaves a file that nobody knows.
    pub(crate) fn create(
        shared: &Shared,
        vfs: &dyn Vfs,
        ledger: &dyn Ledger,
        segment: u64,
        end: &LogEnd,
    ) -> Result<Self, VlogError> {
        let next = ledger.next_file();
        let (file, identity) = file_for(shared, vfs, segment, &next)?;
        let (block, crc) = SegmentHeader::encode(&identity, end);
        file.preallocate(next.bytes)?;
        let mut first = AlignedBuf::new();
        first.extend_from_slice(&block);
        file.write_at(first.as_slice(), 0)?;
        // Before anybody may believe the file: what a recycled one held goes on being valid for what it was.
        planted::unless("segment header not synced", || file.sync_data())?;
        // Without this the whole segment could be gone after a power loss, acknowledged groups and all.
        if let Some(dir) = next.path.parent() {
            planted::unless("name of a segment not synced", || vfs.sync_dir(dir))?;
        }
        let start = u64::from(SEGMENT_HEADER_BYTES);
        let reader = SegmentFile::open(vfs, next.path.clone(), identity, start)?;
        shared.set_target(next.bytes.max(round_up(start + 1)));
        Ok(Self { identity, path: next.path, file, reader, end: start, previous_crc: crc, number: 0 })
    }
}

/// The file, and whose it will be.
fn file_for(
    shared: &Shared,
    vfs: &dyn Vfs,
    segment: u64,
    next: &NextFile,
) -> Result<(Arc<dyn File>, SegmentIdentity), VlogError> {
    let options = &shared.options;
    let fresh = SegmentIdentity {
        cluster_id: options.cluster_id,
        incarnation: options.incarnation,
        group_id: options.group_id,
        segment,
        file: next.file,
        generation: 0,
        epoch: options.epoch,
    };
    match shared.pool.take(&next.path, next.bytes, &fresh)? {
        Some(Recycled { file, generation }) => Ok((file, SegmentIdentity { generation, ..fresh })),
        None => Ok((vfs.create(&next.path, IoMode::Direct)?, fresh)),
    }
}
