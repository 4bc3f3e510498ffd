//! Compares the state with what is in the directory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use kv_vfs::Vfs;

use crate::current;
use crate::error::ManifestError;
use crate::names::{self, FileName, segment_name, table_name};
use crate::state::State;

/// A file that is not what the state says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Name of the file.
    pub file: String,
    /// What is wrong with it.
    pub why: String,
}

/// How a directory compares with the state of its manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrossCheck {
    /// Files of ours that the state does not know: tables, segments, old manifests and temporary files
    /// left by a crash between making a file and recording it, or between recording that it goes and
    /// removing it, or while it was removed.
    pub orphans: Vec<String>,
    /// Files that the state knows, and that are missing or of a wrong size.
    pub problems: Vec<Problem>,
    /// Files that held segments and are kept to be written again: number and length in bytes.
    pub free: Vec<(u64, u64)>,
    /// Names that are none of ours; never touched.
    pub foreign: Vec<String>,
}

/// Lists the directory and compares it with the state, which is that of the manifest in use there.
///
/// A segment that is open in the state must have a file: it is made, and its name synced, before the
/// change-set that opens it.
///
/// # Errors
/// `Io`, and those of [`crate::Manifest::open`] for `CURRENT`.
pub fn cross_check(vfs: &dyn Vfs, dir: &Path, state: &State) -> Result<CrossCheck, ManifestError> {
    let manifest = current::load(vfs, dir)?;
    let segment_files: BTreeSet<u64> = state.segments.values().map(|segment| segment.file).collect();
    let mut check = CrossCheck::default();
    let mut lengths = BTreeMap::new();
    for entry in vfs.list(dir)? {
        let parsed = if entry.is_dir { None } else { names::parse(&entry.name) };
        let known = match parsed {
            None => {
                check.foreign.push(entry.name);
                continue;
            }
            Some(FileName::Free(number)) => {
                check.free.push((number, entry.len));
                continue;
            }
            Some(FileName::Table(id)) => state.tables.contains_key(&id),
            Some(FileName::Segment(file)) => segment_files.contains(&file),
            Some(FileName::Manifest(number)) => number == manifest,
            Some(FileName::Current | FileName::Lock) => true,
            Some(FileName::Temporary | FileName::Gone(_)) => false,
        };
        if known {
            lengths.insert(entry.name, entry.len);
        } else {
            check.orphans.push(entry.name);
        }
    }
    check.problems = problems(state, &lengths);
    Ok(check)
}

fn problems(state: &State, lengths: &BTreeMap<String, u64>) -> Vec<Problem> {
    let mut problems = BTreeMap::new();
    for table in state.tables.values() {
        let file = table_name(table.id);
        match lengths.get(&file) {
            None => drop(problems.insert(file, "the table is missing".to_string())),
            Some(len) if *len != table.bytes => {
                let why = format!("the table is {len} bytes long instead of {}", table.bytes);
                problems.insert(file, why);
            }
            Some(_) => {}
        }
    }
    for segment in state.segments.values() {
        let file = segment_name(segment.file);
        let id = segment.segment;
        // The end speaks of the file that the segment was sealed in, not of one it was remapped to.
        let end = segment.sealed.as_ref().filter(|_| !segment.remapped).map_or(0, |info| info.end);
        match lengths.get(&file) {
            None => drop(problems.insert(file, format!("the file of segment {id} is missing"))),
            Some(len) if *len < end => {
                let why = format!("the file of segment {id} is {len} bytes long instead of at least {end}");
                problems.insert(file, why);
            }
            Some(_) => {}
        }
    }
    problems.into_iter().map(|(file, why)| Problem { file, why }).collect()
}

/// Removes the orphans that [`cross_check`] found.
///
/// Safe for every kind of them. A table or an old manifest that the state does not know is not read by
/// anything. A segment may hold what a client was told is durable, but not one that the manifest does not
/// know: a segment is recorded before its first acknowledgement. And a file that the state no longer knows
/// was given up by a durable change-set, which is why the caller first has the manifest
/// [settle](crate::Manifest::settle): one that is lost with the power would want its files back.
///
/// # Errors
/// `Io`; some of the orphans may then be gone.
pub fn remove_orphans(vfs: &dyn Vfs, dir: &Path, check: &CrossCheck) -> Result<(), ManifestError> {
    if check.orphans.is_empty() {
        return Ok(());
    }
    // First: an orphan may be the manifest that CURRENT named until it was replaced, and that it names
    // again after a power loss unless the new CURRENT is durable.
    vfs.sync_dir(dir)?;
    for name in &check.orphans {
        match vfs.remove(&dir.join(name)) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e.into()),
        }
    }
    // So that a number is not found in use again after a power loss.
    vfs.sync_dir(dir)?;
    Ok(())
}
