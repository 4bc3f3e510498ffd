//! Values as they are stored: compressed where it pays, in chunks when large, with a checksum that is
//! made once, where the value enters, and travels with it through replication and relocation.
//!
//! ```text
//! raw, zstd:  body                                        value CRC = crc(key, codec, value bytes, expiry, body)
//! chunked:    head = [count u32][chunk bytes u32]         value CRC = crc(key, codec, value bytes, expiry, head)
//!                    ([stored u32 | zstd bit][crc u32])*
//!             body = the chunks, each raw or zstd alone
//! ```
//! A part of a chunked value is read by verifying the head and only the chunks that it touches.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use kv_vfs::planted;

use crate::types::Expiry;

/// Uncompressed length of a chunk; longer values are stored in chunks of this many bytes.
pub const CHUNK_BYTES: usize = 256 << 10;
const CHUNK_HEAD: usize = 8;
const CHUNK_ENTRY: usize = 8;
const ZSTD_BIT: u32 = 1 << 31;

/// How the bytes of a value are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As they came.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
    /// A chunk table, then chunks which are raw or zstd each.
    Chunked = 2,
}

/// A codec that this program does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown value codec {0}: written by a newer version, or damaged")]
pub struct UnknownCodec(pub u8);

impl TryFrom<u8> for Codec {
    type Error = UnknownCodec;

    fn try_from(byte: u8) -> Result<Self, UnknownCodec> {
        match byte {
            0 => Ok(Codec::Raw),
            1 => Ok(Codec::Zstd),
            2 => Ok(Codec::Chunked),
            other => Err(UnknownCodec(other)),
        }
    }
}

/// When to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// zstd level; `None`: never compress.
    pub level: Option<i32>,
    /// Values shorter than this many bytes stay raw. Default 512.
    pub bytes_min: usize,
}

impl Default for Compression {
    fn default() -> Self {
        Self { level: Some(1), bytes_min: 512 }
    }
}

/// A value as it is stored. Two parts, so that a large incompressible value is not copied to put its
/// chunk table before it; on disk `body` follows `head`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredValue {
    /// How it is stored.
    pub codec: Codec,
    /// Checksum over key, codec, `value_bytes`, `expires` and the head (chunked) or the body (else).
    pub crc: u32,
    /// Uncompressed length.
    pub value_bytes: u64,
    /// When it goes away.
    pub expires: Expiry,
    /// Chunk table; empty unless chunked.
    pub head: Bytes,
    /// Stored bytes.
    pub body: Bytes,
}

impl StoredValue {
    /// Compresses where it pays and computes the checksums.
    #[must_use]
    pub fn new(key: &[u8], raw: Bytes, compression: &Compression) -> Self {
        Self::expiring(key, raw, compression, Expiry::NEVER)
    }

    /// As [`StoredValue::new`], of a value that goes away.
    #[must_use]
    pub fn expiring(key: &[u8], raw: Bytes, compression: &Compression, expires: Expiry) -> Self {
        let value_bytes = raw.len() as u64;
        let (codec, head, body) = if raw.len() > CHUNK_BYTES {
            let (head, body) = chunk(raw, compression);
            (Codec::Chunked, head, body)
        } else {
            match compress(&raw, compression) {
                Some(packed) => (Codec::Zstd, Bytes::new(), Bytes::from(packed)),
                None => (Codec::Raw, Bytes::new(), raw),
            }
        };
        let covered = if codec == Codec::Chunked { &head } else { &body };
        let crc = value_crc(key, codec, value_bytes, expires, covered);
        Self { codec, crc, value_bytes, expires, head, body }
    }

    /// Bytes it takes in a segment, without its header and key.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Splits stored bytes read back into their parts and verifies all checksums.
    pub(crate) fn parse(
        key: &[u8],
        codec: u8,
        crc: u32,
        value_bytes: u64,
        expires: Expiry,
        stored: Bytes,
    ) -> Result<Self, String> {
        let codec = Codec::try_from(codec).map_err(|e| e.to_string())?;
        let head_len = match codec {
            Codec::Raw | Codec::Zstd => 0,
            Codec::Chunked => chunk_head_len(&stored).ok_or("chunk table is cut short")?,
        };
        let mut body = stored;
        if body.len() < head_len {
            return Err("chunk table is cut short".into());
        }
        let head = body.split_to(head_len);
        let value = Self { codec, crc, value_bytes, expires, head, body };
        value.verify(key)?;
        Ok(value)
    }

