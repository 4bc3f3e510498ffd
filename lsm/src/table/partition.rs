//! Partitions: the filter and the index of a part of the data blocks, loaded when they are needed; and the
//! index of them, which stays in memory.
//!
//! A table whose index is short has one partition, which is loaded when the table is opened.

use std::ops::Range;
use std::sync::Arc;

use kv_vfs::varint;

use super::filter::{Filter, FilterBuilder};
use super::format::BlockHandle;
use super::index::{Index, IndexBuilder};
use super::input::Input;
use crate::key::{MAX_KEY, Seq, compare};

/// Filter and index of data blocks that follow each other.
#[derive(Debug)]
pub(super) struct Partition {
    pub index: Index,
    pub filter: Filter,
}

impl Partition {
    /// Memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.index.bytes() + self.filter.bytes()
    }
}

/// Where one data block is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub partition: Arc<Partition>,
    /// Which partition.
    pub number: usize,
    /// Which of its blocks.
    pub block: usize,
}

impl Place {
    pub(super) fn handle(&self) -> Option<BlockHandle> {
        self.partition.index.handle(self.block)
    }
}

/// Collects what is known of data blocks while they are written, partition by partition.
pub(super) struct PartitionsBuilder {
    /// Length from which on an index ends, in bytes.
    bytes_max: usize,
    filter_false_positive: f64,
    filter: FilterBuilder,
    index: IndexBuilder,
    /// Whether the open partition has a key.
    has_key: bool,
    data_bytes: u64,
    done: Vec<Built>,
}

/// A partition, not stored yet.
pub(super) struct Built {
    last: (Vec<u8>, Seq),
    blocks: u64,
    data_bytes: u64,
    pub filter: Vec<u8>,
    pub index: Vec<u8>,
}

impl PartitionsBuilder {
    pub(super) fn new(bytes_max: usize, filter_false_positive: f64) -> Self {
        Self {
            bytes_max: bytes_max.max(1),
            filter_false_positive,
            filter: FilterBuilder::default(),
            index: IndexBuilder::default(),
            has_key: false,
            data_bytes: 0,
            done: Vec::new(),
        }
    }

    /// Takes a version, after all before: whether it begins a block, and is of another key than the last one.
    pub(super) fn add(&mut self, key: &[u8], begins_block: bool, is_new_key: bool) {
        if begins_block {
            self.index.next_key(key);
            if self.index.bytes() >= self.bytes_max {
                self.end_partition();
            }
        }
        // A key whose versions lie in two partitions is in both filters: a reader asks one of them.
        if is_new_key || !self.has_key {
            self.filter.add(key);
            self.has_key = true;
        }
    }

    /// Takes the block that ends with the given version.
    pub(super) fn end_block(&mut self, last_key: &[u8], last_seq: Seq, handle: BlockHandle) {
        self.index.add(last_key, last_seq, handle);
        self.data_bytes += u64::from(handle.len);
    }

    /// All partitions: at least one.
    pub(super) fn finish(mut self) -> Vec<Built> {
        self.index.end();
        self.end_partition();
        self.done
    }

    fn end_partition(&mut self) {
        let (index, filter) = (std::mem::take(&mut self.index), std::mem::take(&mut self.filter));
        let (key, seq) = index.last();
        self.done.push(Built {
            last: (key.to_vec(), seq),
            blocks: index.blocks(),
            data_bytes: std::mem::take(&mut self.data_bytes),
            filter: filter.build(self.filter_false_positive),
            index: index.finish(),
        });
        self.has_key = false;
    }
}

