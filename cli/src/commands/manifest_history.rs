//! `manifest history`, `at` and `rewrite`: how a directory came to be what it is.

use std::path::Path;
use std::sync::Arc;

use kv_manifest::{Edit, Manifest, Reading, Recorded};
use kv_vfs::{RealVfs, SystemClock, Vfs};
use serde_json::json;

use super::{Context, check, manifest};
use crate::args::HistoryFilter;
use crate::exit::{Exit, Failure};
use crate::offline::{Directory, failure};

/// Lists change-sets, oldest first.
///
/// # Errors
/// The directory holds no data, or the manifest cannot be read.
pub fn history(dir: &Path, filter: &HistoryFilter, context: &mut Context) -> Result<Exit, Failure> {
    let reading = Directory::open(dir)?.reading;
    let matching: Vec<&Recorded> = reading.change_sets.iter().filter(|set| passes(set, filter)).collect();
    let skipped = filter.last.map_or(0, |last| matching.len().saturating_sub(last));
    let shown = matching.into_iter().skip(skipped);
    if context.out.is_json() {
        let changes: Vec<_> = shown.map(manifest::change_json).collect();
        context.out.json(&json!({ "file": reading.file, "changes": changes }))?;
    } else {
        shown.flat_map(manifest::change_lines).try_for_each(|line| context.out.line(&line))?;
    }
    Ok(Exit::Ok)
}

fn passes(recorded: &Recorded, filter: &HistoryFilter) -> bool {
    let set = &recorded.change_set;
    let segment = |wanted: &u64| set.edits.iter().any(|edit| segment_of(edit) == Some(*wanted));
    filter.from.is_none_or(|from| set.number >= from)
        && filter.to.is_none_or(|to| set.number <= to)
        && filter.cause.as_ref().is_none_or(|cause| set.cause.contains(cause))
        && filter.segment.as_ref().is_none_or(segment)
}

fn segment_of(edit: &Edit) -> Option<u64> {
    match edit {
        Edit::OpenSegment { segment, .. }
        | Edit::SealSegment { segment, .. }
        | Edit::RemapSegment { segment, .. }
        | Edit::AddValueSegment { segment, .. }
        | Edit::DropSegment { segment } => Some(*segment),
        _ => None,
    }
}

/// Shows what there was after a change-set.
///
/// # Errors
/// As [`history`]; and the manifest does not go back, or on, so far.
pub fn at(dir: &Path, number: u64, context: &mut Context) -> Result<Exit, Failure> {
    let reading = Directory::open(dir)?.reading;
    let state = reading.state_at(number).map_err(|why| Failure::error(why.to_string()))?;
    let Some(state) = state else {
        let first = reading.change_sets.first().map_or(0, |recorded| recorded.change_set.number);
        let (file, last) = (&reading.file, reading.state.number);
        let what = format!("{file} holds change-sets {first} to {last}, not {number}");
        return Err(Failure::new(Exit::NotFound, what));
    };
    manifest::show(&Reading { state, ..reading }, false, context)
}

/// Writes the state down afresh, without its history.
///
/// # Errors
/// The directory holds no data, is in use, or cannot be written.
pub fn rewrite(dir: &Path, context: &mut Context) -> Result<Exit, Failure> {
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let _lock = check::lock(&*vfs, dir, "kvadmin manifest rewrite")?;
    let mut manifest = Manifest::open(vfs, Arc::new(SystemClock::default()), dir).map_err(failure)?;
    let before = manifest.file_name();
    manifest.rewrite().map_err(failure)?;
    let (after, number) = (manifest.file_name(), manifest.state().number);
    if context.out.is_json() {
        context.out.json(&json!({ "before": before, "file": after, "number": number }))?;
    } else {
        context.out.line(&format!("{before} is {after} now, at change-set {number}"))?;
    }
    Ok(Exit::Ok)
}
