//! Giving up the log's beginning.

use kv_manifest::{Edit, SegmentKind, SegmentState, State, names};
use kv_vfs::planted;
use kv_vlog::Position;

use super::changes::to_manifest;
use super::pins::Retired;
use super::{Shared, Store};
use crate::error::StoreError;

impl Store {
    /// Gives up log entries up to and including `at`, durably. Values that are still pointed to stay. Does
    /// nothing where they were given up before.
    ///
    /// # Errors
    /// [`StoreError::NotFlushed`] where entries up to `at` are not in tables: the log is all there is of
    /// them.
    pub fn purge(&self, at: Position) -> Result<(), StoreError> {
        let _structure = self.shared.structure.lock();
        self.shared.check()?;
        let log = self.log();
        if log.state().purged.is_some_and(|purged| purged.index >= at.index) {
            return Ok(());
        }
        let flushed = self.flushed();
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
        self.shared.changes.commit("purge", edits).inspect_err(|error| self.shared.poison(error))?;
        log.purge(at);
        self.drop_segments()
    }

    /// Drops the segments that nothing needs any more: without an entry above the floor, and no table of the
    /// current state points to them. Nothing that is not in tables does either, because the entries of these
    /// are below the floor, which is below what is in tables.
    ///
    /// The caller holds what the tables are.
    pub(super) fn drop_segments(&self) -> Result<(), StoreError> {
        let Shared { core, changes, log, .. } = &*self.shared;
        let dead = changes.with_state(|state| {
            let dead = state.segments.values().filter(|segment| is_dead(state, segment));
            dead.map(|segment| (segment.segment, segment.file)).collect::<Vec<_>>()
        });
        if dead.is_empty() {
            return Ok(());
        }
        if planted::is("segment files removed before the manifest drops them") {
            let path = |file| core.dir.join(names::segment_name(file));
            dead.iter().try_for_each(|(_, file)| core.vfs.remove(&path(*file)))?;
        }
        // The manifest before the files: a crash in between leaves orphans.
        let edits = dead.iter().map(|(segment, _)| Edit::DropSegment { segment: *segment }).collect();
        changes.commit("drop", edits).inspect_err(|error| self.shared.poison(error))?;
        let retired = dead.into_iter().map(|(segment, file)| Retired {
            log: log.clone(),
            vfs: core.vfs.clone(),
            segment,
            path: core.dir.join(names::segment_name(file)),
        });
        let retired = retired.collect();
        core.install(|view| view.pin = view.pin.retire(retired));
        Ok(())
    }

    /// The entry up to which the log can be purged so that at least `keep_bytes` of it stay: the last of a
    /// complete segment, and in tables. `None` where there is nothing to purge.
    #[must_use]
    pub fn purge_candidate(&self, keep_bytes: u64) -> Option<Position> {
        self.log().purge_boundary(self.flushed()?.index, keep_bytes)
    }
}

/// Whether nothing that is durable needs the segment.
fn is_dead(state: &State, segment: &SegmentState) -> bool {
    let Some(held) = &segment.sealed else { return false };
    let floor = state.purge_floor.map(|floor| floor.index);
    let is_below = held.last_index.is_none_or(|last| floor.is_some_and(|floor| last <= floor));
    // From the replay position on recovery reads all of the log's; their marks may matter.
    let is_replayed = segment.kind == SegmentKind::Log && Some(segment.segment) >= state.replay_from;
    is_below && !is_replayed && state.tables_pointing_to(segment.segment) == 0
}

#[cfg(test)]
mod tests {
    use kv_manifest::{LogPosition, SealedInfo, SegmentRef, TableMeta};

    use super::*;

    fn state() -> State {
        let mut state = State::default();
        state.purge_floor = Some(LogPosition { term: 1, index: 20 });
        state.replay_from = Some(5);
        state
    }

    fn log(segment: u64, last_index: Option<u64>) -> SegmentState {
        let sealed = Some(SealedInfo { first_index: last_index, last_index, ..SealedInfo::default() });
        SegmentState { segment, sealed, ..SegmentState::default() }
    }

    #[test]
    fn a_segment_is_dead_below_the_floor_and_the_replay_position() {
        let mut state = state();
        assert!(is_dead(&state, &log(4, Some(20))) && is_dead(&state, &log(4, None)));
        assert!(!is_dead(&state, &log(4, Some(21))), "above the floor");
        assert!(!is_dead(&state, &log(5, Some(20))), "replayed");
        assert!(!is_dead(&state, &SegmentState { sealed: None, ..log(4, None) }), "open");
        assert!(is_dead(&state, &SegmentState { kind: SegmentKind::Values, ..log(9, None) }));
        state.purge_floor = None;
        assert!(!is_dead(&state, &log(4, Some(0))) && is_dead(&state, &log(4, None)));
    }

    #[test]
    fn a_segment_that_a_table_points_to_is_not_dead() {
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
        let dead = |segment: u64| is_dead(manifest.state(), &manifest.state().segments[&segment]);
        assert!(!dead(1) && dead(2));
    }
}
