//! Magic numbers, the version, offsets and kinds of the manifest file. Readers and writers import them
//! from here; the byte-exact page is `docs/format/manifest.md`.

use kv_vfs::BLOCK;

/// First bytes of a manifest file.
pub const FILE_MAGIC: [u8; 8] = *b"KVMANFST";

/// Format this program writes, and the newest it reads.
///
/// 1: the first one.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes of the file header that mean something; zeros up to the end of the block follow.
pub const HEADER_BYTES: usize = 48;
/// Offset of the format version (u32) in the header.
pub const VERSION_AT: usize = 8;
/// Offset of the cluster id (16 bytes) in the header.
pub const CLUSTER_AT: usize = 12;
/// Offset of the incarnation (u64) in the header.
pub const INCARNATION_AT: usize = 28;
/// Offset of the settled length (u64) in the header.
pub const SETTLED_AT: usize = 36;
/// Offset of the header's CRC (u32), over all bytes before it.
///
/// The magic, the version and this field stay where they are in every later version: what is too new is
/// then told from what is damaged.
pub const HEADER_CRC_AT: usize = 44;

/// What every frame starts at a multiple of.
///
/// A device may rewrite a whole physical sector to change a part of it, and lose all of it when the power
/// goes meanwhile. An acknowledged change-set therefore never shares a block with a later one.
pub const ALIGNMENT: u64 = BLOCK as u64;

/// Where the first frame is.
pub const FIRST_FRAME_AT: u64 = ALIGNMENT;

/// First bytes of a frame; a frame of `kv_vfs::frame` follows (length, CRC, payload).
pub const FRAME_MAGIC: [u8; 4] = *b"KVCS";
/// Offset of the payload's length (u32) in a frame.
pub const FRAME_LENGTH_AT: usize = FRAME_MAGIC.len();
/// Offset of the payload in a frame.
pub const FRAME_HEADER_BYTES: usize = FRAME_MAGIC.len() + kv_vfs::frame::HEADER;
/// Longest payload. Bounds what a damaged length makes a reader allocate.
pub const PAYLOAD_BYTES_MAX: u32 = 1 << 30;

/// A manifest is rewritten when it is longer than this ...
pub const REWRITE_BYTES_MIN: u64 = 1 << 20;
/// ... and than this many times its state, written down afresh.
pub const REWRITE_RATIO: u64 = 4;

/// The offset, rounded up to where a frame may start.
pub fn align(offset: u64) -> u64 {
    offset.next_multiple_of(ALIGNMENT)
}

/// Kind of an edit, as stored in its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`crate::Edit::Identity`]
    Identity = 1,
    /// [`crate::Edit::AddTable`]
    AddTable = 2,
    /// [`crate::Edit::RemoveTable`]
    RemoveTable = 3,
    /// [`crate::Edit::MoveTable`]
    MoveTable = 4,
    /// [`crate::Edit::OpenSegment`]
    OpenSegment = 5,
    /// [`crate::Edit::SealSegment`]
    SealSegment = 6,
    /// [`crate::Edit::RemapSegment`]
    RemapSegment = 7,
    /// [`crate::Edit::DropSegment`]
    DropSegment = 8,
    /// [`crate::Edit::Flushed`]
    Flushed = 9,
    /// [`crate::Edit::ReplayFrom`]
    ReplayFrom = 10,
    /// [`crate::Edit::PurgeFloor`]
    PurgeFloor = 11,
    /// [`crate::Edit::NextFile`]
    NextFile = 12,
    /// [`crate::Edit::Epoch`]
    Epoch = 13,
    /// [`crate::Edit::AddValueSegment`]
    AddValueSegment = 14,
    /// [`crate::Edit::LogTime`]
    LogTime = 15,
    /// [`crate::Edit::HistoryFloor`]
    HistoryFloor = 16,
}

impl Kind {
    /// The newest kind this program knows.
    pub const LAST: u8 = Kind::HistoryFloor as u8;

    /// The kind stored as this byte, if it is known.
    pub fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Identity,
            2 => Kind::AddTable,
            3 => Kind::RemoveTable,
            4 => Kind::MoveTable,
            5 => Kind::OpenSegment,
            6 => Kind::SealSegment,
            7 => Kind::RemapSegment,
            8 => Kind::DropSegment,
            9 => Kind::Flushed,
            10 => Kind::ReplayFrom,
            11 => Kind::PurgeFloor,
            12 => Kind::NextFile,
            13 => Kind::Epoch,
            14 => Kind::AddValueSegment,
            15 => Kind::LogTime,
            16 => Kind::HistoryFloor,
            _ => return None,
        })
    }
}