    /// Checks the value's checksum and those of its chunks.
    pub fn verify(&self, key: &[u8]) -> Result<(), String> {
        let covered = if self.codec == Codec::Chunked { &self.head } else { &self.body };
        let crc = value_crc(key, self.codec, self.value_bytes, self.expires, covered);
        if crc != self.crc && !planted::is("checksum of a value not verified") {
            return Err("value checksum does not match".into());
        }
        // What is read back is parted again by what the head says.
        let head_bytes = if self.codec == Codec::Chunked { chunk_head_len(&self.head) } else { Some(0) };
        if head_bytes != Some(self.head.len()) {
            return Err("the chunk table has another length than it says".into());
        }
        if self.codec != Codec::Chunked && self.value_bytes > CHUNK_BYTES as u64 {
            return Err("a value of this length should be in chunks".into());
        }
        if self.codec == Codec::Raw && self.body.len() as u64 != self.value_bytes {
            return Err("value length does not match".into());
        }
        if self.codec == Codec::Chunked {
            for chunk in self.chunks()? {
                chunk.verified(&self.body)?;
            }
        }
        Ok(())
    }

    /// The whole value, uncompressed. The checksums were verified when it was read.
    pub fn decode(&self) -> Result<Bytes, String> {
        match self.codec {
            Codec::Raw => Ok(self.body.clone()),
            Codec::Zstd => decompress(&self.body, self.value_bytes).map(Bytes::from),
            Codec::Chunked => {
                let chunks = self.chunks()?;
                if chunks.iter().all(|c| !c.zstd) {
                    return Ok(self.body.clone());
                }
                let mut out = BytesMut::new();
                for chunk in chunks {
                    out.extend_from_slice(&chunk.unpack(&self.body)?);
                }
                Ok(out.freeze())
            }
        }
    }

    fn chunks(&self) -> Result<Vec<Chunk>, String> {
        let chunks = parse_chunks(&self.head, self.value_bytes)?;
        let end = chunks.last().map_or(0, |c| c.at + c.stored);
        if end != self.body.len() {
            return Err(format!("chunks end at {end}, the value at {}", self.body.len()));
        }
        Ok(chunks)
    }
}

/// One chunk: where its stored bytes lie in the body, and what they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    /// First byte of the value it holds.
    pub value_offset: u64,
    /// Uncompressed length.
    pub value_bytes: usize,
    /// Offset of its stored bytes in the body.
    pub at: usize,
    /// Stored length.
    pub stored: usize,
    zstd: bool,
    crc: u32,
}

impl Chunk {
    fn verified<'a>(&self, body: &'a [u8]) -> Result<&'a [u8], String> {
        let bytes = body.get(self.at..self.at + self.stored).ok_or("chunk lies beyond the value")?;
        if crc32fast::hash(bytes) != self.crc {
            return Err(format!("checksum of the chunk at {} does not match", self.value_offset));
        }
        Ok(bytes)
    }

    fn unpack(&self, body: &[u8]) -> Result<Vec<u8>, String> {
        self.unpack_alone(body.get(self.at..self.at + self.stored).ok_or("chunk lies beyond the value")?)
    }

    /// Verifies and unpacks the chunk from its own stored bytes.
    pub(crate) fn unpack_alone(&self, stored: &[u8]) -> Result<Vec<u8>, String> {
        if crc32fast::hash(stored) != self.crc {
            return Err(format!("checksum of the chunk at {} does not match", self.value_offset));
        }
        if self.zstd { decompress(stored, self.value_bytes as u64) } else { Ok(stored.to_vec()) }
    }
}

/// Length of the chunk table that begins `stored`, from its count; `None` where that is cut short.
pub(crate) fn chunk_head_len(stored: &[u8]) -> Option<usize> {
    let count = u32::from_le_bytes(*stored.first_chunk::<4>()?);
    (count as usize).checked_mul(CHUNK_ENTRY)?.checked_add(CHUNK_HEAD)
}

