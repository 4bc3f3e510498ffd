//! Reads a manifest file from its start to its end, frame by frame, and tells a torn end from damage.

use std::io;
use std::path::PathBuf;

use kv_vfs::File;

use crate::decode::{DecodeError, decode_change_set, peek_number};
use crate::edit::ChangeSet;
use crate::error::ManifestError;
use crate::format;
use crate::header::{Header, u32_at};
use crate::state::State;

/// A half-written last change-set: a crash met it before its `append` returned, so nobody was told that
/// it is durable, and it is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The manifest file.
    pub file: PathBuf,
    /// Where it begins, in bytes from the start of the file.
    pub offset: u64,
    /// How many bytes of the file are left out.
    pub bytes: u64,
    /// What is wrong with them.
    pub why: String,
}

/// One valid frame.
pub(crate) struct Frame<'a> {
    pub(crate) offset: u64,
    /// The frame without the zeros behind it.
    pub(crate) bytes: &'a [u8],
    pub(crate) set: ChangeSet,
}

/// What a whole file came to.
pub(crate) struct Scan {
    pub(crate) state: State,
    /// Where a next frame would start.
    pub(crate) end: u64,
    pub(crate) torn: Option<TornTail>,
}

/// Reads the file, gives every valid frame to `each` in order, and folds them.
///
/// The length is taken once, at the start: beside a running node, what is appended meanwhile neither
/// shows up nor passes for a later frame behind a damaged one.
pub(crate) fn scan(
    file: &dyn File,
    mut each: impl FnMut(Frame<'_>) -> Result<(), ManifestError>,
) -> Result<Scan, ManifestError> {
    let damaged = |offset: u64, why: String| ManifestError::corruption(file.path(), offset, why);
    let len = file.len()?;
    let header = Header::decode(file.path(), &read(file, 0, format::FIRST_FRAME_AT.min(len))?, len)?;
    let mut state = State::default();
    let mut offset = format::FIRST_FRAME_AT;
    let mut torn = None;
    // Whether there is something else than zeros behind the last frame. Behind the last one of all it
    // does no harm: it is never written behind.
    let mut littered = false;
    while offset < len {
        let bytes = match read_frame(file, offset, len)? {
            Ok(bytes) => bytes,
            Err(why) if offset < header.settled => return Err(damaged(offset, why)),
            Err(why) => {
                // Change-sets are made durable one by one. So behind a torn one there is none, and
                // one that has another behind it was whole once.
                if let Some(later) = find_later(file, offset + format::ALIGNMENT, len, state.number)? {
                    return Err(damaged(offset, format!("{why}, and change-set {later} comes later")));
                }
                torn = Some(TornTail { file: file.path().into(), offset, bytes: len - offset, why });
                break;
            }
        };
        if littered {
            return Err(damaged(offset, "the frame before is not followed by zeros".to_string()));
        }
        let set = decode_change_set(payload_of(&bytes)).map_err(|why| refused(file, offset, why))?;
        state.apply(&set).map_err(|why| damaged(offset, format!("the change-set contradicts: {why}")))?;
        if (state.identity.cluster_id, state.identity.incarnation) != (header.cluster_id, header.incarnation)
        {
            return Err(damaged(offset, "the header names another cluster or incarnation".to_string()));
        }
        let end = offset + bytes.len() as u64;
        each(Frame { offset, bytes: &bytes, set })?;
        offset = format::align(end);
        littered = read(file, end, offset.min(len) - end.min(len))?.iter().any(|byte| *byte != 0);
        if littered && offset <= header.settled {
            return Err(damaged(end, "the frame is not followed by zeros".to_string()));
        }
    }
    Ok(Scan { state, end: offset, torn })
}

/// Number of a valid change-set above `after` in the file, wherever it stands from `offset` on. It is
/// enough to look where frames may start.
pub(crate) fn find_later(file: &dyn File, offset: u64, len: u64, after: u64) -> io::Result<Option<u64>> {
    let mut offset = offset;
    while offset < len {
        if let Ok(bytes) = read_frame(file, offset, len)?
            && let Some(number) = peek_number(payload_of(&bytes))
            && number > after
        {
            return Ok(Some(number));
        }
        offset += format::ALIGNMENT;
    }
    Ok(None)
}

/// Reads the frame at `offset` and checks its magic, length and CRC; else says what is wrong with it.
fn read_frame(file: &dyn File, offset: u64, len: u64) -> io::Result<Result<Vec<u8>, String>> {
    let room = len - offset;
    if room < format::FRAME_HEADER_BYTES as u64 {
        return Ok(Err("the file ends in the header of a frame".to_string()));
    }
    let header = read(file, offset, format::FRAME_HEADER_BYTES as u64)?;
    if !header.starts_with(&format::FRAME_MAGIC) {
        return Ok(Err("no frame starts here".to_string()));
    }
    let length = u32_at(&header, format::FRAME_LENGTH_AT).unwrap_or_default();
    let frame_bytes = format::FRAME_HEADER_BYTES as u64 + u64::from(length);
    // Before anything is allocated for it.
    if length > format::PAYLOAD_BYTES_MAX {
        return Ok(Err(format!("the frame's length, {length}, is beyond the limit")));
    }
    if frame_bytes > room {
        return Ok(Err(format!("the frame takes {frame_bytes} bytes, but the file ends after {room}")));
    }
    let bytes = read(file, offset, frame_bytes)?;
    let behind_magic = bytes.get(format::FRAME_LENGTH_AT..).unwrap_or_default();
    match kv_vfs::frame::decode(behind_magic, format::PAYLOAD_BYTES_MAX) {
        Ok(_) => Ok(Ok(bytes)),
        Err(why) => Ok(Err(why.to_string())),
    }
}

fn payload_of(frame: &[u8]) -> &[u8] {
    frame.get(format::FRAME_HEADER_BYTES..).unwrap_or_default()
}

fn read(file: &dyn File, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let bytes = usize::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    let mut buf = vec![0; bytes];
    file.read_exact_at(&mut buf, offset)?;
    Ok(buf)
}

/// A frame whose CRC is right, but whose payload this program cannot read.
fn refused(file: &dyn File, offset: u64, why: DecodeError) -> ManifestError {
    match why {
        DecodeError::UnknownKind { kind, number } => ManifestError::Newer {
            what: format!("edit kind {kind} in change-set {number}"),
            file: file.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
            known: u32::from(format::Kind::LAST),
        },
        why => ManifestError::corruption(file.path(), offset, why.to_string()),
    }
}
