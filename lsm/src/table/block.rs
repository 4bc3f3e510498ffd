//! Data blocks, unpacked: versions in order, each key without what it shares with the one before.
//!
//! Every [`RESTART_INTERVAL`]th entry gives its key in full; where these entries are stands at the end, so
//! that a search need not read the whole block.

use std::ops::Range;

use bytes::Bytes;
use kv_vfs::varint;
use kv_vlog::Expiry;

use super::format::{EXPIRING, INLINE_BYTES_MAX, RESTART_INTERVAL};
use super::input::Input;
use crate::key::{Kind, MAX_KEY, Seq, Slot, ValuePointer, compare};

/// Builds the content of a block.
#[derive(Default)]
pub(super) struct BlockBuilder {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    /// Entries since the last restart point.
    run: usize,
    last_key: Vec<u8>,
}

impl BlockBuilder {
    /// Appends a version that comes after all before.
    pub(super) fn add(&mut self, key: &[u8], seq: Seq, slot: &Slot) {
        if self.restarts.is_empty() || self.run == RESTART_INTERVAL {
            self.restarts.push(self.bytes.len() as u32);
            self.run = 0;
            self.last_key.clear();
        }
        self.run += 1;
        let shared = shared_prefix(&self.last_key, key);
        let suffix = key.get(shared..).unwrap_or_default();
        varint::put(&mut self.bytes, shared as u64);
        varint::put(&mut self.bytes, suffix.len() as u64);
        self.bytes.extend_from_slice(suffix);
        self.bytes.push(stored_kind(slot));
        varint::put(&mut self.bytes, seq);
        if let Some(time) = slot.expires().time() {
            varint::put(&mut self.bytes, u64::from(time));
        }
        match slot {
            Slot::Tombstone => {}
            Slot::Inline(value, _) => varint::put_bytes(&mut self.bytes, value),
            Slot::Pointer(pointer, _) => put_pointer(&mut self.bytes, pointer),
        }
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(suffix);
    }

    /// Whether nothing was added.
    pub(super) fn is_empty(&self) -> bool {
        self.restarts.is_empty()
    }

    /// Length of the content so far, in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + 4 * self.restarts.len() + 4
    }

    /// Completes the content.
    pub(super) fn finish(&mut self) -> &[u8] {
        for restart in &self.restarts {
            self.bytes.extend_from_slice(&restart.to_le_bytes());
        }
        self.bytes.extend_from_slice(&(self.restarts.len() as u32).to_le_bytes());
        &self.bytes
    }

    /// Begins the next block.
    pub(super) fn reset(&mut self) {
        self.bytes.clear();
        self.restarts.clear();
        self.last_key.clear();
        self.run = 0;
    }
}

/// The kind, and whether an expiry follows.
fn stored_kind(slot: &Slot) -> u8 {
    let expires = slot.expires() != Expiry::NEVER;
    slot.kind() as u8 + if expires { EXPIRING } else { 0 }
}

/// The kind and the expiry behind it, which is none of the others.
fn read_kind(input: &mut Input<'_>) -> Option<(Kind, bool)> {
    let byte = input.byte()?;
    let kind = Kind::try_from(byte).or_else(|_| Kind::try_from(byte.wrapping_sub(EXPIRING))).ok()?;
    let expires = kind as u8 != byte;
    (kind != Kind::Tombstone || !expires).then_some((kind, expires))
}

fn put_pointer(out: &mut Vec<u8>, pointer: &ValuePointer) {
    varint::put(out, pointer.segment);
    varint::put(out, u64::from(pointer.offset));
    varint::put(out, u64::from(pointer.length));
    varint::put(out, pointer.value_bytes);
}

/// Length of the longest common prefix.
pub(super) fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// What is wrong in a block whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// Where, in bytes from the start of the unpacked block.
    pub at: usize,
    /// What.
    pub why: &'static str,
}

fn malformed(at: usize, why: &'static str) -> Malformed {
    Malformed { at, why }
}

/// An unpacked block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    bytes: Bytes,
    entries_end: usize,
    restarts: usize,
}

