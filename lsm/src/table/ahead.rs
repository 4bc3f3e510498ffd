//! Reading data blocks ahead: a cursor that goes forward asks for one block behind the other, which stand so in the
//! file. One read of many costs little more than that of one.

use std::ops::Range;

use bytes::Bytes;

use super::error::TableError;
use super::format::BlockHandle;
use super::reader::TableReader;

/// What is read at once when a cursor goes on to a second block, in bytes; twice as much each time after, so that a
/// short scan reads little more than it needs.
const FIRST_BYTES: usize = 8 << 10;
/// At most so much is read at once: the memory of a cursor. A longer block is read alone.
const BYTES_MAX: usize = 64 << 10;

/// The bytes of a table that its cursor has read ahead.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Where `bytes` stand in the file.
    at: u64,
    /// Blocks as stored, the last one perhaps cut.
    bytes: Vec<u8>,
    /// Where the block that was asked for last ends, if one was.
    end: Option<u64>,
    /// How much to read next, where the next block is the one that follows.
    next: usize,
}

impl Ahead {
    /// Reads, checks and unpacks a data block. It is always asked for the same table.
    pub(super) fn read_block(&mut self, table: &TableReader, at: BlockHandle) -> Result<Bytes, TableError> {
        if self.place(at).is_none() {
            self.fetch(table, at);
        }
        self.end = at.end();
        match self.place(at).and_then(|place| self.bytes.get(place)) {
            Some(stored) => table.unpack_data_block(Bytes::copy_from_slice(stored), at),
            None => table.read_data_block(at),
        }
    }

    /// Reads this block and others behind it, where they are likely to be asked for. That it fails is no matter: what is
    /// not needed yet may be what cannot be read.
    fn fetch(&mut self, table: &TableReader, from: BlockHandle) {
        let more = self.plan(from, table.data_bytes());
        self.bytes.resize(more, 0);
        self.at = from.offset;
        if more > 0 && table.read_ahead(from.offset, &mut self.bytes).is_err() {
            self.bytes.clear();
        }
    }

    /// Where in `bytes` a block is, if all of it is there.
    fn place(&self, block: BlockHandle) -> Option<Range<usize>> {
        let begin = usize::try_from(block.offset.checked_sub(self.at)?).ok()?;
        let end = begin.checked_add(block.len as usize)?;
        (end <= self.bytes.len()).then_some(begin..end)
    }

    /// How many bytes to read from where this block begins, in a table whose data blocks end there; 0: the block alone.
    fn plan(&mut self, block: BlockHandle, data_end: u64) -> usize {
        if self.end != Some(block.offset) {
            self.next = FIRST_BYTES;
            return 0;
        }
        let there = usize::try_from(data_end.saturating_sub(block.offset)).unwrap_or(usize::MAX);
        let bytes = self.next.min(there);
        self.next = (self.next * 2).min(BYTES_MAX);
        if bytes > block.len as usize { bytes } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(offset: u64, len: u32) -> BlockHandle {
        BlockHandle { offset, len }
    }

    /// Broken by: a scan of one block that reads many, a jump that does, a bound that is passed.
    #[test]
    fn more_is_read_the_further_it_goes_and_only_forward() {
        let mut ahead = Ahead::default();
        let mut plan = |at: BlockHandle, data_end| {
            let bytes = ahead.plan(at, data_end);
            ahead.end = at.end();
            bytes >> 10
        };
        let far = 1 << 40;
        let lengths: Vec<_> = (0..7).map(|n| plan(block(4096 * n, 4096), far)).collect();
        assert_eq!(lengths, [0, 8, 16, 32, 64, 64, 64]);
        assert_eq!(plan(block(0, 4096), far), 0, "a jump begins anew");
        assert_eq!(plan(block(4096, 4096), far), 8);
        assert_eq!(plan(block(8192, 4096), 8192 + 5 * 1024), 5, "up to the end of the data blocks");
        assert_eq!(plan(block(12288, 100 << 10), far), 0, "a long block is read alone");
    }

    #[test]
    fn a_block_that_was_cut_is_not_there() {
        let ahead = Ahead { at: 100, bytes: vec![0; 50], ..Ahead::default() };
        assert_eq!(ahead.place(block(100, 50)), Some(0..50));
        assert_eq!(ahead.place(block(140, 10)), Some(40..50));
        for at in [block(99, 10), block(140, 11), block(150, 1), block(u64::MAX, 1)] {
            assert_eq!(ahead.place(at), None);
        }
    }
}
