//! Blocks as stored: `[codec u8][unpacked length u32][crc u32][stored bytes]`.
//!
//! The CRC covers the table's id and the block's offset as well, which are not stored: a block that a
//! misdirected write put elsewhere, or a sector that swapped places, does not pass for the right one.

use std::cell::RefCell;
use std::io;

use bytes::Bytes;
use kv_vfs::AlignedBuf;
use zstd::bulk::{Compressor, Decompressor};

use super::format::{BLOCK_BYTES_MAX, BLOCK_HEADER_BYTES, BlockHandle, COMPRESSED_BLOCK_BYTES_MAX, Codec};

/// Writes blocks for one table.
pub(super) struct BlockEncoder {
    table_id: u64,
    zstd: Option<Compressor<'static>>,
    packed: Vec<u8>,
}

impl BlockEncoder {
    pub(super) fn new(table_id: u64, compression_level: Option<i32>) -> io::Result<Self> {
        let zstd = compression_level.map(Compressor::new).transpose()?;
        Ok(Self { table_id, zstd, packed: Vec::new() })
    }

    /// Appends `raw` to `out` as a block that will stand at `offset` in the file, compressed where that
    /// saves an eighth.
    pub(super) fn encode(
        &mut self,
        raw: &[u8],
        offset: u64,
        out: &mut AlignedBuf,
    ) -> io::Result<BlockHandle> {
        assert!(raw.len() <= BLOCK_BYTES_MAX, "a block of {} bytes", raw.len());
        let (codec, stored) = match &mut self.zstd {
            Some(zstd) if raw.len() <= COMPRESSED_BLOCK_BYTES_MAX => {
                self.packed.clear();
                self.packed.reserve(zstd::zstd_safe::compress_bound(raw.len()));
                zstd.compress_to_buffer(raw, &mut self.packed)?;
                let pays = self.packed.len() + raw.len() / 8 < raw.len();
                if pays { (Codec::Zstd, &*self.packed) } else { (Codec::Raw, raw) }
            }
            _ => (Codec::Raw, raw),
        };
        let raw_len = raw.len() as u32;
        out.extend_from_slice(&[codec as u8]);
        out.extend_from_slice(&raw_len.to_le_bytes());
        out.extend_from_slice(&crc(self.table_id, offset, codec as u8, raw_len, stored).to_le_bytes());
        out.extend_from_slice(stored);
        Ok(BlockHandle { offset, len: (BLOCK_HEADER_BYTES + stored.len()) as u32 })
    }
}

/// Checks and unpacks the block that was read from `offset`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn decode(block: Bytes, table_id: u64, offset: u64) -> Result<Bytes, &'static str> {
    let short = "block is shorter than its header";
    let (header, _) = block.split_first_chunk::<BLOCK_HEADER_BYTES>().ok_or(short)?;
    let [codec, a, b, c, d, e, f, g, h] = *header;
    let (raw_len, expected) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    let stored = block.slice(BLOCK_HEADER_BYTES..);
    if crc(table_id, offset, codec, raw_len, &stored) != expected {
        return Err("checksum of the block does not match");
    }
    let raw_len = raw_len as usize;
    match Codec::from_byte(codec).ok_or("codec of the block is unknown")? {
        Codec::Raw if stored.len() == raw_len => Ok(stored),
        Codec::Raw => Err("length of the block does not match"),
        Codec::Zstd if raw_len > COMPRESSED_BLOCK_BYTES_MAX => Err("compressed block is too long"),
        Codec::Zstd => unpack(&stored, raw_len),
    }
}

fn unpack(stored: &[u8], raw_len: usize) -> Result<Bytes, &'static str> {
    thread_local! {
        static ZSTD: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }
    ZSTD.with_borrow_mut(|zstd| {
        let zstd = match zstd {
            Some(zstd) => zstd,
            None => zstd.insert(Decompressor::new().map_err(|_| "no memory to unpack the block")?),
        };
        let mut raw = Vec::with_capacity(raw_len);
        let len = zstd.decompress_to_buffer(stored, &mut raw).map_err(|_| "block cannot be unpacked")?;
        if len == raw_len { Ok(Bytes::from(raw)) } else { Err("unpacked length of the block does not match") }
    })
}

fn crc(table_id: u64, offset: u64, codec: u8, raw_len: u32, stored: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&table_id.to_le_bytes());
    crc.update(&offset.to_le_bytes());
    crc.update(&[codec]);
    crc.update(&raw_len.to_le_bytes());
    crc.update(stored);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(raw: &[u8], level: Option<i32>) -> Bytes {
        let mut out = AlignedBuf::new();
        let handle = BlockEncoder::new(7, level).unwrap().encode(raw, 100, &mut out).unwrap();
        assert_eq!(handle, BlockHandle { offset: 100, len: out.len() as u32 });
        Bytes::copy_from_slice(&out)
    }

    #[test]
    fn comes_back_with_and_without_compression() {
        for raw in [&b""[..], b"x", &[7; 5000]] {
            for level in [None, Some(-1), Some(1), Some(19)] {
                let block = encoded(raw, level);
                assert_eq!(decode(block.clone(), 7, 100).unwrap(), raw);
                assert_eq!(block[0] == Codec::Zstd as u8, level.is_some() && raw.len() > 1000);
            }
        }
    }

    #[test]
    fn any_flipped_bit_and_any_other_place_is_noticed() {
        for block in [encoded(b"some bytes of a block", None), encoded(&[7; 300], Some(-1))] {
            for bit in 0..block.len() * 8 {
                let mut flipped = block.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(flipped.into(), 7, 100).is_err());
            }
            for cut in 0..block.len() {
                assert!(decode(block.slice(..cut), 7, 100).is_err());
            }
            assert!(decode(block.clone(), 8, 100).is_err());
            assert!(decode(block.clone(), 7, 101).is_err());
        }
    }

    #[test]
    fn lengths_that_lie_are_refused_whatever_the_checksum() {
        for (codec, raw_len, stored) in [
            (0u8, 4u32, &b"abc"[..]),
            (0, u32::MAX, b"abc"),
            (1, u32::MAX, b"abc"),
            (1, 3, b"abc"),
            (2, 3, b"abc"),
        ] {
            let mut block = vec![codec];
            block.extend_from_slice(&raw_len.to_le_bytes());
            block.extend_from_slice(&crc(7, 0, codec, raw_len, stored).to_le_bytes());
            block.extend_from_slice(stored);
            assert!(decode(block.into(), 7, 0).is_err());
        }
        let packed = zstd::bulk::compress(&[7; 300], 1).unwrap();
        for raw_len in [0u32, 299, 301] {
            let mut block = vec![1];
            block.extend_from_slice(&raw_len.to_le_bytes());
            block.extend_from_slice(&crc(7, 0, 1, raw_len, &packed).to_le_bytes());
            block.extend_from_slice(&packed);
            assert!(decode(block.into(), 7, 0).is_err());
        }
    }
}
