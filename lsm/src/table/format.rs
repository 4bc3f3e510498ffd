//! Magic numbers, the version, sizes and layouts of a table. Writers and readers import them from here;
//! the byte-exact page is `docs/format/sst.md`.

use std::fmt;

/// Last bytes of a table.
pub const MAGIC: [u8; 8] = *b"KVTABLE\n";

/// Format this program writes, and the newest it reads.
///
/// 1: the first one.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes of a stored block before its content: codec u8, unpacked length u32, CRC u32.
pub const BLOCK_HEADER_BYTES: usize = 9;
/// Longest block, unpacked, in bytes.
pub const BLOCK_BYTES_MAX: usize = 1 << 30;
/// Longer blocks are not compressed: bounds the memory that a short block can unpack to, in bytes.
pub const COMPRESSED_BLOCK_BYTES_MAX: usize = 16 << 20;
/// Entries from one restart point to the next in a data block.
pub const RESTART_INTERVAL: usize = 16;
/// Longest inline value, in bytes.
pub const INLINE_BYTES_MAX: usize = 512 << 20;

/// Added to the kind of a version that goes away by itself, whose expiry then follows.
pub const EXPIRING: u8 = 2;

/// Bytes of the footer.
///
/// In every later version a table ends with version, CRC and magic as here, and the footer is as long:
/// what is too new is then told from what is damaged.
pub const FOOTER_BYTES: usize = 112;
/// Offset of the footer's CRC, over all bytes before it.
pub const FOOTER_CRC_AT: usize = 100;
/// Length of an index, in bytes, from which on it is cut into partitions, unless the writer is told otherwise.
pub const PARTITION_BYTES: usize = 16 << 10;

/// How the index is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum IndexLevels {
    /// One filter and one index for all data blocks.
    #[default]
    One = 1,
    /// A filter and an index for each partition of the data blocks, and an index of the partitions.
    Two = 2,
}

impl IndexLevels {
    fn from_stored(levels: u32) -> Option<Self> {
        match levels {
            1 => Some(IndexLevels::One),
            2 => Some(IndexLevels::Two),
            _ => None,
        }
    }
}

/// How a block is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
}

impl Codec {
    /// The codec that a stored byte stands for.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Codec::Raw),
            1 => Some(Codec::Zstd),
            _ => None,
        }
    }
}

/// Where a stored block lies, with its header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockHandle {
    /// In bytes from the start of the file.
    pub offset: u64,
    /// In bytes.
    pub len: u32,
}

impl BlockHandle {
    /// Where the next block begins; `None` where no file is that long.
    pub fn end(&self) -> Option<u64> {
        self.offset.checked_add(u64::from(self.len))
    }
}

/// Whose table it is and which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableIdentity {
    /// The cluster.
    pub cluster_id: [u8; 16],
    /// Which life of the node wrote it.
    pub incarnation: u64,
    /// The Raft group the keys belong to.
    pub group_id: u64,
    /// File number of the table, unique within the data directory for ever.
    pub table_id: u64,
}

impl TableIdentity {
    /// The first field that differs: its name, and what `self` and `expected` say.
    pub(super) fn difference(&self, expected: &Self) -> Option<(&'static str, String, String)> {
        if self.cluster_id != expected.cluster_id {
            let [found, expected] = [self, expected].map(|id| Hex(id.cluster_id).to_string());
            return Some(("cluster id", found, expected));
        }
        let numbers = [
            ("incarnation", self.incarnation, expected.incarnation),
            ("group id", self.group_id, expected.group_id),
            ("table id", self.table_id, expected.table_id),
        ];
        let (field, found, expected) = numbers.into_iter().find(|(_, found, expected)| found != expected)?;
        Some((field, found.to_string(), expected.to_string()))
    }
}

struct Hex([u8; 16]);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The last bytes of a table: where its sections are, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The filter, or with two levels the filters and indexes of the partitions; data blocks fill the file
    /// before it.
    pub filter: BlockHandle,
    /// What is referenced in which segment.
    pub refs: BlockHandle,
    /// The properties.
    pub properties: BlockHandle,
    /// The index of the data blocks, or of the partitions.
    pub index: BlockHandle,
    /// Which of the two.
    pub levels: IndexLevels,
    /// Whose table it is.
    pub identity: TableIdentity,
}

/// Why the last bytes of a file are no footer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FooterError {
    /// Damaged, or no table at all.
    Malformed(&'static str),
    /// From a newer program: its version.
    Newer(u32),
}

impl Footer {
    /// The footer as stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        for handle in [self.filter, self.refs, self.properties, self.index] {
            out.extend_from_slice(&handle.offset.to_le_bytes());
            out.extend_from_slice(&handle.len.to_le_bytes());
        }
        out.extend_from_slice(&(self.levels as u32).to_le_bytes());
        out.extend_from_slice(&self.identity.cluster_id);
        for number in [self.identity.incarnation, self.identity.group_id, self.identity.table_id] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out.extend_from_slice(&MAGIC);
        out
    }

    /// Reads a footer.
    ///
    /// # Errors
    /// Where the bytes are damaged or from a newer program.
    pub fn decode(bytes: &[u8]) -> Result<Self, FooterError> {
        let malformed = FooterError::Malformed;
        let bytes: &[u8; FOOTER_BYTES] =
            bytes.try_into().map_err(|_| malformed("too short for the footer of a table"))?;
        let (covered, rest) = bytes.split_at_checked(FOOTER_CRC_AT).ok_or(malformed("no footer"))?;
        let (crc, magic) = rest.split_first_chunk::<4>().ok_or(malformed("no footer"))?;
        if magic != MAGIC {
            return Err(malformed("no table ends here (magic number does not match)"));
        }
        if crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
            return Err(malformed("checksum of the footer does not match"));
        }
        let (fields, version) = covered.split_last_chunk::<4>().ok_or(malformed("no footer"))?;
        match u32::from_le_bytes(*version) {
            FORMAT_VERSION => Fields(fields).footer().ok_or(malformed("the footer's fields are unknown")),
            0 => Err(malformed("format version 0")),
            newer => Err(FooterError::Newer(newer)),
        }
    }
}

/// Fixed-size integers that are not read yet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn handle(&mut self) -> Option<BlockHandle> {
        Some(BlockHandle { offset: self.u64()?, len: self.u32()? })
    }

    /// All fields up to the version; `None` where they say what this version does not.
    fn footer(mut self) -> Option<Footer> {
        let [filter, refs, properties, index] =
            [self.handle()?, self.handle()?, self.handle()?, self.handle()?];
        let levels = IndexLevels::from_stored(self.u32()?)?;
        let identity = TableIdentity {
            cluster_id: self.take()?,
            incarnation: self.u64()?,
            group_id: self.u64()?,
            table_id: self.u64()?,
        };
        let known = self.u32()? == 0 && self.0.is_empty();
        known.then_some(Footer { filter, refs, properties, index, levels, identity })
    }
}