pub(crate) fn parse_chunks(head: &[u8], value_bytes: u64) -> Result<Vec<Chunk>, String> {
    let (fixed, entries) = head.split_at_checked(CHUNK_HEAD).ok_or("chunk table is cut short")?;
    let chunk_bytes = u64::from(read_u32(fixed, 4));
    if chunk_bytes > CHUNK_BYTES as u64 {
        return Err("chunks are too long".into());
    }
    let expected = if chunk_bytes == 0 { 0 } else { value_bytes.div_ceil(chunk_bytes) };
    if expected != (entries.len() / CHUNK_ENTRY) as u64 || entries.len() % CHUNK_ENTRY != 0 {
        return Err("chunk table does not fit the value's length".into());
    }
    let (mut at, mut value_offset) = (0usize, 0u64);
    let mut chunks = Vec::with_capacity(entries.len() / CHUNK_ENTRY);
    for entry in entries.chunks_exact(CHUNK_ENTRY) {
        let (stored, crc) = (read_u32(entry, 0), read_u32(entry, 4));
        let length = chunk_bytes.min(value_bytes - value_offset) as usize;
        let (zstd, stored) = (stored & ZSTD_BIT != 0, (stored & !ZSTD_BIT) as usize);
        if !zstd && stored != length {
            return Err("length of a raw chunk does not match".into());
        }
        chunks.push(Chunk { value_offset, value_bytes: length, at, stored, zstd, crc });
        at += stored;
        value_offset += length as u64;
    }
    Ok(chunks)
}

pub(crate) fn value_crc(key: &[u8], codec: Codec, value_bytes: u64, expires: Expiry, covered: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    crc.update(&[codec as u8]);
    crc.update(&value_bytes.to_le_bytes());
    if let Some(time) = expires.time() {
        crc.update(&time.to_le_bytes());
    }
    crc.update(covered);
    crc.finalize()
}

fn chunk(raw: Bytes, compression: &Compression) -> (Bytes, Bytes) {
    let packed: Vec<Option<Vec<u8>>> = raw.chunks(CHUNK_BYTES).map(|c| compress(c, compression)).collect();
    let mut head = Vec::with_capacity(CHUNK_HEAD + CHUNK_ENTRY * packed.len());
    head.extend_from_slice(&(packed.len() as u32).to_le_bytes());
    head.extend_from_slice(&(CHUNK_BYTES as u32).to_le_bytes());
    let all_raw = packed.iter().all(Option::is_none);
    let mut body = Vec::new();
    for (chunk, packed) in raw.chunks(CHUNK_BYTES).zip(&packed) {
        let (stored, flag): (&[u8], u32) = match packed {
            Some(packed) => (packed, ZSTD_BIT),
            None => (chunk, 0),
        };
        head.extend_from_slice(&(stored.len() as u32 | flag).to_le_bytes());
        head.extend_from_slice(&crc32fast::hash(stored).to_le_bytes());
        if !all_raw {
            body.extend_from_slice(stored);
        }
    }
    (Bytes::from(head), if all_raw { raw } else { Bytes::from(body) })
}

/// Compressed bytes, where compressing saves at least an eighth. A sample is tried first, so that
/// incompressible values cost little.
fn compress(raw: &[u8], compression: &Compression) -> Option<Vec<u8>> {
    const SAMPLE: usize = 4 << 10;
    let level = compression.level?;
    if raw.len() < compression.bytes_min {
        return None;
    }
    let pays = |packed: &[u8], raw: &[u8]| packed.len() < raw.len() - raw.len() / 8;
    if raw.len() > 4 * SAMPLE {
        let sample = raw.get(raw.len() / 2..raw.len() / 2 + SAMPLE)?;
        if !with_packed(sample, level, |packed| pays(packed, sample))? {
            return None;
        }
    }
    with_packed(raw, level, |packed| pays(packed, raw).then(|| packed.to_vec()))?
}

