//! `vlog list` and `vlog verify` of a data directory.

use std::path::Path;

use kv_api::admin::{SegmentStatus, VerifyReport};
use kv_lsm::offline::segment_input;
use kv_lsm::{SegmentLine, StoreError, segment_lines};
use kv_manifest::names;
use kv_vlog::walk_segment;

use super::Context;
use crate::exit::Failure;
use crate::offline::{Directory, failure};
use crate::progress::{Progress, Unit};

/// The segments that the manifest names, in the form a node gives them.
///
/// # Errors
/// The directory holds no data, or a segment is missing.
pub fn segments(dir: &Path) -> Result<Vec<SegmentStatus>, Failure> {
    let directory = Directory::open(dir)?;
    let lines = segment_lines(&directory.vfs, dir, directory.state()).map_err(failure)?;
    Ok(lines.into_iter().map(status).collect())
}

fn status(line: SegmentLine) -> SegmentStatus {
    let SegmentLine { segment, file, bytes, live_bytes, free, sealed, moved, indexes } = line;
    let (first_index, last_index) = indexes.unzip();
    SegmentStatus { segment, file, bytes, live_bytes, free, sealed, moved, first_index, last_index }
}

/// Reads and checks all segments; damage goes into the report.
///
/// # Errors
/// The directory holds no data, or a segment cannot be read.
pub fn verify(dir: &Path, context: &Context) -> Result<VerifyReport, Failure> {
    let directory = Directory::open(dir)?;
    let progress = Progress::start(context.progress(), "verify", Unit::Bytes, None);
    let mut report = VerifyReport { segments: 0, records: 0, bytes: 0, damages: Vec::new() };
    // Values that were moved are read with the file that they are in.
    for segment in directory.state().segments.values().filter(|segment| !segment.remapped) {
        let input = segment_input(dir, directory.state(), segment);
        report.segments += 1;
        match walk_segment(&*directory.vfs, &input, &mut |found| progress.advance(found.header.length.into()))
        {
            Ok(verified) => {
                report.records += verified.records;
                report.bytes += verified.bytes;
                if let Some(torn) = verified.torn {
                    let (file, end) = (names::segment_name(segment.file), verified.end);
                    progress
                        .note(&format!("note: {file}, offset {end}: what follows does not count: {torn}"));
                }
            }
            Err(error) => match StoreError::from(error) {
                error if error.is_damage() => report.damages.push(error.to_string()),
                error => return Err(failure(error)),
            },
        }
    }
    Ok(report)
}
