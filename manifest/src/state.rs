//! The state that change-sets fold to, and why one may be refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::edit::{ChangeSet, Identity, LogPosition, SealedInfo, TableMeta, TimeStep};
use crate::fold::Fold;
use crate::index::Index;

/// What a segment is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SegmentKind {
    /// A part of the log; recovery may have to read it.
    #[default]
    Log,
    /// Values alone, which only tables lead to. Invariant: sealed, and without log entries.
    Values,
}

/// One logical segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentState {
    /// The logical segment, which pointers name.
    pub segment: u64,
    /// What it is for.
    pub kind: SegmentKind,
    /// The file that holds it now.
    pub file: u64,
    /// How often the space of the file it was opened in was used before.
    pub generation: u32,
    /// The open of the directory that wrote it. Invariant: at most [`State::epoch`].
    pub epoch: u64,
    /// What it holds, once nothing is appended to it. Speaks of the file it was sealed in, also when it
    /// was remapped since.
    pub sealed: Option<SealedInfo>,
    /// Whether its values lie in the file of another segment, one of values, where value GC has moved them.
    /// Invariant: only such segments share a file, and its owner is there as long as one of them is.
    pub remapped: bool,
}

/// What exists: the result of folding change-sets in order.
///
/// Change it through [`State::apply`] only, which also keeps the indexes behind it.
///
/// Invariants, held by `apply` refusing what would break them:
/// 1. No two tables of one level overlap, level 0 excepted.
/// 2. Every table points to known segments only; so no segment goes that a table still points to.
/// 3. Every file number in use is below `next_file`, and belongs to one table, or to one segment, its owner.
///    In the file of a segment of values may be the values of others, which were remapped to it.
/// 4. `replay_from` is a known segment of the log in its own file; `purge_floor` is not above `flushed`. Neither they, `flushed`,
///    `next_file` nor `epoch` ever go back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whose data this is.
    pub identity: Identity,
    /// The tables, by id.
    pub tables: BTreeMap<u64, TableMeta>,
    /// The segments, by logical id.
    pub segments: BTreeMap<u64, SegmentState>,
    /// The last log entry that is in tables.
    pub flushed: Option<LogPosition>,
    /// The membership in force at `flushed`; opaque.
    pub membership: Vec<u8>,
    /// The segment that recovery scans from.
    pub replay_from: Option<u64>,
    /// The Raft log is kept only behind this entry.
    pub purge_floor: Option<LogPosition>,
    /// File numbers below it are used up.
    pub next_file: u64,
    /// How often this directory was opened for writing.
    pub epoch: u64,
    /// How the log time went on, ascending by both. Invariant: of the steps at or before the oldest state that can be
    /// read, the last one alone.
    pub times: Arc<Vec<TimeStep>>,
    /// States as of this entry and later ones can be read; `None`: only the newest one. Never goes back.
    pub history_floor: Option<u64>,
    /// Number of the last change-set; 0 before the first.
    pub number: u64,
    pub(crate) index: Index,
}

impl State {
    /// Applies a change-set as a whole, or refuses it and stays as it was.
    ///
    /// # Errors
    /// [`InvalidEdit`]: the first rule that the change-set breaks.
    pub fn apply(&mut self, set: &ChangeSet) -> Result<(), InvalidEdit> {
        Fold::run(self, set).map(drop)
    }

    /// How many tables point to the segment.
    #[must_use]
    pub fn tables_pointing_to(&self, segment: u64) -> u64 {
        self.index.pointing(segment)
    }

    /// The segments that have their values in a file, its owner among them; ascending.
    pub fn segments_in(&self, file: u64) -> impl Iterator<Item = &SegmentState> {
        self.index.residents(file).filter_map(|segment| self.segments.get(&segment))
    }

    /// The segment that a file was made for: what its header says.
    #[must_use]
    pub fn owner_of(&self, file: u64) -> Option<&SegmentState> {
        self.segments_in(file).find(|segment| !segment.remapped)
    }