impl Block {
    pub(super) fn parse(bytes: Bytes) -> Result<Self, Malformed> {
        let (rest, count) =
            bytes.split_last_chunk::<4>().ok_or(malformed(0, "block is shorter than its tail"))?;
        let restarts = u32::from_le_bytes(*count) as usize;
        let tail = restarts.checked_mul(4).filter(|tail| *tail <= rest.len());
        let entries_end =
            rest.len() - tail.ok_or(malformed(rest.len(), "more restart points than there is room for"))?;
        let block = Self { entries_end, restarts, bytes };
        if block.restart(0) != Some(0) || entries_end == 0 {
            return Err(malformed(entries_end, "no first entry"));
        }
        Ok(block)
    }

    /// Memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn restart(&self, number: usize) -> Option<usize> {
        let at = self.entries_end + number * 4;
        let bytes = self.bytes.get(at..)?.first_chunk::<4>()?;
        (number < self.restarts).then_some(u32::from_le_bytes(*bytes) as usize)
    }

    fn restart_point(&self, number: usize) -> Result<usize, Malformed> {
        self.restart(number).ok_or(malformed(self.entries_end, "no such restart point"))
    }

    /// The last restart point before this place, which is behind the first one.
    fn restart_below(&self, at: usize) -> Result<usize, Malformed> {
        let (mut low, mut high) = (0, self.restarts);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            if self.restart_point(middle)? < at { low = middle } else { high = middle }
        }
        self.restart_point(low)
    }

    fn entry(&self, at: usize) -> Result<Entry<'_>, Malformed> {
        let bytes = self.bytes.get(at..self.entries_end).unwrap_or_default();
        Entry::read(bytes, at).ok_or(malformed(at, "entry cannot be decoded"))
    }

    /// Where the last restart point is whose version is before `(key, seq)`, or the first one.
    fn restart_before(&self, key: &[u8], seq: Seq) -> Result<usize, Malformed> {
        let (mut low, mut high) = (0, self.restarts);
        let mut from = 0;
        while low < high {
            let middle = low + (high - low) / 2;
            let at = self.restart_point(middle)?;
            let entry = self.entry(at)?;
            if entry.shared != 0 {
                return Err(malformed(at, "key at a restart point is not whole"));
            }
            if compare((entry.suffix, entry.seq), (key, seq)).is_lt() {
                (low, from) = (middle + 1, at);
            } else {
                high = middle;
            }
        }
        Ok(from)
    }
}

/// One entry, as it stands in the block.
struct Entry<'a> {
    shared: usize,
    suffix: &'a [u8],
    seq: Seq,
    value: Value,
    /// Where the next one begins.
    end: usize,
}

#[derive(Clone, Debug)]
enum Value {
    Tombstone,
    /// Where in the block.
    Inline(Range<usize>, Expiry),
    Pointer(ValuePointer, Expiry),
}

impl<'a> Entry<'a> {
    fn read(bytes: &'a [u8], at: usize) -> Option<Self> {
        let position = |input: &Input<'_>| at + bytes.len() - input.remaining();
        let mut input = Input::new(bytes);
        let shared = input.size()?;
        let suffix = input.bytes()?;
        if shared.checked_add(suffix.len())? > MAX_KEY {
            return None;
        }
        let (kind, expires) = read_kind(&mut input)?;
        let seq = input.number()?;
        let expires = if expires { Expiry::at(input.u32().filter(|time| *time > 0)?) } else { Expiry::NEVER };
        let value = match kind {
            Kind::Tombstone => Value::Tombstone,
            Kind::Inline => {
                let value = input.bytes().filter(|value| value.len() <= INLINE_BYTES_MAX)?;
                let end = position(&input);
                Value::Inline(end - value.len()..end, expires)
            }
            Kind::Pointer => {
                let (segment, offset, length) = (input.number()?, input.u32()?, input.u32()?);
                let value_bytes = input.number()?;
                Value::Pointer(ValuePointer { segment, offset, length, value_bytes }, expires)
            }
        };
        Some(Self { shared, suffix, seq, value, end: position(&input) })
    }
}

