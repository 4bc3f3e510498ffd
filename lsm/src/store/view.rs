//! What reads see: the memtables and the tables at one moment, replaced as a whole.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_manifest::TableMeta;
use kv_vlog::Position;

use super::pins::Pin;
use crate::error::StoreError;
use crate::key::{Seq, Slot};
use crate::memtable::Memtable;
use crate::table::TableReader;

pub(crate) use crate::compaction::LEVELS;

/// A table of the current or an earlier version; its file goes when the last user of its reader does.
#[derive(Debug)]
pub(crate) struct Table {
    pub meta: TableMeta,
    pub reader: Arc<TableReader>,
    /// Its tombstones are not older than this, by the monotonic clock; `None`: nobody knows.
    pub since: Option<Duration>,
}

impl Table {
    pub(crate) fn new(meta: TableMeta, reader: Arc<TableReader>, since: Option<Duration>) -> Self {
        Self { meta, reader, since }
    }

    /// The same file in another level.
    pub(crate) fn at_level(&self, level: u8) -> Self {
        let meta = TableMeta { level, ..self.meta.clone() };
        Self { meta, reader: self.reader.clone(), since: self.since }
    }

    /// Has the file removed once nobody reads it. Call only after the manifest has durably dropped it.
    pub(crate) fn retire(&self) {
        self.reader.retire();
    }
}

/// The tables at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    /// Level 0: newest first. Deeper levels: by key, disjoint.
    pub levels: [Vec<Arc<Table>>; LEVELS],
}

impl Tables {
    /// Adds a table where it belongs.
    pub(crate) fn add(&mut self, table: Arc<Table>) {
        let level = usize::from(table.meta.level);
        let Some(tables) = self.levels.get_mut(level) else { return };
        tables.push(table);
        if level == 0 {
            tables.sort_by_key(|t| std::cmp::Reverse((t.meta.seq_max, t.meta.id)));
        } else {
            tables.sort_by(|a, b| a.meta.smallest.cmp(&b.meta.smallest));
        }
    }

    /// Takes tables out.
    pub(crate) fn remove(&mut self, ids: &[u64]) -> Vec<Arc<Table>> {
        let mut removed = Vec::new();
        for level in &mut self.levels {
            level.retain(|table| {
                let goes = ids.contains(&table.meta.id);
                if goes {
                    removed.push(table.clone());
                }
                !goes
            });
        }
        removed
    }

    /// All tables.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.levels.iter().flatten()
    }

    fn get(&self, key: &[u8], seq: Seq) -> Result<Option<(Seq, Slot)>, StoreError> {
        let [level0, deeper @ ..] = &self.levels;
        let holds = |table: &&Arc<Table>| *table.meta.smallest <= *key && key <= &*table.meta.largest;
        // Level 0 tables hold disjoint ranges of sequence numbers, newest first.
        for table in level0.iter().filter(holds) {
            if let Some(found) = table.reader.get(key, seq)? {
                return Ok(Some(found));
            }
        }
        for level in deeper {
            let at = level.partition_point(|table| &*table.meta.largest < key);
            if let Some(table) = level.get(at).filter(holds)
                && let Some(found) = table.reader.get(key, seq)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// A memtable that takes no more writes and waits for its flush.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub memtable: Arc<Memtable>,
    /// The last entry applied to it.
    pub last: Position,
    /// The membership as of that entry.
    pub membership: Option<(Position, Bytes)>,
    /// When it began to be filled, by the monotonic clock; `None`: before that clock.
    pub since: Option<Duration>,
    /// Bytes of log that were applied to it.
    pub log_bytes: u64,
}

/// Everything a read looks at.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub active: Arc<Memtable>,
    /// Oldest first.
    pub frozen: Vec<Arc<Frozen>>,
    pub tables: Arc<Tables>,
    /// Keeps the segments that the others lead to.
    pub pin: Pin,
    /// Whether anything in the tables or the frozen memtables goes away by itself.
    pub expires: bool,
}

impl View {
    /// Looks whether anything goes away by itself, once the tables are others.
    pub(crate) fn note_expiring(&mut self) {
        let in_table = |table: &Arc<Table>| table.reader.properties().expiries.count > 0;
        self.expires =
            self.frozen.iter().any(|frozen| frozen.memtable.expires()) || self.tables.iter().any(in_table);
    }

    /// Whether time changes what reads find.
    pub(crate) fn may_expire(&self) -> bool {
        self.expires || self.active.expires()
    }

    /// The newest version of a key that is not newer than `seq`.
    pub(crate) fn get(&self, key: &[u8], seq: Seq) -> Result<Option<(Seq, Slot)>, StoreError> {
        if let Some(found) = self.active.get(key, seq) {
            return Ok(Some(found));
        }
        for frozen in self.frozen.iter().rev() {
            if let Some(found) = frozen.memtable.get(key, seq) {
                return Ok(Some(found));
            }
        }
        self.tables.get(key, seq)
    }

    /// Whether a memtable may hold a version of the key, so that reading it does not touch the disk.
    pub(crate) fn in_memory(&self, key: &[u8], seq: Seq) -> bool {
        self.active.get(key, seq).is_some()
            || self.frozen.iter().any(|frozen| frozen.memtable.get(key, seq).is_some())
    }
}
