//! The index: for each data block a version that is not before its last and before the next block's first.

use std::ops::Range;

use kv_vfs::varint;

use super::block::shared_prefix;
use super::format::BlockHandle;
use super::input::Input;
use crate::key::{MAX_KEY, Seq, compare};

/// Builds the index while blocks are written.
#[derive(Default)]
pub(super) struct IndexBuilder {
    entries: Vec<u8>,
    count: u64,
    /// The last block: the version it ends with, and where it is. Its separator waits for the next key.
    pending: Option<(Vec<u8>, Seq, BlockHandle)>,
    last_key: Vec<u8>,
    last_seq: Seq,
}

impl IndexBuilder {
    /// Takes a block that ends with the given version.
    pub(super) fn add(&mut self, last_key: &[u8], last_seq: Seq, handle: BlockHandle) {
        assert!(self.pending.is_none(), "the block before has no separator yet");
        self.pending = Some((last_key.to_vec(), last_seq, handle));
        self.count += 1;
    }

    /// Tells the first key of the next block.
    pub(super) fn next_key(&mut self, key: &[u8]) {
        if let Some((last_key, last_seq, handle)) = self.pending.take() {
            if last_key == key {
                self.push(key, last_seq, handle);
            } else {
                self.push(separator(&last_key, key), 0, handle);
            }
        }
    }

    /// Tells that no block follows.
    pub(super) fn end(&mut self) {
        if let Some((last_key, last_seq, handle)) = self.pending.take() {
            self.push(&last_key, last_seq, handle);
        }
    }

    /// Bytes it takes so far, without the last block.
    pub(super) fn bytes(&self) -> usize {
        self.entries.len()
    }

    /// How many blocks it names.
    pub(super) fn blocks(&self) -> u64 {
        self.count
    }

    /// The last separator: empty where no block was followed by another.
    pub(super) fn last(&self) -> (&[u8], Seq) {
        (&self.last_key, self.last_seq)
    }

    /// The index as stored, after [`IndexBuilder::next_key`] or [`IndexBuilder::end`].
    pub(super) fn finish(self) -> Vec<u8> {
        assert!(self.pending.is_none(), "the last block has no separator yet");
        let mut out = Vec::with_capacity(self.entries.len() + varint::MAX_BYTES);
        varint::put(&mut out, self.count);
        out.extend_from_slice(&self.entries);
        out
    }

    fn push(&mut self, key: &[u8], seq: Seq, handle: BlockHandle) {
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.last_seq = seq;
        varint::put_bytes(&mut self.entries, key);
        varint::put(&mut self.entries, seq);
        varint::put(&mut self.entries, handle.offset);
        varint::put(&mut self.entries, u64::from(handle.len));
    }
}

/// A short key that is at least `a` and less than `b`, given `a < b`.
fn separator<'a>(a: &'a [u8], b: &'a [u8]) -> &'a [u8] {
    let len = shared_prefix(a, b) + 1;
    match b.get(..len) {
        Some(short) if len < b.len() && len < a.len() => short,
        _ => a,
    }
}

/// An index, loaded.
#[derive(Debug)]
pub(super) struct Index {
    /// All separators, one behind the other.
    keys: Vec<u8>,
    blocks: Vec<IndexEntry>,
}

#[derive(Debug)]
struct IndexEntry {
    /// Where the separator ends in `keys`.
    key_end: usize,
    seq: Seq,
    handle: BlockHandle,
}

