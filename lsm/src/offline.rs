//! Checking a data directory as it lies there: nothing is opened for writing, nothing is changed.
//!
//! [`check`] reads everything and collects what is wrong, instead of stopping at the first problem: the
//! manifest and the directory, then each table, then each segment with the pointers into it, then what the
//! log and the tables come to together.
//!
//! Memory is bounded by: index and filter of every table, as in a running store; what recovery would read
//! of the log into a memtable; four million offsets (16 MiB) of pointers and the references of one table;
//! 16 bytes for each entry of one segment; one value, one group of the log; 10,000 problems.

mod contents;
pub(crate) mod manifest;
mod pointers;
mod report;
mod segments;
mod tables;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_manifest::{Manifest, State, cross_check};
use kv_vfs::{ManualClock, Vfs};
use kv_vlog::SegmentInput;

pub(crate) use contents::ContentHash;
pub(crate) use report::problem_of;
pub use report::{CheckReport, Problem};

use crate::error::StoreError;
use crate::gc::{Candidate, Priority, files};
use crate::options::Options;
use crate::store::{self, GcReport};
use crate::table::TableIdentity;
use report::file_name;

/// How far a check is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read and checked so far.
    pub done_bytes: u64,
    /// Bytes to read in all; estimated.
    pub total_bytes: u64,
}

/// Checks everything in a data directory. Takes no lock: beside a node that writes into the directory it
/// finds problems that are none.
///
/// ```
/// # use std::sync::Arc;
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let db = kv_lsm::Db::open(dir, kv_lsm::Options::default())?;
/// db.put(b"key", "value")?;
/// db.close()?;
/// let vfs: Arc<dyn kv_vfs::Vfs> = Arc::new(kv_vfs::RealVfs);
/// let report = kv_lsm::offline::check(&vfs, dir, &|_| {})?;
/// assert!(report.problems.is_empty());
/// assert_eq!((report.keys, report.value_bytes), (1, 5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The directory holds no data, was written by a newer program, or may not be read. Damage is no error
/// here, but a [`Problem`] of the report.
pub fn check(vfs: &Arc<dyn Vfs>, dir: &Path, progress: &dyn Fn(Progress)) -> Result<CheckReport, StoreError> {
    let mut check = Check {
        vfs: vfs.clone(),
        dir: dir.into(),
        progress,
        at: Progress::default(),
        suspect: BTreeSet::new(),
        report: CheckReport::default(),
    };
    // Reading asks for no time.
    match Manifest::open(vfs.clone(), Arc::new(ManualClock::default()), dir) {
        Ok(manifest) => check.everything(&manifest)?,
        Err(error) => {
            check.found("CURRENT", error.into())?;
        }
    }
    check.report.finish();
    Ok(check.report)
}

/// What value GC would do in a data directory that is not open: as a store with these options says of itself, only
/// that nobody has watched how long files have been complete.
///
/// # Errors
/// The room on the file system cannot be asked for.
pub fn gc_report(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    state: &State,
    options: &Options,
    at_least: Priority,
) -> Result<GcReport, StoreError> {
    let candidate = |usage| Candidate { usage, age: None, obstacle: None };
    let candidates = files(state).into_iter().map(candidate).collect();
    Ok(GcReport::of(candidates, options, vfs.space(dir)?, at_least))
}

/// What the header of a segment must say, where it is, and what the manifest knows of it: for tools.
#[must_use]
pub fn segment_input(dir: &Path, state: &State, segment: &kv_manifest::SegmentState) -> SegmentInput {
    store::segment_input(dir, state, segment)
}

/// What the footer of a table must say: for tools.
#[must_use]
pub fn table_identity(state: &State, table_id: u64) -> TableIdentity {
    TableIdentity {
        cluster_id: state.identity.cluster_id,
        incarnation: state.identity.incarnation,
        group_id: state.identity.group_id,
        table_id,
    }
}

/// A check under way.
struct Check<'a> {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    progress: &'a dyn Fn(Progress),
    at: Progress,
    /// Files that the directory does not hold as the manifest says: there is no point in opening them.
    suspect: BTreeSet<String>,
    report: CheckReport,
}

impl Check<'_> {
    fn everything(&mut self, manifest: &Manifest) -> Result<(), StoreError> {
        let state = manifest.state();
        if let Some(torn) = manifest.torn_tail() {
            let (file, offset, why) = (file_name(&torn.file), torn.offset, &torn.why);
            self.report.note(format!(
                "{file}: from offset {offset} on, a change-set that was never acknowledged is left out: {why}"
            ));
        }
        self.directory(manifest)?;
        self.at.total_bytes = total_bytes(state);
        let readers = self.tables(state)?;
        let tables_whole = readers.len() == state.tables.len();
        self.segments(state, readers)?;
        if tables_whole && self.suspect.is_empty() {
            self.contents(manifest)?;
        } else {
            self.report
                .note("keys and values were not read as a whole, because files are damaged or missing");
        }
        if self.report.problems.is_empty() { Ok(()) } else { self.manifest_against_files(manifest) }
    }

    fn directory(&mut self, manifest: &Manifest) -> Result<(), StoreError> {
        let found = cross_check(&*self.vfs, &self.dir, manifest.state())?;
        for orphan in found.orphans {
            if let Some(number) = store::later_change_set(&*self.vfs, &self.dir, manifest.state(), &orphan)? {
                let last = manifest.state().number;
                let why = format!(
                    "change-sets are missing: {last} is the last one here, but {orphan} was written after \
                     {number} was durable"
                );
                self.of_manifest(manifest, why);
            }
            self.report.note(format!("{orphan}: not in the manifest; the next start removes it"));
        }
        for foreign in found.foreign {
            self.report.note(format!("{foreign}: no file of this program"));
        }
        for problem in found.problems {
            self.suspect.insert(problem.file.clone());
            self.report.problem(Problem { file: problem.file, offset: None, why: problem.why });
        }
        Ok(())
    }

    /// Takes note of damage in `file`; gives any other error back.
    fn found(&mut self, file: &str, error: StoreError) -> Result<(), StoreError> {
        let problem = problem_of(file, error)?;
        self.report.problem(problem);
        Ok(())
    }

    fn advance(&mut self, bytes: u64) {
        self.at.done_bytes += bytes;
        self.at.total_bytes = self.at.total_bytes.max(self.at.done_bytes);
        (self.progress)(self.at);
    }
}

fn total_bytes(state: &State) -> u64 {
    let tables = state.tables.values().map(|table| table.bytes);
    let values = state.tables.values().flat_map(|table| &table.refs).map(|refs| refs.bytes);
    let segments = state.segments.values().filter_map(|segment| segment.sealed.as_ref()).map(|info| info.end);
    tables.chain(values).chain(segments).fold(0, u64::saturating_add)
}
