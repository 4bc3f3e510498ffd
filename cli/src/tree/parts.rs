//! How a file that does not fit into one value is laid out over several keys.
//!
//! ```text
//! <key>                                              header, 40 bytes, written last
//! <key> 00 "part" 00 <upload: 16 hex> 00 <number: 10 digits>     one part of the content each
//!
//! header, little endian:
//!  0  8  magic "KVPARTS1"
//!  8  8  upload          number that the keys of the parts hold; random, so that two uploads never mix
//! 16  8  total_bytes     length of the file
//! 24  4  part_bytes      length of every part but the last, which holds the rest
//! 28  4  parts           how many parts
//! 32  4  content_crc     CRC-32 of the whole content
//! 36  4  header_crc      CRC-32 of the 36 bytes before
//! ```
//!
//! No path holds a NUL byte, so the key of a part is never the key of a file.

/// First bytes of a header; the digit is the version of this layout.
const MAGIC: &[u8; 8] = b"KVPARTS1";

/// Content that begins like this is never stored plainly, or it would be taken for a header of this or
/// another version.
const RESERVED: &[u8] = b"KVPARTS";

/// Length of a header.
pub const HEADER_BYTES: usize = 40;

/// Part length that is used as long as it gives few enough parts: long enough that one more round trip
/// costs nothing beside it, short enough that several are under way at once.
const PART_BYTES: u64 = 16 << 20;

/// Between a file's key and the rest of a part's key.
const INFIX: &[u8] = b"\0part\0";

/// What a part's key has behind the file's key: [`INFIX`], upload, NUL, number.
pub const PART_KEY_EXTRA_BYTES: usize = INFIX.len() + 16 + 1 + 10;

/// What the key of a file in parts holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of the upload that wrote the parts.
    pub upload: u64,
    /// How the content is cut.
    pub plan: Plan,
    /// CRC-32 of the whole content.
    pub content_crc: u32,
}

/// How a content is cut. Invariant: `parts` is `total_bytes / part_bytes`, rounded up, and
/// `part_bytes > 0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Length of the content.
    pub total_bytes: u64,
    /// Length of every part but the last.
    pub part_bytes: u32,
    /// How many parts.
    pub parts: u32,
}

/// A value that begins like a header but is none that this program understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadHeader {
    /// Another version of this layout.
    Version(u8),
    /// Not what any version of this program writes.
    Damaged(&'static str),
}

impl std::fmt::Display for BadHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Version(digit) => write!(
                f,
                "stored in parts in version {} of the layout, which this kvadmin does not know; use a newer one",
                char::from(*digit).escape_default()
            ),
            Self::Damaged(why) => write!(f, "begins like the header of a file in parts, but {why}"),
        }
    }
}

impl Plan {
    /// Cuts `total_bytes` into parts of at most `value_bytes_max` and at most `parts_max` in number.
    /// `None`: that is not possible.
    pub fn new(total_bytes: u64, value_bytes_max: u32, parts_max: u32) -> Option<Self> {
        let fewest = total_bytes.div_ceil(u64::from(parts_max.max(1)));
        let part_bytes = PART_BYTES.max(fewest).min(u64::from(value_bytes_max));
        let part_bytes = u32::try_from(part_bytes).ok().filter(|bytes| *bytes > 0)?;
        let parts = u32::try_from(total_bytes.div_ceil(u64::from(part_bytes))).ok()?;
        (parts <= parts_max).then_some(Self { total_bytes, part_bytes, parts })
    }

    /// Offset and length of a part. Empty behind the last.
    pub fn part(&self, number: u32) -> (u64, u32) {
        let part_bytes = u64::from(self.part_bytes);
        let offset = (u64::from(number) * part_bytes).min(self.total_bytes);
        let length = part_bytes.min(self.total_bytes - offset);
        // At most `part_bytes`, which is a u32.
        (offset, u32::try_from(length).unwrap_or(self.part_bytes))
    }
}