    /// Puts a table in or takes it out, and says what was there.
    pub(crate) fn put_table(&mut self, id: u64, table: Option<TableMeta>) -> Option<TableMeta> {
        if let Some(table) = &table {
            self.index.add_table(table);
        }
        let before = match table {
            Some(table) => self.tables.insert(id, table),
            None => self.tables.remove(&id),
        };
        if let Some(before) = &before {
            self.index.remove_table(before, self.tables.get(&id));
        }
        before
    }

    /// Puts a segment in or takes it out, and says what was there.
    pub(crate) fn put_segment(&mut self, id: u64, segment: Option<SegmentState>) -> Option<SegmentState> {
        if let Some(segment) = &segment {
            self.index.add_resident(segment.file, id);
        }
        let before = match segment {
            Some(segment) => self.segments.insert(id, segment),
            None => self.segments.remove(&id),
        };
        if let Some(before) = &before {
            let is_still_there = self.segments.get(&id).is_some_and(|now| now.file == before.file);
            self.index.remove_resident(before.file, id, is_still_there);
        }
        before
    }
}

/// The rule that a change-set breaks. Nothing of such a change-set is applied or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants and their fields mean")]
pub enum InvalidEdit {
    #[error("change-set {got} where {expected} is next")]
    Number { expected: u64, got: u64 },
    #[error("the first change-set does not begin with an identity")]
    NoIdentity,
    #[error("the identity is given a second time")]
    SecondIdentity,
    #[error("table {id} is added, but known already")]
    KnownTable { id: u64 },
    #[error("table {id} is removed or moved, but unknown")]
    UnknownTable { id: u64 },
    #[error("table {id} makes no sense: {why}")]
    Table { id: u64, why: &'static str },
    #[error("tables {left} and {right} of level {level} overlap")]
    Overlap { level: u8, left: u64, right: u64 },
    #[error("table {table} points to segment {segment}, which is unknown")]
    PointsNowhere { table: u64, segment: u64 },
    #[error("segment {segment} is opened, but known already")]
    KnownSegment { segment: u64 },
    #[error("segment {segment} is sealed, remapped, dropped or replayed from, but unknown")]
    UnknownSegment { segment: u64 },
    #[error("segment {segment} is replayed from, but holds no log")]
    ReplayOfValues { segment: u64 },
    #[error("segment {segment} is replayed from, but its values were moved to file {file}")]
    ReplayOfRemapped { segment: u64, file: u64 },
    #[error("the values of segment {segment} are in file {file}, which belongs to no segment of values")]
    NoOwner { segment: u64, file: u64 },
    #[error("segment {segment} is sealed a second time")]
    SealedSegment { segment: u64 },
    #[error("segment {segment} is remapped or dropped, but not sealed")]
    OpenSegment { segment: u64 },
    #[error("segment {segment} makes no sense: {why}")]
    Segment { segment: u64, why: &'static str },
    #[error("segment {segment} was opened in epoch {epoch}, but the last one recorded is {last}")]
    EpochAhead { segment: u64, epoch: u64, last: u64 },
    #[error("segment {segment} is dropped while {tables} tables point to it")]
    PointedTo { segment: u64, tables: u64 },
    #[error("file number {file} is used, but not below the next free one, {next_file}")]
    FileNotTaken { file: u64, next_file: u64 },
    #[error("file number {file} is used a second time")]
    FileInUse { file: u64 },
    #[error("{what} goes back from {from} to {to}")]
    Backwards { what: &'static str, from: u64, to: u64 },
    #[error("the log is purged up to {floor}, but only what is up to {flushed} is in tables")]
    PurgeAboveFlushed { floor: u64, flushed: u64 },
    #[error("the change-set takes {bytes} bytes, more than {limit}")]
    TooLarge { bytes: usize, limit: usize },
}
