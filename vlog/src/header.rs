//! The header of a segment: whose it is, and the state that must not be lost when older segments go.

use std::path::Path;

use crate::error::{VlogError, file_name};
use crate::field::{Fields, FieldsMut};
use crate::format::{FORMAT_VERSION, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_USED, SEGMENT_MAGIC};
use crate::group::GroupHeader;
use crate::types::{Position, Vote};

/// Where the checksum stands.
const CRC_AT: usize = 12;

/// Which segment a file holds, and for whom. Every open compares it with what the manifest says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentIdentity {
    /// Cluster the data belongs to.
    pub cluster_id: [u8; 16],
    /// Incarnation of the data directory.
    pub incarnation: u64,
    /// Raft group; 0 until there are several.
    pub group_id: u64,
    /// Logical segment.
    pub segment: u64,
    /// Number of the file.
    pub file: u64,
    /// How often the file was recycled.
    pub generation: u32,
    /// Which open of the directory began the segment.
    pub epoch: u64,
}

impl SegmentIdentity {
    /// Whether a group was written for this segment. Logical segments are not begun twice in one open, and each open has
    /// an epoch of its own: a group from a former use of the file differs in one of the two already.
    pub(crate) fn wrote(&self, group: &GroupHeader) -> bool {
        (group.segment, group.generation, group.epoch) == (self.segment, self.generation, self.epoch)
    }
}

/// Where the log stood when a segment began. The indexes are of the *next* entry; 0: none yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// The last vote.
    pub vote: Option<Vote>,
    /// The last entry.
    pub last: Option<Position>,
    /// Entries below this index are committed.
    pub committed_next: u64,
    /// The last purged entry.
    pub purged: Option<Position>,
    /// The owner's number that is durable (see [`crate::Ledger`]).
    pub ledger_number: u64,
}

/// What the first block of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose segment it is.
    pub identity: SegmentIdentity,
    /// Where the log stood.
    pub end: LogEnd,
    /// Its checksum: what the first group chains to.
    pub crc: u32,
}

impl SegmentHeader {
    /// The first block of a segment.
    #[must_use]
    pub fn encode(identity: &SegmentIdentity, end: &LogEnd) -> (Vec<u8>, u32) {
        let mut f = FieldsMut::default();
        f.at(0, &SEGMENT_MAGIC).at(8, &FORMAT_VERSION.to_le_bytes()).at(12, &[0; 4]);
        f.at(16, &identity.cluster_id).at(32, &identity.incarnation.to_le_bytes());
        f.at(40, &identity.group_id.to_le_bytes()).at(48, &identity.segment.to_le_bytes());
        f.at(56, &identity.file.to_le_bytes()).at(64, &identity.generation.to_le_bytes()).at(68, &[0; 4]);
        f.at(72, &identity.epoch.to_le_bytes());
        let (flags, vote) = encode_vote(end.vote);
        f.at(80, &vote).at(96, &[flags, 0, 0, 0, 0, 0, 0, 0]);
        f.at(104, &encode_position(end.last)).at(120, &end.committed_next.to_le_bytes());
        f.at(128, &encode_position(end.purged)).at(144, &end.ledger_number.to_le_bytes());
        f.at(152, &[0; SEGMENT_HEADER_USED - 152]);
        let mut block = f.0;
        block.resize(SEGMENT_HEADER_BYTES as usize, 0);
        let crc = block_crc(&block).unwrap_or_default();
        if let Some(place) = block.get_mut(CRC_AT..CRC_AT + 4) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        (block, crc)
    }

    /// Reads the first block; `path` is for errors.
    pub fn decode(path: &Path, block: &[u8]) -> Result<Self, VlogError> {
        let f = Fields(block);
        if f.array(0) != Some(SEGMENT_MAGIC) {
            return Err(VlogError::corruption(path, 0, "not a segment: wrong magic"));
        }
        // The checksum before the version: a version with a flipped bit is damage, not a reason to upgrade.
        let crc = f.u32(CRC_AT).unwrap_or_default();
        if block_crc(block) != Some(crc) {
            return Err(VlogError::corruption(path, 0, "checksum of the segment header does not match"));
        }
        let version = f.u32(8).unwrap_or_default();
        if version != FORMAT_VERSION {
            let why = format!(
                "segment format version {version} is not this program's {FORMAT_VERSION}: upgrade the program"
            );
            return Err(VlogError::Unsupported { file: file_name(path), why });
        }
        Self::fields(f, crc).ok_or_else(|| VlogError::corruption(path, 0, "segment header is cut short"))
    }

    /// Refuses a file that holds another segment than it should.
    pub(crate) fn expect(&self, path: &Path, identity: &SegmentIdentity) -> Result<(), VlogError> {
        let found = &self.identity;
        if found == identity {
            return Ok(());
        }
        let is_foreign = (found.cluster_id, found.incarnation) != (identity.cluster_id, identity.incarnation);
        let (what, say): (_, fn(&SegmentIdentity) -> String) = match is_foreign {
            true => ("belongs to another data directory", owner_text),
            false => ("holds another segment than the manifest says", segment_text),
        };
        let why = format!("{what}: found {}, expected {}", say(found), say(identity));
        Err(VlogError::corruption(path, 0, why))
    }