impl Index {
    /// Reads an index of blocks that fill this part of the file, in order and without a gap.
    pub(super) fn parse(content: &[u8], data: Range<u64>) -> Result<Self, &'static str> {
        let mut input = Input::new(content);
        let count = input.count(4).ok_or("number of blocks cannot be right")?;
        let mut index = Self { keys: Vec::new(), blocks: Vec::with_capacity(count) };
        let mut offset = data.start;
        for _ in 0..count {
            let (key, entry) = index.read_entry(&mut input).ok_or("entry cannot be decoded")?;
            if entry.handle.offset != offset {
                return Err("blocks do not follow each other");
            }
            offset = entry.handle.end().ok_or("block is past the end")?;
            if index.last().is_some_and(|last| compare(last, (key, entry.seq)).is_ge()) {
                return Err("separators are out of order");
            }
            index.keys.extend_from_slice(key);
            index.blocks.push(entry);
        }
        input.end().ok_or("bytes behind the last entry")?;
        if offset == data.end { Ok(index) } else { Err("blocks do not end where what follows begins") }
    }

    fn read_entry<'a>(&self, input: &mut Input<'a>) -> Option<(&'a [u8], IndexEntry)> {
        let key = input.bytes().filter(|key| key.len() <= MAX_KEY)?;
        let seq = input.number()?;
        let handle = BlockHandle { offset: input.number()?, len: input.u32()? };
        Some((key, IndexEntry { key_end: self.keys.len() + key.len(), seq, handle }))
    }

    /// Memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.keys.len() + self.blocks.len() * size_of::<IndexEntry>()
    }

    /// How many blocks there are.
    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Where a block is.
    pub(super) fn handle(&self, block: usize) -> Option<BlockHandle> {
        self.blocks.get(block).map(|entry| entry.handle)
    }

    /// The separator behind a block.
    pub(super) fn separator(&self, block: usize) -> Option<(&[u8], Seq)> {
        let entry = self.blocks.get(block)?;
        let before = block.checked_sub(1).and_then(|before| self.blocks.get(before));
        let key = self.keys.get(before.map_or(0, |entry| entry.key_end)..entry.key_end)?;
        Some((key, entry.seq))
    }

    /// The only block that may hold the first version not before `(key, seq)`; the number of blocks where
    /// none can.
    pub(super) fn find(&self, key: &[u8], seq: Seq) -> usize {
        let (mut low, mut high) = (0, self.blocks.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let before = self.separator(middle).is_some_and(|at| compare(at, (key, seq)).is_lt());
            if before { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The separator behind the last block.
    pub(super) fn last(&self) -> Option<(&[u8], Seq)> {
        self.separator(self.blocks.len().checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_separator_separates(a: Vec<u8>, b: Vec<u8>) {
            prop_assume!(a < b);
            let s = separator(&a, &b);
            prop_assert!(&*a <= s && s < &*b && s.len() <= a.len());
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, begin in 0u64..9, end: u64) {
            let _ = Index::parse(&bytes, begin..end);
        }
    }

    #[test]
    fn separators_are_short() {
        assert_eq!(separator(b"abcdef", b"abxyz"), b"abx");
        assert_eq!(separator(b"abcdef", b"abd"), b"abcdef");
        assert_eq!(separator(b"ab", b"abc"), b"ab");
    }

    fn sample() -> Vec<u8> {
        let mut builder = IndexBuilder::default();
        builder.add(b"apple", 3, BlockHandle { offset: 0, len: 10 });
        builder.next_key(b"blueberry");
        builder.add(b"cherry", 8, BlockHandle { offset: 10, len: 20 });
        builder.next_key(b"cherry");
        builder.add(b"date", 5, BlockHandle { offset: 30, len: 5 });
        builder.end();
        assert_eq!((builder.blocks(), builder.last()), (3, (&b"date"[..], 5)));
        builder.finish()
    }

    #[test]
    fn finds_the_block_of_a_version() {
        let index = Index::parse(&sample(), 0..35).unwrap();
        assert_eq!(index.len(), 3);
        assert_eq!(index.separator(0), Some((&b"b"[..], 0)));
        assert_eq!(index.separator(1), Some((&b"cherry"[..], 8)));
        for (key, seq, block) in [
            (&b""[..], 9, 0),
            (b"apple", 0, 0),
            (b"blueberry", 9, 1),
            (b"cherry", 8, 1),
            (b"cherry", 7, 2),
            (b"date", 5, 2),
            (b"date", 4, 3),
            (b"e", 9, 3),
        ] {
            assert_eq!(index.find(key, seq), block, "{key:?} {seq}");
        }
    }

    #[test]
    fn damage_behind_a_right_checksum_is_refused() {
        let good = sample();
        assert!(Index::parse(&good, 0..36).is_err());
        assert!(Index::parse(&good, 1..35).is_err());
        for cut in 0..good.len() {
            assert!(Index::parse(&good[..cut], 0..35).is_err());
        }
        let mut longer = good.clone();
        longer.push(0);
        assert!(Index::parse(&longer, 0..35).is_err());
        let mut many = good;
        many[0] = 100;
        assert!(Index::parse(&many, 0..35).is_err());
    }
}