/// Walks over a block.
#[derive(Debug)]
pub(super) struct BlockCursor {
    block: Block,
    /// Where the entry it stands at begins.
    start: usize,
    /// Where the next entry begins.
    next: usize,
    valid: bool,
    key: Vec<u8>,
    seq: Seq,
    value: Value,
}

impl BlockCursor {
    /// A cursor that stands nowhere.
    pub(super) fn new(block: Block) -> Self {
        Self { block, start: 0, next: 0, valid: false, key: Vec::new(), seq: 0, value: Value::Tombstone }
    }

    pub(super) fn seek_first(&mut self) -> Result<(), Malformed> {
        self.jump(0);
        self.next()
    }

    /// Goes to the first version that is not before `(key, seq)`; nowhere if the block holds none.
    pub(super) fn seek(&mut self, key: &[u8], seq: Seq) -> Result<(), Malformed> {
        let from = self.block.restart_before(key, seq)?;
        self.jump(from);
        loop {
            self.next()?;
            if !self.valid || compare((&self.key, self.seq), (key, seq)).is_ge() {
                return Ok(());
            }
        }
    }

    /// Goes to the last version that is before `(key, seq)`; nowhere if the block holds none.
    pub(super) fn seek_before(&mut self, key: &[u8], seq: Seq) -> Result<(), Malformed> {
        self.seek(key, seq)?;
        if self.valid { self.prev() } else { self.seek_last() }
    }

    pub(super) fn seek_last(&mut self) -> Result<(), Malformed> {
        self.walk_to(self.block.entries_end)
    }

    pub(super) fn prev(&mut self) -> Result<(), Malformed> {
        if self.start == 0 {
            self.valid = false;
            return Ok(());
        }
        self.walk_to(self.start)
    }

    /// Goes to the entry that ends here. Keys are whole only at restart points, so it comes from there.
    fn walk_to(&mut self, end: usize) -> Result<(), Malformed> {
        let from = self.block.restart_below(end)?;
        self.jump(from);
        if from >= end {
            return Err(malformed(from, "restart points are out of order"));
        }
        loop {
            self.next()?;
            if self.next == end {
                return Ok(());
            }
            if !self.valid || self.next > end {
                self.valid = false;
                return Err(malformed(end, "no entry ends where one begins"));
            }
        }
    }

    pub(super) fn valid(&self) -> bool {
        self.valid
    }

    /// Whether no version comes before.
    pub(super) fn is_first(&self) -> bool {
        self.start == 0
    }

    /// Whether no version follows.
    pub(super) fn is_last(&self) -> bool {
        self.next == self.block.entries_end
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(super) fn seq(&self) -> Seq {
        self.seq
    }

    pub(super) fn slot(&self) -> Slot {
        match &self.value {
            Value::Tombstone => Slot::Tombstone,
            Value::Inline(range, expires) => Slot::Inline(self.block.bytes.slice(range.clone()), *expires),
            Value::Pointer(pointer, expires) => Slot::Pointer(*pointer, *expires),
        }
    }

    fn jump(&mut self, to: usize) {
        self.next = to;
        self.valid = false;
        self.key.clear();
    }

    /// Goes to the next version; nowhere if there is none.
    pub(super) fn next(&mut self) -> Result<(), Malformed> {
        let at = self.next;
        let continues = std::mem::replace(&mut self.valid, false);
        if at == self.block.entries_end {
            return Ok(());
        }
        let entry = self.block.entry(at)?;
        let tail = self.key.get(entry.shared..).ok_or(malformed(at, "key shares more than there is"))?;
        // The shared part is equal, so only the tails decide: mostly by their first bytes.
        let order = tail.first().cmp(&entry.suffix.first());
        if continues && order.then_with(|| compare((tail, self.seq), (entry.suffix, entry.seq))).is_ge() {
            return Err(malformed(at, "entry is out of order"));
        }
        self.key.truncate(entry.shared);
        self.key.extend_from_slice(entry.suffix);
        self.seq = entry.seq;
        self.start = at;
        self.next = entry.end;
        self.value = entry.value;
        self.valid = true;
        Ok(())
    }
}