    fn fields(f: Fields<'_>, crc: u32) -> Option<Self> {
        let identity = SegmentIdentity {
            cluster_id: f.array(16)?,
            incarnation: f.u64(32)?,
            group_id: f.u64(40)?,
            segment: f.u64(48)?,
            file: f.u64(56)?,
            generation: f.u32(64)?,
            epoch: f.u64(72)?,
        };
        let end = LogEnd {
            vote: decode_vote(f.u8(96)?, f.slice(80, 16)?),
            last: decode_position(f.slice(104, 16)?),
            committed_next: f.u64(120)?,
            purged: decode_position(f.slice(128, 16)?),
            ledger_number: f.u64(144)?,
        };
        Some(Self { identity, end, crc })
    }
}

fn owner_text(identity: &SegmentIdentity) -> String {
    let cluster_id = u128::from_be_bytes(identity.cluster_id);
    format!("cluster {cluster_id:032x}, incarnation {}", identity.incarnation)
}

fn segment_text(identity: &SegmentIdentity) -> String {
    let SegmentIdentity { segment, file, group_id, generation, epoch, .. } = identity;
    format!("segment {segment} of group {group_id} in file {file}, generation {generation}, epoch {epoch}")
}

/// Over the whole block but itself, whatever later versions put there: so that each can tell a version that is
/// too new from a damaged one.
fn block_crc(block: &[u8]) -> Option<u32> {
    let mut crc = crc32fast::Hasher::new();
    crc.update(block.get(..CRC_AT)?);
    crc.update(block.get(CRC_AT + 4..SEGMENT_HEADER_BYTES as usize)?);
    Some(crc.finalize())
}

/// Flags (bit 0: there is a vote, bit 1: committed, bit 2: for a node), then term and node.
pub(crate) fn encode_vote(vote: Option<Vote>) -> (u8, [u8; 16]) {
    let Some(vote) = vote else { return (0, [0; 16]) };
    let flags = 1 | u8::from(vote.committed) << 1 | u8::from(vote.node.is_some()) << 2;
    let mut bytes = [0; 16];
    let (term, node) = bytes.split_at_mut(8);
    term.copy_from_slice(&vote.term.to_le_bytes());
    node.copy_from_slice(&vote.node.unwrap_or_default().to_le_bytes());
    (flags, bytes)
}

pub(crate) fn decode_vote(flags: u8, bytes: &[u8]) -> Option<Vote> {
    let f = Fields(bytes);
    let node = if flags & 4 != 0 { Some(f.u64(8)?) } else { None };
    (flags & 1 != 0).then_some(Vote { term: f.u64(0)?, node, committed: flags & 2 != 0 })
}

/// Term and next index; all zero: none.
pub(crate) fn encode_position(at: Option<Position>) -> [u8; 16] {
    let (term, next) = at.map_or((0, 0), |at| (at.term, at.index + 1));
    let mut bytes = [0; 16];
    let (first, second) = bytes.split_at_mut(8);
    first.copy_from_slice(&term.to_le_bytes());
    second.copy_from_slice(&next.to_le_bytes());
    bytes
}

pub(crate) fn decode_position(bytes: &[u8]) -> Option<Position> {
    let f = Fields(bytes);
    Some(Position { term: f.u64(0)?, index: f.u64(8)?.checked_sub(1)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (SegmentIdentity, LogEnd) {
        let identity = SegmentIdentity {
            cluster_id: *b"0123456789abcdef",
            incarnation: 7,
            group_id: 0,
            segment: 17,
            file: 93,
            generation: 2,
            epoch: 5,
        };
        let end = LogEnd {
            vote: Some(Vote { term: 4, node: Some(1), committed: true }),
            last: Some(Position { term: 4, index: 0 }),
            committed_next: 1,
            purged: None,
            ledger_number: 12,
        };
        (identity, end)
    }

    #[test]
    fn comes_back() {
        let (identity, end) = sample();
        let (block, crc) = SegmentHeader::encode(&identity, &end);
        assert_eq!(block.len(), SEGMENT_HEADER_BYTES as usize);
        let header = SegmentHeader::decode(Path::new("00000093.seg"), &block).unwrap();
        assert_eq!(header, SegmentHeader { identity, end, crc });
    }

    #[test]
    fn every_flipped_bit_is_refused_by_name() {
        let (identity, end) = sample();
        let (block, _) = SegmentHeader::encode(&identity, &end);
        for bit in 0..block.len() * 8 {
            let mut flipped = block.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = SegmentHeader::decode(Path::new("00000093.seg"), &flipped).unwrap_err();
            assert!(matches!(error, VlogError::Corruption { .. }), "{error}");
            assert!(error.to_string().contains("00000093.seg"), "{error}");
        }
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let (identity, end) = sample();
        let (mut block, _) = SegmentHeader::encode(&identity, &end);
        block[8] += 1;
        block[4000] = 1; // something that this version knows nothing of
        let crc = block_crc(&block).unwrap().to_le_bytes();
        block[CRC_AT..CRC_AT + 4].copy_from_slice(&crc);
        let error = SegmentHeader::decode(Path::new("00000093.seg"), &block).unwrap_err();
        assert!(matches!(error, VlogError::Unsupported { .. }), "{error}");
    }
}
