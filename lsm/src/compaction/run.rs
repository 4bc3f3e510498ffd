//! Doing a compaction, or a part of one.

use std::path::Path;
use std::sync::Arc;

use kv_vfs::Vfs;

use super::horizon::Horizon;
use super::outputs::{Grandparent, Grandparents, Made, Outputs};
use super::range::RangeSet;
use super::retain::Retain;
use crate::cursor::Cursor;
use crate::key::{Seq, Slot, ValuePointer};
use crate::merge::MergeCursor;
use crate::table::{LevelCursor, TableError, TableIdentity, TableOptions, TableReader};

/// Says of a key whether nothing older of it is outside the merge.
type Bottommost = Box<dyn Fn(&[u8]) -> bool + Send>;

/// Gives each output its number.
pub type Numbers = Box<dyn FnMut() -> TableIdentity + Send>;

/// Says where a value is now.
pub type Resolve = Box<dyn Fn(&ValuePointer) -> ValuePointer + Send>;

/// Tables to merge, and how.
#[derive(Clone, Debug)]
pub struct Job {
    /// The tables. Invariant: with a table, all that hold older versions of its keys and are not deeper
    /// than the output, unless they are in `older`.
    pub inputs: Vec<Arc<TableReader>>,
    /// The first key of this part of the merge; `None`: from the start.
    pub from: Option<Vec<u8>>,
    /// The key that the next part begins with; `None`: to the end. All versions of a key are in one part.
    pub to: Option<Vec<u8>>,
    /// Who may still read what is merged.
    pub horizon: Horizon,
    /// Keys that older versions may exist of outside the inputs, so that their tombstones stay.
    pub older: RangeSet,
    /// Length at which a new table ends, in bytes; never within the versions of one key.
    pub table_bytes: u64,
    /// Tables of the level below the outputs, by key.
    pub grandparents: Vec<Grandparent>,
    /// Bytes of them that an output may overlap.
    pub grandparent_bytes_max: u64,
    /// Why, for people.
    pub cause: String,
}

/// A merge that is under way. Holds one block of each input that is not behind another one in the same level,
/// and one output: memory does not grow with the length of the inputs.
///
/// Dropped before its end, it removes what it wrote.
pub struct Merge {
    cursor: MergeCursor,
    retain: Retain<Bottommost>,
    resolve: Resolve,
    to: Option<Vec<u8>>,
    outputs: Outputs,
}

impl Merge {
    /// Begins to merge the tables of `job` into new ones in `dir`, numbered by `next`, with pointers to where
    /// `resolve` says that the values are.
    ///
    /// # Errors
    /// Damage in an input; a failed read.
    pub fn start(
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        job: Job,
        options: &TableOptions,
        next: Numbers,
        resolve: Resolve,
    ) -> Result<Self, TableError> {
        let Job { inputs, from, to, horizon, older, table_bytes, grandparents, cause, .. } = job;
        let mut cursor = MergeCursor::new(sources(&inputs));
        match from {
            Some(from) => cursor.seek(&from, Seq::MAX)?,
            None => cursor.seek_first()?,
        }
        let bytes_max = job.grandparent_bytes_max;
        let outputs = Outputs {
            vfs: vfs.clone(),
            dir: dir.to_path_buf(),
            options: options.clone(),
            next,
            cause,
            table_bytes,
            grandparents: Grandparents { tables: grandparents, bytes_max, next: 0, reached: 0 },
            last_key: Vec::new(),
            open: None,
            made: Outputs::none(vfs, dir),
        };
        let bottommost: Bottommost = Box::new(move |key: &[u8]| !older.contains(key));
        Ok(Self { cursor, retain: Retain::new(horizon, bottommost), resolve, to, outputs })
    }

    /// Merges so many versions more; says whether there are others behind them.
    ///
    /// # Errors
    /// Damage in an input; what a write can fail with. The merge is then good for being dropped only.
    pub fn advance(&mut self, versions: u64) -> Result<bool, TableError> {
        for _ in 0..versions {
            if !self.cursor.valid() || self.to.as_ref().is_some_and(|to| self.cursor.key() >= &**to) {
                return Ok(false);
            }
            let (key, seq, slot) = (self.cursor.key(), self.cursor.seq(), self.cursor.slot());
            if let Some(slot) = self.retain.keep(key, seq, &slot) {
                let slot = match slot {
                    Slot::Pointer(pointer, expires) => &Slot::Pointer((self.resolve)(pointer), *expires),
                    other => other,
                };
                self.outputs.add(key, seq, slot)?;
            }
            self.cursor.next()?;
        }
        Ok(true)
    }

    /// Ends the last table. The caller syncs the directory, then tells the manifest. No table comes out where
    /// nothing survives.
    ///
    /// # Errors
    /// What a write can fail with; nothing is left then.
    pub fn finish(mut self) -> Result<Made, TableError> {
        self.outputs.end_table()?;
        Ok(self.outputs.into_made())
    }
}

impl std::fmt::Debug for Merge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merge").field("cursor", &self.cursor).field("to", &self.to).finish_non_exhaustive()
    }
}

/// As few cursors as there can be: tables that do not overlap are walked one after the other.
fn sources(inputs: &[Arc<TableReader>]) -> Vec<Box<dyn Cursor + Send>> {
    let mut sorted = inputs.to_vec();
    sorted.sort_by(|a, b| a.properties().smallest.cmp(&b.properties().smallest));
    let mut chains: Vec<Vec<Arc<TableReader>>> = Vec::new();
    for table in sorted {
        let follows = |chain: &&mut Vec<Arc<TableReader>>| {
            chain.last().is_some_and(|last| last.properties().largest < table.properties().smallest)
        };
        match chains.iter_mut().find(follows) {
            Some(chain) => chain.push(table),
            None => chains.push(vec![table]),
        }
    }
    chains.into_iter().map(|chain| Box::new(LevelCursor::new(chain)) as Box<dyn Cursor + Send>).collect()
}
