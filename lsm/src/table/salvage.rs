//! What is left of a damaged table: every data block whose checksum is right, wherever the damage is.
//!
//! Data blocks follow each other from the start of the file, and each proves by its checksum that it belongs to this
//! table and this place. So footer and index are not needed; behind a damaged block the next one is looked for byte
//! by byte. Holds the whole file in memory.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kv_vfs::Vfs;

use super::block::{Block, BlockCursor};
use super::error::TableError;
use super::format::{BLOCK_HEADER_BYTES, Codec, FOOTER_BYTES, Footer};
use super::stored;
use crate::key::{InternalKey, Seq, Slot, compare};

/// No table is longer by far.
const TABLE_BYTES_MAX: u64 = 4 << 30;
/// Blocks that are looked for behind damage unpack to no more, so that noise does not pass for very long ones.
const BLOCK_BYTES_USUAL: usize = 2 << 20;

/// Keys between which versions are missing, both inclusive: other versions of these two may be missing, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LostKeys {
    /// `None`: from the smallest key on.
    pub from: Option<Bytes>,
    /// `None`: up to the largest key.
    pub to: Option<Bytes>,
}

/// Takes a version.
type EachVersion<'a> = dyn FnMut(&[u8], Seq, &Slot) -> Result<(), TableError> + 'a;

/// Gives the versions of a table that can be read, in order, and says between which keys others are missing.
///
/// # Errors
/// Those of `each`; a failed read.
pub(crate) fn salvage(
    vfs: &Arc<dyn Vfs>,
    path: &Path,
    table_id: u64,
    each: &mut EachVersion<'_>,
) -> Result<Vec<LostKeys>, TableError> {
    let file = Bytes::from(vfs.read_all(path, TABLE_BYTES_MAX)?);
    let footer = file.len().checked_sub(FOOTER_BYTES).and_then(|at| Footer::decode(file.get(at..)?).ok());
    let data_end = footer.map_or(file.len(), |footer| file.len().min(footer.filter.offset as usize));
    let (mut lost, mut last, mut at, mut hole) = (Vec::new(), None::<InternalKey>, 0, false);
    while at < data_end {
        let Some((content, length)) = block(&file, at, table_id, hole) else {
            (hole, at) = (true, at + 1);
            continue;
        };
        let versions = versions(content).filter(|versions| follows(versions, last.as_ref()));
        // A whole block that holds no versions is the first of the sections behind the data.
        let Some(versions) = versions else { break };
        if hole {
            let first = versions.first().map(|(version, _)| version.key.clone());
            lost.push(LostKeys { from: last.as_ref().map(|last| last.key.clone()), to: first });
        }
        for (version, slot) in &versions {
            each(&version.key, version.seq, slot)?;
        }
        last = versions.into_iter().next_back().map(|(version, _)| version);
        (hole, at) = (false, at + length);
    }
    if hole || (last.is_none() && data_end > 0) {
        lost.push(LostKeys { from: last.map(|last| last.key), to: None });
    }
    Ok(lost)
}

/// The block that begins here, unpacked, and its length in the file.
fn block(file: &Bytes, at: usize, table_id: u64, searching: bool) -> Option<(Bytes, usize)> {
    let (header, stored) = file.get(at..)?.split_first_chunk::<BLOCK_HEADER_BYTES>()?;
    let [codec, a, b, c, d, ..] = *header;
    let unpacked = u32::from_le_bytes([a, b, c, d]) as usize;
    if searching && unpacked > BLOCK_BYTES_USUAL {
        return None;
    }
    let length = match Codec::from_byte(codec)? {
        Codec::Raw => unpacked,
        Codec::Zstd => zstd::zstd_safe::find_frame_compressed_size(stored).ok()?,
    };
    let end = at.checked_add(BLOCK_HEADER_BYTES)?.checked_add(length).filter(|end| *end <= file.len())?;
    let content = stored::decode(file.slice(at..end), table_id, at as u64).ok()?;
    Some((content, end - at))
}

fn versions(content: Bytes) -> Option<Vec<(InternalKey, Slot)>> {
    let mut cursor = BlockCursor::new(Block::parse(content).ok()?);
    cursor.seek_first().ok()?;
    let mut versions = Vec::new();
    while cursor.valid() {
        let key = Bytes::copy_from_slice(cursor.key());
        versions.push((InternalKey { key, seq: cursor.seq() }, cursor.slot()));
        if cursor.is_last() {
            break;
        }
        cursor.next().ok()?;
    }
    Some(versions)
}

fn follows(versions: &[(InternalKey, Slot)], last: Option<&InternalKey>) -> bool {
    let keys = last.into_iter().chain(versions.iter().map(|(version, _)| version));
    keys.map(|version| (&*version.key, version.seq)).is_sorted_by(|a, b| compare(*a, *b).is_lt())
}
