//! Giving up the log's beginning.

use kv_manifest::{Edit, SegmentState, State, names};
use kv_vfs::planted;
use kv_vlog::Position;

use super::changes::to_manifest;
use super::pins::{GivenUp, Retired};
use super::{Shared, Store};
use crate::error::StoreError;
use crate::gc::{Standing, standing};

impl Store {
    /// Gives up log entries up to and including `at`, durably. Values that are still pointed to stay. Does
    /// nothing where they were given up before.
    ///
    /// # Errors
    /// [`StoreError::NotFlushed`] where entries up to `at` are not in tables: the log is all there is of
    /// them.
    pub fn purge(&self, at: Position) -> Result<(), StoreError> {
        purge(&self.shared, at)
    }

    /// The entry up to which the log can be purged so that at least `keep_bytes` of it stay: the last of a
    /// complete segment, and in tables. `None` where there is nothing to purge.
    #[must_use]
    pub fn purge_candidate(&self, keep_bytes: u64) -> Option<Position> {
        self.purge_candidate_below(u64::MAX, keep_bytes)
    }

    /// As [`Self::purge_candidate`], where the entry `next` and those after it stay besides.
    #[must_use]
    pub fn purge_candidate_below(&self, next: u64, keep_bytes: u64) -> Option<Position> {
        let last = next.checked_sub(1)?;
        self.log().purge_boundary(self.flushed()?.index.min(last), keep_bytes)
    }
}

/// See [`Store::purge`].
fn purge(shared: &Shared, at: Position) -> Result<(), StoreError> {
    let _structure = shared.structure.lock();
    shared.check()?;
    let Shared { core, changes, log, .. } = shared;
    if log.state().purged.is_some_and(|purged| purged.index >= at.index) {
        return Ok(());
    }
    let flushed = *core.flushed.lock();
    if flushed.is_none_or(|flushed| flushed.index < at.index) {
        return Err(StoreError::NotFlushed { index: at.index, flushed: flushed.map(|at| at.index) });
    }
    let held = log.term_starts(at.index, at.index);
    if held.first() != Some(&at) {
        return Err(StoreError::Invalid(format!(
            "the log holds {held:?} where it is to be purged up to {at:?}"
        )));
    }
    // The manifest before memory: the log would else refuse entries that a restart brings back, and its
    // groups would rely on a floor that is not there.
    if planted::is("purge not recorded") {
        log.purge(at);
        return Ok(());
    }
    let edits = vec![Edit::PurgeFloor(to_manifest(at))];
    changes.commit("purge", edits).inspect_err(|error| shared.poison(error))?;
    log.purge(at);
    drop_held(shared)?;
    // More can be collected now.
    shared.hurry_collector();
    Ok(())
}

/// Purges the log so that at least `keep_bytes` of it stay.
pub(super) fn purge_to_keep(shared: &Shared, keep_bytes: u64) -> Result<(), StoreError> {
    let Some(flushed) = *shared.core.flushed.lock() else { return Ok(()) };
    match shared.log.purge_boundary(flushed.index, keep_bytes) {
        Some(at) => purge(shared, at),
        None => Ok(()),
    }
}

/// Drops the segments that nothing needs any more.
pub(super) fn drop_segments(shared: &Shared) -> Result<(), StoreError> {
    let _structure = shared.structure.lock();
    drop_held(shared)
}