/// The index of partitions as stored, given the lengths of their filters and indexes in the file.
pub(super) fn encode(partitions: &[Built], stored: &[(u32, u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    varint::put(&mut out, partitions.len() as u64);
    for (partition, (filter, index)) in partitions.iter().zip(stored) {
        varint::put_bytes(&mut out, &partition.last.0);
        let numbers =
            [partition.last.1, partition.blocks, partition.data_bytes, u64::from(*filter), u64::from(*index)];
        numbers.into_iter().for_each(|number| varint::put(&mut out, number));
    }
    out
}

/// The index of partitions, loaded.
#[derive(Debug)]
pub(super) struct Top {
    entries: Vec<TopEntry>,
}

/// What is known of a partition that is not loaded.
#[derive(Debug)]
pub(super) struct TopEntry {
    /// The separator behind its last block.
    pub last: (Box<[u8]>, Seq),
    /// How many blocks it has.
    pub blocks: u64,
    /// Where they are.
    pub data: Range<u64>,
    pub filter: BlockHandle,
    pub index: BlockHandle,
}

impl TopEntry {
    pub(super) fn separator(&self) -> (&[u8], Seq) {
        (&self.last.0, self.last.1)
    }

    fn read(input: &mut Input<'_>, data: u64, at: u64) -> Option<Self> {
        let key = input.bytes().filter(|key| key.len() <= MAX_KEY)?;
        let (seq, blocks) = (input.number()?, input.number()?);
        let end = data.checked_add(input.number()?)?;
        let filter = BlockHandle { offset: at, len: input.u32()? };
        let index = BlockHandle { offset: filter.end()?, len: input.u32()? };
        Some(Self { last: (key.into(), seq), blocks, data: data..end, filter, index })
    }
}

impl Top {
    /// Reads the index of partitions whose data blocks fill the file up to where `stored` begins, and whose
    /// filters and indexes fill `stored`.
    pub(super) fn parse(content: &[u8], stored: BlockHandle) -> Result<Self, &'static str> {
        let mut input = Input::new(content);
        let count = input.count(6).ok_or("number of partitions cannot be right")?;
        let mut entries: Vec<TopEntry> = Vec::with_capacity(count);
        let (mut data, mut at) = (0, stored.offset);
        for _ in 0..count {
            let entry = TopEntry::read(&mut input, data, at).ok_or("partition cannot be decoded")?;
            let last = entries.last().map(TopEntry::separator);
            if last.is_some_and(|last| compare(last, entry.separator()).is_ge()) {
                return Err("partitions are out of order");
            }
            data = entry.data.end;
            at = entry.index.end().ok_or("partition is past the end")?;
            entries.push(entry);
        }
        input.end().ok_or("bytes behind the last partition")?;
        let fills = data == stored.offset && Some(at) == stored.end();
        if fills { Ok(Self { entries }) } else { Err("partitions do not fill their section") }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, number: usize) -> Option<&TopEntry> {
        self.entries.get(number)
    }

    /// How many blocks all partitions have.
    pub(super) fn blocks(&self) -> u64 {
        self.entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.blocks))
    }

    /// The only partition that may hold the first version not before `(key, seq)`; their number where none
    /// can.
    pub(super) fn find(&self, key: &[u8], seq: Seq) -> usize {
        self.entries.partition_point(|entry| compare(entry.separator(), (key, seq)).is_lt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<u8> {
        let built = |key: &[u8], seq| Built {
            last: (key.to_vec(), seq),
            blocks: 2,
            data_bytes: 50,
            filter: Vec::new(),
            index: Vec::new(),
        };
        encode(&[built(b"b", 0), built(b"dog", 9), built(b"dog", 4)], &[(10, 20), (11, 21), (12, 22)])
    }

    const STORED: BlockHandle = BlockHandle { offset: 150, len: 96 };

    #[test]
    fn finds_the_partition_of_a_version() {
        let top = Top::parse(&sample(), STORED).unwrap();
        assert_eq!((top.len(), top.blocks()), (3, 6));
        let second = top.get(1).unwrap();
        assert_eq!((second.data.clone(), second.separator()), (50..100, (&b"dog"[..], 9)));
        assert_eq!(second.filter, BlockHandle { offset: 180, len: 11 });
        assert_eq!(second.index, BlockHandle { offset: 191, len: 21 });
        for (key, seq, number) in
            [("a", 1, 0), ("b", 0, 0), ("ba", 9, 1), ("dog", 9, 1), ("dog", 8, 2), ("e", 1, 3)]
        {
            assert_eq!(top.find(key.as_bytes(), seq), number, "{key} {seq}");
        }
    }

    #[test]
    fn damage_behind_a_right_checksum_is_refused() {
        let good = sample();
        assert!(Top::parse(&good, BlockHandle { len: 95, ..STORED }).is_err());
        assert!(Top::parse(&good, BlockHandle { offset: 149, ..STORED }).is_err());
        for cut in 0..good.len() {
            assert!(Top::parse(&good[..cut], STORED).is_err());
        }
        assert!(Top::parse(&[&good[..], &[0]].concat(), STORED).is_err());
        let mut disordered = good;
        disordered[2] = b'z';
        assert!(Top::parse(&disordered, STORED).unwrap_err().contains("order"));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, offset: u64, len: u32) {
            let _ = Top::parse(&bytes, BlockHandle { offset, len });
        }
    }
}
