//! The group: what one write makes durable together.

use crate::field::{Fields, FieldsMut};
use crate::format::{GROUP_BYTES_MAX, GROUP_HEADER_BYTES, GROUP_MAGIC};

/// Header of a group. Chained by checksum to the group before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// Logical segment it was written for; with the generation and the epoch, what tells it from what a
    /// recycled file held before.
    pub segment: u64,
    /// Generation of the file.
    pub generation: u32,
    /// Its number in the segment, from 0.
    pub number: u32,
    /// Open of the directory that wrote it.
    pub epoch: u64,
    /// Whole length with padding, in bytes; a multiple of the block.
    pub length: u32,
    /// Length without padding.
    pub used: u32,
    /// Up to here everything was durable before this group was written: a segment ...
    pub durable_segment: u64,
    /// ... and the offset in it.
    pub durable_end: u64,
    /// Entries below this index are committed; they stand in this or in earlier groups.
    pub committed_next: u64,
    /// The owner's number that was durable before this group was written (see [`crate::Ledger`]).
    pub ledger_number: u64,
    /// Checksum of the previous group's header; for the first, of the segment's header.
    pub previous_crc: u32,
    /// How many records follow.
    pub records: u32,
    /// Checksum over the records' own checksums, in order.
    pub records_crc: u32,
    /// Checksum of this header.
    pub crc: u32,
}

impl GroupHeader {
    /// The header's bytes, with its checksum computed; `crc` of `self` is ignored.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, u32) {
        let mut f = FieldsMut::default();
        f.at(0, &GROUP_MAGIC).at(4, &[0; 4]);
        f.at(8, &self.segment.to_le_bytes());
        f.at(16, &self.generation.to_le_bytes()).at(20, &self.number.to_le_bytes());
        f.at(24, &self.epoch.to_le_bytes());
        f.at(32, &self.length.to_le_bytes()).at(36, &self.used.to_le_bytes());
        f.at(40, &self.durable_segment.to_le_bytes()).at(48, &self.durable_end.to_le_bytes());
        f.at(56, &self.committed_next.to_le_bytes()).at(64, &self.ledger_number.to_le_bytes());
        f.at(72, &self.previous_crc.to_le_bytes()).at(76, &self.records.to_le_bytes());
        f.at(80, &self.records_crc.to_le_bytes());
        f.at(84, &[0; GROUP_HEADER_BYTES as usize - 84]);
        let bytes = f.seal(4, 8);
        let crc = Fields(&bytes).u32(4).unwrap_or_default();
        (bytes, crc)
    }

    /// Reads a header from the start of `bytes`; the error says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let f = Fields(bytes);
        if f.array(0) != Some(GROUP_MAGIC) {
            return Err("no group begins here");
        }
        let covered = f.slice(8, GROUP_HEADER_BYTES as usize - 8).ok_or("group header is cut short")?;
        let header = Self::fields(f).ok_or("group header is cut short")?;
        if crc32fast::hash(covered) != header.crc {
            return Err("checksum of the group header does not match");
        }
        if header.length % kv_vfs::BLOCK as u32 != 0
            || header.length > GROUP_BYTES_MAX
            || header.used > header.length
            || header.used < GROUP_HEADER_BYTES
        {
            return Err("length of the group makes no sense");
        }
        Ok(header)
    }

    fn fields(f: Fields<'_>) -> Option<Self> {
        Some(Self {
            segment: f.u64(8)?,
            generation: f.u32(16)?,
            number: f.u32(20)?,
            epoch: f.u64(24)?,
            length: f.u32(32)?,
            used: f.u32(36)?,
            durable_segment: f.u64(40)?,
            durable_end: f.u64(48)?,
            committed_next: f.u64(56)?,
            ledger_number: f.u64(64)?,
            previous_crc: f.u32(72)?,
            records: f.u32(76)?,
            records_crc: f.u32(80)?,
            crc: f.u32(4)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_and_any_flipped_bit_is_noticed() {
        let header = GroupHeader {
            segment: 3,
            generation: 1,
            number: 9,
            epoch: 2,
            length: 8192,
            used: 5000,
            durable_segment: 3,
            durable_end: 77 * 4096,
            committed_next: 12,
            ledger_number: 5,
            previous_crc: 1,
            records: 4,
            records_crc: 2,
            crc: 0,
        };
        let (bytes, crc) = header.encode();
        assert_eq!(bytes.len(), GROUP_HEADER_BYTES as usize);
        assert_eq!(GroupHeader::decode(&bytes).unwrap(), GroupHeader { crc, ..header });
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(GroupHeader::decode(&flipped).is_err(), "bit {bit}");
        }
    }
}