thread_local! {
    /// Making a context costs more than compressing a small value, so each thread keeps one of each, and
    /// a buffer.
    static PACKER: RefCell<Option<Packer>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

struct Packer {
    level: i32,
    zstd: zstd::bulk::Compressor<'static>,
    packed: Vec<u8>,
}

/// Compresses and hands the result to `f`; `None` where zstd refuses.
fn with_packed<T>(raw: &[u8], level: i32, f: impl FnOnce(&[u8]) -> T) -> Option<T> {
    PACKER.with_borrow_mut(|kept| {
        let packer = match kept {
            Some(packer) if packer.level == level => packer,
            other => {
                let zstd = zstd::bulk::Compressor::new(level).ok()?;
                other.insert(Packer { level, zstd, packed: Vec::new() })
            }
        };
        packer.packed.clear();
        packer.packed.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        packer.zstd.compress_to_buffer(raw, &mut packer.packed).ok()?;
        Some(f(&packer.packed))
    })
}

fn decompress(packed: &[u8], value_bytes: u64) -> Result<Vec<u8>, String> {
    // The length comes from a header whose checksum held; the frame cannot grow beyond it.
    let raw = UNPACKER.with_borrow_mut(|kept| {
        let zstd = match kept {
            Some(zstd) => zstd,
            none => none.insert(zstd::bulk::Decompressor::new()?),
        };
        zstd.decompress(packed, value_bytes as usize)
    });
    let raw = raw.map_err(|e| format!("zstd: {e}"))?;
    if raw.len() as u64 != value_bytes {
        return Err(format!("unpacks to {} bytes instead of {value_bytes}", raw.len()));
    }
    Ok(raw)
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(len: usize) -> Bytes {
        (0..len).map(|i| b"abcdefgh 0123"[i % 13]).collect::<Vec<_>>().into()
    }

    fn noise(len: usize) -> Bytes {
        let mut x = 9u64;
        let mut next = || {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (x >> 56) as u8
        };
        (0..len).map(|_| next()).collect::<Vec<_>>().into()
    }

    fn stored(value: &StoredValue) -> Bytes {
        [&value.head[..], &value.body[..]].concat().into()
    }

    #[test]
    fn comes_back_whatever_its_length_and_content() {
        for raw in [0, 1, 511, 512, 5000, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7]
            .into_iter()
            .flat_map(|n| [text(n), noise(n)])
        {
            let value = StoredValue::new(b"k", raw.clone(), &Compression::default());
            let again = StoredValue::parse(
                b"k",
                value.codec as u8,
                value.crc,
                value.value_bytes,
                value.expires,
                stored(&value),
            )
            .unwrap();
            assert_eq!(again, value);
            assert_eq!(again.decode().unwrap(), raw);
        }
    }

    #[test]
    fn compresses_only_where_it_pays() {
        let compression = Compression::default();
        assert_eq!(StoredValue::new(b"k", text(10_000), &compression).codec, Codec::Zstd);
        assert_eq!(StoredValue::new(b"k", noise(10_000), &compression).codec, Codec::Raw);
        assert_eq!(StoredValue::new(b"k", text(100), &compression).codec, Codec::Raw);
        let never = Compression { level: None, ..compression };
        assert_eq!(StoredValue::new(b"k", text(10_000), &never).codec, Codec::Raw);
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        for raw in [noise(700), text(900), text(CHUNK_BYTES + 300)] {
            let value = StoredValue::new(b"key", raw, &Compression::default());
            let bytes = stored(&value);
            let parse = |key: &[u8], codec: u8, len: u64, bytes: Bytes| {
                StoredValue::parse(key, codec, value.crc, len, Expiry::NEVER, bytes)
            };
            assert!(parse(b"kez", value.codec as u8, value.value_bytes, bytes.clone()).is_err());
            assert!(parse(b"key", value.codec as u8, value.value_bytes + 1, bytes.clone()).is_err());
            for codec in (0..=3).filter(|c| *c != value.codec as u8) {
                assert!(parse(b"key", codec, value.value_bytes, bytes.clone()).is_err());
            }
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(parse(b"key", value.codec as u8, value.value_bytes, flipped.into()).is_err());
            }
        }
    }
}