impl Header {
    /// The value of the file's key.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.upload.to_le_bytes());
        bytes.extend_from_slice(&self.plan.total_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.plan.part_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.plan.parts.to_le_bytes());
        bytes.extend_from_slice(&self.content_crc.to_le_bytes());
        let header_crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&header_crc.to_le_bytes());
        debug_assert_eq!(bytes.len(), HEADER_BYTES);
        bytes
    }

    /// Reads the value of a file's key; `None`: the value is the file itself.
    ///
    /// # Errors
    /// The value begins like a header and is none.
    pub fn decode(value: &[u8]) -> Result<Option<Self>, BadHeader> {
        if !needs_parts(value) {
            return Ok(None);
        }
        let bytes: &[u8; HEADER_BYTES] =
            value.try_into().map_err(|_| BadHeader::Damaged("has another length"))?;
        let [magic @ .., _, _, _, _] = bytes;
        let header_crc = crc32fast::hash(magic);
        let mut fields = Fields(bytes);
        match fields.take::<8>() {
            [.., digit] if digit != b'1' => return Err(BadHeader::Version(digit)),
            _ => {}
        }
        let header = Self {
            upload: u64::from_le_bytes(fields.take()),
            plan: Plan {
                total_bytes: u64::from_le_bytes(fields.take()),
                part_bytes: u32::from_le_bytes(fields.take()),
                parts: u32::from_le_bytes(fields.take()),
            },
            content_crc: u32::from_le_bytes(fields.take()),
        };
        if u32::from_le_bytes(fields.take()) != header_crc {
            return Err(BadHeader::Damaged("its checksum is wrong"));
        }
        let plan = header.plan;
        if plan.part_bytes == 0
            || plan.total_bytes.div_ceil(u64::from(plan.part_bytes)) != u64::from(plan.parts)
        {
            return Err(BadHeader::Damaged("its lengths contradict each other"));
        }
        Ok(Some(header))
    }
}

/// Takes fields of fixed length from the front of a slice that is long enough; zeros behind its end.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }
}

/// Whether content must not be stored plainly, whatever its length.
pub fn needs_parts(content: &[u8]) -> bool {
    content.starts_with(RESERVED)
}

/// What the keys of all parts of a file begin with.
pub fn part_prefix(file_key: &[u8]) -> Vec<u8> {
    [file_key, INFIX].concat()
}

/// The key of a part.
pub fn part_key(file_key: &[u8], upload: u64, number: u32) -> Vec<u8> {
    let mut key = part_prefix(file_key);
    key.extend_from_slice(format!("{upload:016x}\0{number:010}").as_bytes());
    key
}

/// The upload that a key belongs to, if it is the key of a part.
pub fn upload_of_part(key: &[u8]) -> Option<u64> {
    let start = key.len().checked_sub(PART_KEY_EXTRA_BYTES)?;
    let tail = key.get(start..)?.strip_prefix(INFIX)?;
    let (upload, number) = tail.split_at_checked(16)?;
    let number = number.strip_prefix(b"\0")?;
    let hex = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if !number.iter().all(u8::is_ascii_digit) || !upload.iter().all(hex) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(upload).ok()?, 16).ok()
}

/// The CRC-32 of the pieces of a content, put together in order.
#[derive(Default)]
pub struct ContentCrc(crc32fast::Hasher);

impl ContentCrc {
    /// Adds the next piece, by its own CRC-32 and length.
    pub fn add(&mut self, crc: u32, length: u64) {
        self.0.combine(&crc32fast::Hasher::new_with_initial_len(crc, length));
    }

