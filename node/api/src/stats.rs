//! What a node says of its store. Counters begin when the node is started; sizes are of now.

use serde::{Deserialize, Serialize};

use crate::admin::GcTotals;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Number of the node.
    pub node_id: u64,
    /// The levels of tables, from the newest on.
    pub levels: Vec<Level>,
    /// What is in memory only, beside the log.
    pub memory: Memory,
    /// Files of values.
    pub segments: Segments,
    /// Room on the disk.
    pub disk: Disk,
    /// What was written into the data directory.
    pub written: Written,
    /// What reads of keys took.
    pub reads: Reads,
    /// Blocks of tables in memory, and open tables.
    pub block_cache: BlockCache,
    /// Values in memory.
    pub value_cache: ValueCache,
    /// What writes have waited for background work.
    pub stalls: Stalls,
    /// Memtables written out as tables.
    pub flushes: Flushes,
    /// Compactions of tables.
    pub compactions: Compactions,
    /// Value GC.
    pub gc: GcTotals,
}

/// The tables of one level.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Which one.
    pub level: u64,
    /// How many tables.
    pub tables: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Versions in them.
    pub entries: u64,
    /// Tombstones among these.
    pub tombstones: u64,
    /// Values in segments that they point to.
    pub values: u64,
    /// Bytes of these, as stored.
    pub value_bytes: u64,
}

/// What is in no table yet, and who looks at a moment that is past.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Memory of all memtables, estimated.
    pub memtable_bytes: u64,
    /// Memtables that wait for their flush.
    pub memtables_waiting: u64,
    /// Bytes of log that are in no table yet: a restart reads them again.
    pub unflushed_bytes: u64,
    /// Bytes appended to the log and not yet durable.
    pub waiting_bytes: u64,
    /// Open snapshots of different moments.
    pub snapshots: u64,
}

/// Segments, and files that hold none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segments {
    /// Segments.
    pub count: u64,
    /// Bytes in use in their files.
    pub bytes: u64,
    /// Bytes that tables point to.
    pub live_bytes: u64,
    /// The others: garbage, framing, what is in no table yet.
    pub garbage_bytes: u64,
    /// Files that wait to be written again.
    pub recycled_files: u64,
    /// Bytes of these.
    pub recycled_bytes: u64,
    /// Bytes of files that are given up, but that somebody still reads.
    pub held_bytes: u64,
}

/// Room on the disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    /// What the data directory takes: all its files, those that are kept, and reserved room.
    pub bytes: u64,
    /// What it cannot do without, as far as is known: tables, values they point to, what the log alone holds.
    pub needed_bytes: u64,
    /// How many times as much it takes as it has to.
    pub amplification: Option<f64>,
}

/// Bytes written into the data directory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// Keys and values that users wrote, before compression.
    pub user_bytes: u64,
    /// Files of segments.
    pub segment_bytes: u64,
    /// Value GC's share of these.
    pub gc_bytes: u64,
    /// Tables.
    pub table_bytes: u64,
    /// The manifest, and copies that recovery makes.
    pub other_bytes: u64,
    /// Bytes written for each that users wrote.
    pub amplification: Option<f64>,
}

/// What reads of keys took; of scans nothing is in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reads {
    /// Keys asked for.
    pub gets: u64,
    /// Data blocks of tables read from the disk for them.
    pub blocks: u64,
    /// Values, or parts of values, read from segments for them.
    pub values: u64,
    /// Blocks and values read for each key.
    pub amplification: Option<f64>,
}

/// Blocks of tables in memory, and open tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockCache {
    /// Blocks that were found.
    pub hits: u64,
    /// Blocks that had to be read.
    pub misses: u64,
    /// Bytes in memory.
    pub bytes: u64,
    /// Bytes that may be.
    pub bytes_max: u64,
    /// Data blocks read from the disk, by scans and compactions, too.
    pub blocks_read: u64,
    /// Bytes read from the disk for blocks of all kinds.
    pub bytes_read: u64,
    /// Tables whose file is open.
    pub open_files: u64,
    /// How often a table's file was opened.
    pub files_opened: u64,
}

/// Values in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueCache {
    /// Values that were found.
    pub hits: u64,
    /// Values that had to be read.
    pub misses: u64,
    /// Values in memory.
    pub values: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that may be; 0: there is no such cache.
    pub bytes_max: u64,
}

/// What writes have waited for background work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalls {
    /// Writes held back for a moment.
    pub slowed: u64,
    /// Those of them that were held back for value GC.
    pub slowed_for_space: u64,
    /// Writes that had to wait for a flush or a compaction.
    pub stopped: u64,
    /// All waits together.
    pub micros_sum: u64,
    /// The waits for value GC.
    pub space_micros_sum: u64,
    /// The longest wait.
    pub micros_max: u64,
    /// Waits by length, the shortest first; lengths that did not occur are left out.
    pub waits: Vec<Waits>,
}

/// Waits of about one length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// They were shorter than this, and at least half as long.
    pub below_micros: u64,
    /// How many there were.
    pub count: u64,
}

/// Memtables written out as tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flushes {
    /// How many were.
    pub done: u64,
    /// Whether one is.
    pub running: bool,
}

/// Compactions of tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compactions {
    /// How many run.
    pub running: u64,
    /// Most that ran at one time.
    pub running_max: u64,
    /// Merges that ended.
    pub merges: u64,
    /// Compactions that only moved tables.
    pub moves: u64,
    /// Bytes of tables that merges read.
    pub read_bytes: u64,
    /// Bytes of tables that merges wrote.
    pub written_bytes: u64,
}
