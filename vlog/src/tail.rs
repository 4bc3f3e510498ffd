//! The tail cache: the newest entries with their values, bounded in bytes.
//!
//! Entries that are not yet written can be read only from here, so they stay whatever the bound says;
//! how many those are is bounded by who appends.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::record::op_bytes;
use crate::types::{Entry, Op, OpValue, Payload, Pointer, seq_of};
use crate::value::StoredValue;

/// An entry and where it lies.
#[derive(Debug)]
pub(crate) struct Cached {
    pub entry: Entry,
    pub segment: u64,
    /// Offset of its record in the segment.
    pub offset: u32,
    /// Length of its record.
    pub bytes: u32,
}

impl Cached {
    /// Offset of each operation in the segment.
    fn op_offsets(&self) -> impl Iterator<Item = (u32, &Op)> {
        let mut at = self.offset + crate::format::RECORD_HEADER_BYTES;
        self.entry.payload.ops().iter().map(move |op| {
            let offset = at;
            at += op_bytes(op) as u32;
            (offset, op)
        })
    }

    /// The entry as applying it wants it: values of `inline_below` bytes and more as pointers.
    pub(crate) fn pointers(&self, inline_below: u64) -> Entry {
        let Payload::Ops(_) = self.entry.payload else { return self.entry.clone() };
        let ops = self.op_offsets().map(|(offset, op)| pointer_view(op, self.segment, offset, inline_below));
        Entry { at: self.entry.at, time: self.entry.time, payload: Payload::Ops(ops.collect()) }
    }

    /// The operation whose record the pointer names, and its sequence number.
    fn op_at(&self, pointer: Pointer) -> Option<(u64, &Op)> {
        let named =
            |(offset, op): (u32, &Op)| offset == pointer.offset && op_bytes(op) == u64::from(pointer.length);
        let ops = (0u16..).zip(self.op_offsets());
        let (number, (_, op)) = ops.into_iter().find(|(_, placed)| named(*placed))?;
        Some((seq_of(self.entry.at.index, number), op))
    }
}

/// An entry that was appended, as applying it wants it: large values as pointers.
#[derive(Debug)]
pub struct Appended {
    cached: Arc<Cached>,
    /// Where it differs from what was appended.
    seen: Option<Entry>,
}

impl Appended {
    pub(crate) fn new(cached: Arc<Cached>, inline_below: u64) -> Self {
        let ops = cached.entry.payload.ops();
        let seen = ops.iter().any(|op| is_large(op, inline_below)).then(|| cached.pointers(inline_below));
        Self { cached, seen }
    }
}

impl std::ops::Deref for Appended {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        self.seen.as_ref().unwrap_or(&self.cached.entry)
    }
}

fn is_large(op: &Op, inline_below: u64) -> bool {
    matches!(op, Op::Put { value: OpValue::Full(value), .. } if value.value_bytes >= inline_below)
}

/// An operation with its value replaced by a pointer, if it is large.
pub(crate) fn pointer_view(op: &Op, segment: u64, offset: u32, inline_below: u64) -> Op {
    match op {
        Op::Put { key, value: OpValue::Full(value) } if is_large(op, inline_below) => {
            let pointer = Pointer { segment, offset, length: op_bytes(op) as u32 };
            let StoredValue { value_bytes, expires, .. } = *value;
            Op::Put { key: key.clone(), value: OpValue::At { pointer, value_bytes, expires } }
        }
        other => other.clone(),
    }
}

/// See the module. Invariant: the entries are consecutive and the last is the log's last.
#[derive(Debug)]
pub(crate) struct TailCache {
    entries: VecDeque<Arc<Cached>>,
    bytes: usize,
    bytes_max: usize,
}

impl TailCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, bytes_max }
    }

    pub(crate) fn push(&mut self, cached: Arc<Cached>) {
        if self.entries.back().is_some_and(|back| back.entry.at.index + 1 != cached.entry.at.index) {
            // The purge floor jumped ahead: what is here lies below it.
            self.entries.clear();
            self.bytes = 0;
        }
        self.bytes += cached.bytes as usize;
        self.entries.push_back(cached);
    }

    /// Lets go of the oldest entries below `written_next` while there are more bytes than allowed.
    pub(crate) fn shrink(&mut self, written_next: u64) {
        while self.bytes > self.bytes_max {
            match self.entries.front() {
                Some(front) if front.entry.at.index < written_next => self.pop_front(),
                _ => return,
            }
        }
    }

    fn pop_front(&mut self) {
        if let Some(gone) = self.entries.pop_front() {
            self.bytes -= gone.bytes as usize;
        }
    }

    /// Drops entries from `next` on.
    pub(crate) fn truncate(&mut self, next: u64) {
        while self.entries.back().is_some_and(|back| back.entry.at.index >= next) {
            if let Some(gone) = self.entries.pop_back() {
                self.bytes -= gone.bytes as usize;
            }
        }
    }

    pub(crate) fn get(&self, index: u64) -> Option<&Arc<Cached>> {
        let first = self.entries.front()?.entry.at.index;
        self.entries.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    /// The operation whose record the pointer names, and its sequence number; positions grow with the index.
    pub(crate) fn find(&self, pointer: Pointer) -> Option<(u64, Op)> {
        let target = (pointer.segment, pointer.offset);
        let after = self.entries.partition_point(|cached| (cached.segment, cached.offset) <= target);
        let (seq, op) = self.entries.get(after.checked_sub(1)?)?.op_at(pointer)?;
        Some((seq, op.clone()))
    }
}
