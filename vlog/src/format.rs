//! Magic numbers, versions and offsets of the segment format: the one place that holds them.
//!
//! All integers are little-endian. `docs/format/segment.md` draws the same tables.

/// First bytes of a segment file.
pub const SEGMENT_MAGIC: [u8; 8] = *b"KVSEGMNT";
/// Version 1: groups with chained headers, value records inside entries, paged footer.
pub const FORMAT_VERSION: u32 = 1;
/// The segment header's block; the first group follows it.
pub const SEGMENT_HEADER_BYTES: u32 = kv_vfs::BLOCK as u32;
/// Bytes of the segment header that its checksum covers and that are given a meaning.
pub const SEGMENT_HEADER_USED: usize = 160;

/// First bytes of a group.
pub const GROUP_MAGIC: [u8; 4] = *b"KVGR";
/// Length of a group header.
pub const GROUP_HEADER_BYTES: u32 = 96;
/// No group is longer; what a decoder believes at most. One entry of 65,535 operations fits.
pub const GROUP_BYTES_MAX: u32 = 1 << 30;

/// Length of a record header; entries, marks and footers share its first 16 bytes.
pub const RECORD_HEADER_BYTES: u32 = 32;
/// Length of the header of an operation inside an entry: of a value record.
pub const OP_HEADER_BYTES: u32 = 40;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 64 << 10;

/// Record kinds.
pub mod kind {
    /// A log entry.
    pub const ENTRY: u8 = 1;
    /// A vote.
    pub const VOTE: u8 = 2;
    /// Entries after an index are void.
    pub const TRUNCATE: u8 = 3;
    /// Index of a sealed segment, or remap of one that value GC has written; alone in the last group.
    pub const FOOTER: u8 = 4;
    /// Value records without entries; what value segments hold.
    pub const VALUES: u8 = 5;
}

/// Payload kinds of an entry.
pub mod payload {
    /// Nothing.
    pub const BLANK: u8 = 0;
    /// Operations.
    pub const OPS: u8 = 1;
    /// A membership.
    pub const MEMBERSHIP: u8 = 2;
}

/// Operation kinds.
pub mod op {
    /// Sets a key: a value record.
    pub const PUT: u8 = 1;
    /// Removes a key.
    pub const DELETE: u8 = 2;
    /// Wants a key absent.
    pub const CHECK_ABSENT: u8 = 3;
    /// Wants a key at a version.
    pub const CHECK_SEQ: u8 = 4;
}

/// Entries whose offsets share a page of the footer, and a checksum.
pub const FOOTER_PAGE_ENTRIES: usize = 1024;

/// Values whose places share a page of a remap, and a checksum.
pub const REMAP_PAGE_ENTRIES: usize = 512;

/// Rounds up to whole blocks.
#[must_use]
pub fn round_up(bytes: u64) -> u64 {
    bytes.next_multiple_of(kv_vfs::BLOCK as u64)
}
