//! Taking fields off the front of bytes that came from a disk.

use kv_vfs::varint;

/// What is not read yet. Every method returns `None` where the field is not there or not as written.
pub(super) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    pub(super) fn u64_le(&mut self) -> Option<u64> {
        let (first, rest) = self.rest.split_first_chunk::<8>()?;
        self.rest = rest;
        Some(u64::from_le_bytes(*first))
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let (number, rest) = varint::get(self.rest)?;
        self.rest = rest;
        Some(number)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    /// A number that is an index or length in memory.
    pub(super) fn size(&mut self) -> Option<usize> {
        self.number()?.try_into().ok()
    }

    /// How many items of at least `item_bytes` follow; `None` where there is no room for them, so that
    /// memory for the items is bounded by the bytes that are there.
    pub(super) fn count(&mut self, item_bytes: usize) -> Option<usize> {
        self.size().filter(|count| *count <= self.rest.len() / item_bytes)
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    /// Bytes with their length before them.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.size()?;
        self.take(len)
    }

    /// `Some` where everything is read.
    pub(super) fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}