    /// The CRC-32 of everything added.
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let plan = Plan { total_bytes: 70 << 20, part_bytes: 16 << 20, parts: 5 };
        Header { upload: 0x0123_4567_89ab_cdef, plan, content_crc: 0xdead_beef }
    }

    #[test]
    fn a_plan_covers_the_content_without_gap_or_overlap() {
        for total in [1, 9, 10, 11, 100, 1000, (16 << 20) + 1, 999 << 20] {
            for max in [1000, 64 << 20] {
                let plan = Plan::new(total, max, 1 << 20).expect("fits");
                let mut end = 0;
                for number in 0..plan.parts {
                    let (offset, length) = plan.part(number);
                    assert_eq!(offset, end);
                    assert!(length > 0 && length <= max);
                    end += u64::from(length);
                }
                assert_eq!(end, total);
                assert_eq!(plan.part(plan.parts), (total, 0));
            }
        }
    }

    #[test]
    fn parts_grow_before_there_are_too_many_and_then_it_is_refused() {
        let mib = 1 << 20;
        assert_eq!(
            Plan::new(160 * mib, 64 << 20, 100).map(|p| (p.part_bytes, p.parts)),
            Some((16 << 20, 10))
        );
        assert_eq!(Plan::new(160 * mib, 64 << 20, 5).map(|p| (p.part_bytes, p.parts)), Some((32 << 20, 5)));
        assert_eq!(Plan::new(160 * mib, 64 << 20, 2), None);
        assert_eq!(Plan::new(1, 0, 2), None);
        assert_eq!(Plan::new(1, 1, 0), None);
        assert_eq!(Plan::new(u64::MAX, u32::MAX, u32::MAX).map(|p| p.part(u32::MAX)), None);
        assert_eq!(Plan::new(0, 10, 5).map(|p| p.parts), Some(0));
    }

    #[test]
    fn a_header_survives_a_round_trip_and_every_changed_byte_is_noticed() {
        let bytes = header().encode();
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(Header::decode(&bytes), Ok(Some(header())));
        for at in 7..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Header::decode(&damaged).is_err(), "byte {at}");
        }
        assert!(Header::decode(&bytes[..39]).is_err());
        assert!(Header::decode(b"KVPARTS").is_err());
    }

    #[test]
    fn the_header_on_disk_stays_as_it_is() {
        let bytes = header().encode();
        assert_eq!(&bytes[..8], b"KVPARTS1");
        assert_eq!(&bytes[8..16], &[0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01]);
        assert_eq!(&bytes[16..36], b"\0\0\x60\x04\0\0\0\0\0\0\0\x01\x05\0\0\0\xef\xbe\xad\xde");
    }

    #[test]
    fn other_values_are_files_and_other_versions_are_named() {
        assert_eq!(Header::decode(b""), Ok(None));
        assert_eq!(Header::decode(b"KVPART"), Ok(None));
        assert_eq!(Header::decode(&[7; HEADER_BYTES]), Ok(None));
        let mut newer = header().encode();
        newer[7] = b'2';
        assert_eq!(Header::decode(&newer), Err(BadHeader::Version(b'2')));
    }

    #[test]
    fn part_keys_are_told_from_others() {
        let key = part_key(b"dir/a", 0xabc, 7);
        assert_eq!(key, b"dir/a\0part\x000000000000000abc\x000000000007".to_vec());
        assert_eq!(key.len(), b"dir/a".len() + PART_KEY_EXTRA_BYTES);
        assert!(key.starts_with(&part_prefix(b"dir/a")));
        assert_eq!(upload_of_part(&key), Some(0xabc));
        assert_eq!(upload_of_part(&part_key(b"", u64::MAX, u32::MAX)), Some(u64::MAX));
        assert_eq!(upload_of_part(b"dir/a"), None);
        assert_eq!(upload_of_part(b"dir/a\0part\x000000000000000ABC\x000000000007"), None);
        assert_eq!(upload_of_part(b"dir/a\0part\x000000000000000abc\x00000000000x"), None);
        assert_eq!(upload_of_part(&key[..key.len() - 1]), None);
    }

    #[test]
    fn the_crc_of_pieces_is_the_crc_of_the_whole() {
        let content: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut crc = ContentCrc::default();
        for piece in content.chunks(777) {
            crc.add(crc32fast::hash(piece), piece.len() as u64);
        }
        assert_eq!(crc.finish(), crc32fast::hash(&content));
        assert_eq!(ContentCrc::default().finish(), crc32fast::hash(b""));
    }
}
