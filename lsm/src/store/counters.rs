//! What was asked of the store since it was opened, and what it took.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kv_vlog::{Entry, Op, OpValue};

use crate::table::data_blocks_read_here;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Keys and values of operations that were applied, before compression.
    pub user_bytes: AtomicU64,
    pub gets: AtomicU64,
    /// Data blocks read for them.
    pub get_blocks: AtomicU64,
    pub flushes: AtomicU64,
    pub is_flushing: AtomicBool,
}

/// Gets under way on this thread; counted when they end.
pub(crate) struct Gets<'a> {
    counters: &'a Counters,
    keys: u64,
    blocks_before: u64,
}

impl Counters {
    /// Takes note of an entry that is applied.
    pub(crate) fn wrote(&self, entry: &Entry) {
        let bytes = entry.payload.ops().iter().map(user_bytes).sum();
        self.user_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts the reads of so many keys, and the blocks that this thread reads until the result is dropped.
    pub(crate) fn gets(&self, keys: u64) -> Gets<'_> {
        Gets { counters: self, keys, blocks_before: data_blocks_read_here() }
    }
}

impl Drop for Gets<'_> {
    fn drop(&mut self) {
        let blocks = data_blocks_read_here() - self.blocks_before;
        self.counters.gets.fetch_add(self.keys, Ordering::Relaxed);
        self.counters.get_blocks.fetch_add(blocks, Ordering::Relaxed);
    }
}

fn user_bytes(op: &Op) -> u64 {
    let value = match op {
        Op::Put { value: OpValue::At { value_bytes, .. }, .. } => *value_bytes,
        Op::Put { value: OpValue::Full(value), .. } => value.value_bytes,
        Op::Delete { .. } => 0,
        Op::Check { .. } => return 0,
    };
    op.key().len() as u64 + value
}
