//! The vocabulary: what a change-set can say, and the values it says it with.
//!
//! Nothing here interprets a table or a segment: ids, bounds and counts are carried, not opened.

use std::collections::BTreeMap;

/// Who a data directory belongs to; the first thing a manifest says. Only the options ever change, with the whole
/// manifest written afresh ([`crate::Manifest::set_options`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The cluster. Stands in every manifest header too, so that a file from elsewhere is noticed.
    pub cluster_id: [u8; 16],
    /// The node within the cluster.
    pub node_id: u64,
    /// Which life of the node this is: a wiped node comes back under another one.
    pub incarnation: u64,
    /// The Raft group the data belongs to; 0 while a node holds one group only.
    pub group_id: u64,
    /// When the directory was made, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// Options that the data depends on (`comparator` = `bytewise`). The caller compares them on open
    /// and refuses a directory made with others; the manifest only keeps them.
    pub options: BTreeMap<String, String>,
}

/// A position in the Raft log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPosition {
    /// Term of the entry.
    pub term: u64,
    /// Index of the entry.
    pub index: u64,
}

/// From this entry of the log on it was this time, until the next step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeStep {
    /// Index of the entry.
    pub index: u64,
    /// Log time in seconds since 1970.
    pub time: u32,
}

/// What one table points to in one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentRef {
    /// The logical segment.
    pub segment: u64,
    /// How many values of it the table points to.
    pub count: u64,
    /// Stored bytes of these values.
    pub bytes: u64,
}

/// A table, as far as the manifest cares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableMeta {
    /// The table's id, which is its file number.
    pub id: u64,
    /// Level: 0 overlaps, 1 and deeper do not.
    pub level: u8,
    /// Exact length of the file in bytes.
    pub bytes: u64,
    /// Smallest user key in it. Invariant: `smallest <= largest`.
    pub smallest: Vec<u8>,
    /// Largest user key in it (inclusive). Invariant: at level 1 and deeper below the `smallest` of the
    /// next table of the level, so that all versions of one user key are in one table.
    pub largest: Vec<u8>,
    /// Lowest seq in it. Invariant: `seq_min <= seq_max`.
    pub seq_min: u64,
    /// Highest seq in it.
    pub seq_max: u64,
    /// Entries of all kinds. Invariant: at least `tombstones`.
    pub entries: u64,
    /// Entries that delete.
    pub tombstones: u64,
    /// What it points to. Invariant: strictly ascending by segment, and each of them exists.
    pub refs: Vec<SegmentRef>,
}

/// What is known of a segment once nothing is appended to it any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SealedInfo {
    /// Bytes of the file that count; what stands behind them is no part of the segment.
    pub end: u64,
    /// Index of the first log entry in it. Invariant: present exactly when `last_index` is, and not above it.
    pub first_index: Option<u64>,
    /// Index of the last log entry in it.
    pub last_index: Option<u64>,
    /// The first entry of each term in this segment. Invariant: strictly ascending by term.
    pub terms: Vec<LogPosition>,
    /// Values stored in it.
    pub values: u64,
    /// Stored bytes of these values.
    pub value_bytes: u64,
    /// Sealed by recovery at a torn tail: the file has no footer.
    pub cut: bool,
}

/// One change to what exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Whose data this is: the first edit of a manifest file, and nowhere else.
    Identity(Identity),
    /// A table is there from now on.
    AddTable(TableMeta),
    /// A table is no longer part of the data; its file may go once nobody reads it.
    RemoveTable {
        /// The table.
        id: u64,
    },
    /// A table is in another level, its file untouched.
    MoveTable {
        /// The table.
        id: u64,
        /// The level it is in from now on.
        level: u8,
    },
    /// A segment exists and may be appended to. Recorded before its first acknowledgement.
    OpenSegment {
        /// The logical segment, which pointers name.
        segment: u64,
        /// The file that holds it.
        file: u64,
        /// How often the file's space was used before: tells stale frames of a recycled file apart.
        generation: u32,
        /// The open of the directory ([`Edit::Epoch`]) that writes it.
        epoch: u64,
    },
    /// Nothing is appended to the segment any more.
    SealSegment {
        /// The segment.
        segment: u64,
        /// What it holds.
        info: SealedInfo,
    },
    /// Value GC: the segment's live values are in another file now, that of a segment of values which the same
    /// change-set adds before. Several segments may be remapped to one file, all of them in that change-set.
    RemapSegment {
        /// The segment, sealed.
        segment: u64,
        /// The file that holds its live values and, in its footer, the table from old offsets to new ones.
        file: u64,
    },
    /// A segment of values alone is there, complete: no log entry is in it, and nothing is appended to it.
    /// Recorded with what leads to its values: the tables that point to it, or the segments remapped to it.
    AddValueSegment {
        /// The logical segment, which pointers name.
        segment: u64,
        /// The file that holds it.
        file: u64,
        /// How often the file's space was used before.
        generation: u32,
        /// The open of the directory ([`Edit::Epoch`]) that wrote it.
        epoch: u64,
        /// Bytes of the file that count.
        end: u64,
        /// Values stored in it.
        values: u64,
        /// Stored bytes of these values.
        value_bytes: u64,
    },
    /// The segment is no longer part of the data; its file may go once nobody reads it.
    DropSegment {
        /// The segment, sealed and pointed to by no table. No other one is left in its file, if it is its own.
        segment: u64,
    },
    /// Everything up to here is in tables.
    Flushed {
        /// The last log entry that is in tables.
        position: LogPosition,
        /// The membership in force at it; opaque here, may be empty.
        membership: Vec<u8>,
    },
    /// Recovery scans from the start of this segment.
    ReplayFrom {
        /// The segment, one of the log.
        segment: u64,
    },
    /// The Raft log is kept only behind this entry.
    PurgeFloor(LogPosition),
    /// File numbers below this one are used up. [`crate::Manifest::append`] adds it by itself for numbers
    /// taken from [`crate::FileNumbers`].
    NextFile(u64),
    /// How often this directory was opened for writing so far.
    Epoch(u64),
    /// The log time went on. Recorded with the [`Edit::Flushed`] that brings the entry into tables.
    LogTime(TimeStep),
    /// States as of this entry and later ones can be read: no table was written without a version that they
    /// need. `None`: only the newest state can.
    HistoryFloor(Option<u64>),
}

/// Edits that become true together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeSet {
    /// Its number: 1 for the first, then one more each.
    pub number: u64,
    /// When it was made, in milliseconds since 1970 by the wall clock; for people only.
    pub unix_ms: u64,
    /// Why it was made (`flush`, `compact L1->L2`, `gc`); for people only.
    pub cause: String,
    /// What changes. They take effect in this order, but are judged as a whole: a compaction may add its
    /// outputs before it removes its inputs.
    pub edits: Vec<Edit>,
}