/// Drops the segments that nothing needs any more: without an entry above the floor, and no table of the
/// current state points to them. Nothing that is not in tables does either, because the entries of these
/// are below the floor, which is below what is in tables.
///
/// The caller holds what the tables are.
pub(super) fn drop_held(shared: &Shared) -> Result<(), StoreError> {
    let Shared { core, changes, .. } = shared;
    let dead = changes.with_state(dead);
    if dead.is_empty() {
        return Ok(());
    }
    if planted::is("segment files removed before the manifest drops them") {
        let owned = dead.iter().filter(|dead| dead.is_owner);
        let mut paths = owned.map(|dead| core.dir.join(names::segment_name(dead.file)));
        paths.try_for_each(|path| core.vfs.remove(&path))?;
    }
    // The manifest before the files: a crash in between leaves orphans.
    let edits = dead.iter().map(|segment| Edit::DropSegment { segment: segment.segment }).collect();
    changes.commit("drop", edits).inspect_err(|error| shared.poison(error))?;
    let retired = dead.into_iter().map(|Dead { segment, file, is_owner, bytes }| {
        let path = || core.dir.join(names::segment_name(file));
        let given_up = is_owner.then(|| GivenUp { path: path(), number: file, bytes });
        Retired::new(shared, vec![(segment, file)], given_up)
    });
    let retired = retired.collect();
    core.install(|view| view.pin = view.pin.retire(retired));
    Ok(())
}

/// A segment that nothing needs.
#[derive(Debug, PartialEq, Eq)]
struct Dead {
    segment: u64,
    file: u64,
    /// Whether the file goes with it.
    is_owner: bool,
    /// Bytes in use in the file, if it does.
    bytes: u64,
}

/// The segments that nothing that is durable needs.
fn dead(state: &State) -> Vec<Dead> {
    let is_dead = |segment: &&SegmentState| is_dead(state, segment);
    let dead = |segment: &SegmentState| Dead {
        segment: segment.segment,
        file: segment.file,
        is_owner: !segment.remapped,
        bytes: segment.sealed.as_ref().filter(|_| !segment.remapped).map_or(0, |held| held.end),
    };
    state.segments.values().filter(is_dead).map(dead).collect()
}

fn is_dead(state: &State, segment: &SegmentState) -> bool {
    if segment.remapped {
        return state.tables_pointing_to(segment.segment) == 0;
    }
    // Values of others may be in its file, which it belongs to.
    let mut inside = state.segments_in(segment.file);
    let is_missed = state.tables_pointing_to(segment.segment) > 0
        || inside.any(|other| state.tables_pointing_to(other.segment) > 0);
    standing(state, segment) == Standing::Complete && !is_missed
}

#[cfg(test)]
mod tests {
    use kv_manifest::{SegmentRef, TableMeta};

    use super::*;

    #[test]
    fn a_segment_is_dead_when_no_table_points_into_its_file() {
        let dir = kv_vfs::MemVfs::new();
        let clock = std::sync::Arc::new(kv_vfs::ManualClock::default());
        let identity = kv_manifest::Identity::default();
        let vfs = std::sync::Arc::new(dir);
        let mut manifest =
            kv_manifest::Manifest::create(vfs, clock, std::path::Path::new("/"), identity).unwrap();
        let values = |segment, file| Edit::AddValueSegment {
            segment,
            file,
            generation: 0,
            epoch: 0,
            end: 4096,
            values: 1,
            value_bytes: 50,
        };
        let refs = vec![SegmentRef { segment: 1, count: 1, bytes: 50 }];
        let table = Edit::AddTable(TableMeta { id: 12, entries: 1, refs, ..TableMeta::default() });
        manifest.append("test", vec![Edit::NextFile(20), values(1, 10), values(2, 11), table]).unwrap();
        let gone = |segment, file, is_owner: bool| {
            let bytes = if is_owner { 4096 } else { 0 };
            Dead { segment, file, is_owner, bytes }
        };
        assert_eq!(dead(manifest.state()), [gone(2, 11, true)]);
        // Moved: the owner of the file stays for their sake.
        let remap = |segment| Edit::RemapSegment { segment, file: 13 };
        manifest.append("test", vec![values(3, 13), remap(1), remap(2)]).unwrap();
        assert_eq!(dead(manifest.state()), [gone(2, 13, false)]);
        manifest.append("test", vec![Edit::RemoveTable { id: 12 }]).unwrap();
        let all = [gone(1, 13, false), gone(2, 13, false), gone(3, 13, true)];
        assert_eq!(dead(manifest.state()), all);
        let drops = [1, 2, 3].map(|segment| Edit::DropSegment { segment });
        manifest.append("test", drops.to_vec()).unwrap();
    }
}
