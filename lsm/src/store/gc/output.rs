//! The end of a collection: the new file durable, the old ones still as they were found, one change-set.

use std::collections::BTreeSet;
use std::path::PathBuf;

use kv_manifest::{Edit, State};
use kv_vfs::planted;
use kv_vlog::{Moved, SegmentIdentity, SegmentSummary};

use super::collection::{Alias, Collected, Collection, Phase, Place};
use crate::error::StoreError;
use crate::key::{Slot, ValuePointer};
use crate::store::pins::{GivenUp, Retired};
use crate::store::view::Tables;

/// The new file, durable.
struct Output {
    identity: SegmentIdentity,
    path: PathBuf,
    summary: SegmentSummary,
    /// Length of the file.
    bytes: u64,
}

/// What becomes of the segments in the files that are still there.
#[derive(Default)]
struct Verdict {
    /// By victim: the segments that still have their values in it.
    still: Vec<(u64, Vec<u64>)>,
    moved: Vec<u64>,
    dropped: Vec<u64>,
}

impl Collection {
    /// Makes it true: from now on the old files are no part of the data.
    pub fn finish(mut self) -> Result<Collected, StoreError> {
        assert!(matches!(self.phase, Phase::Copied), "a collection ends when all is copied");
        self.shared.check()?;
        // Most of the looking before anybody has to wait.
        let tables = self.shared.core.view().tables.clone();
        self.covers(&tables)?;
        let output = self.complete()?;
        self.commit(output)
    }

    /// Makes the new file durable, its contents before its name.
    fn complete(&mut self) -> Result<Option<Output>, StoreError> {
        let Some(writer) = self.writer.take() else { return Ok(None) };
        let (identity, path) = (*writer.identity(), writer.path().to_path_buf());
        let finished = writer.finish_moved(&self.moves()).map_err(StoreError::from);
        let (summary, bytes) = finished.inspect_err(|error| {
            // A sync that failed says nothing about what is on disk, here as elsewhere.
            if matches!(error, StoreError::Poisoned { .. }) {
                self.shared.poison(error);
            }
        })?;
        let core = &self.shared.core;
        // With the name lost, the manifest would speak of a file that is not there.
        planted::unless("name of a file of moved values not synced", || core.vfs.sync_dir(&core.dir))
            .map_err(StoreError::from)
            .inspect_err(|error| self.shared.poison(error))?;
        Ok(Some(Output { identity, path, summary, bytes }))
    }

    /// What the footer of the new file says.
    fn moves(&mut self) -> Vec<Moved> {
        self.values.sort_unstable_by_key(|value| value.place);
        let to = |place: Place| {
            let found = self.values.binary_search_by_key(&place, |value| value.place);
            found.ok().and_then(|at| self.values.get(at)).map(|value| value.to)
        };
        let moved =
            |alias: &Alias| Some(Moved { segment: alias.segment, from: alias.from, to: to(alias.place)? });
        let mut moves: Vec<Moved> = self.aliases.iter().filter_map(moved).collect();
        if planted::is("a moved value left out of the remap") {
            moves.pop();
        }
        moves
    }

    /// Refuses to go on where tables point to what was not copied. Pointers into what can be collected only ever
    /// die; should that be wrong, nothing is lost.
    fn covers(&mut self, tables: &Tables) -> Result<(), StoreError> {
        match self.marks.cover(tables)? {
            None => Ok(()),
            Some((segment, offset)) => Err(StoreError::Cancelled(format!(
                "a table that came meanwhile points to offset {offset} of segment {segment}"
            ))),
        }
    }

    fn commit(mut self, output: Option<Output>) -> Result<Collected, StoreError> {
        let shared = self.shared.clone();
        let _structure = shared.structure.lock();
        shared.check()?;
        let verdict = if planted::is("collection not checked again") {
            self.verdict_of_before()
        } else {
            self.covers(&shared.core.view().tables)?;
            shared.changes.with_state(|state| self.verdict(state))
        };
        if verdict.still.is_empty() {
            return Err(StoreError::Cancelled("the files are no part of the data any more".into()));
        }
        // Not needed where all that was copied has died meanwhile; then it goes with `self`.
        let output = output.filter(|_| !verdict.moved.is_empty());
        let reader = output
            .as_ref()
            .map(|output| shared.log.open_values(output.identity, output.path.clone(), output.summary.end));
        let reader = reader.transpose()?;
        let edits = edits(&verdict, output.as_ref());
        if planted::is("collected files removed too early") {
            self.victims.iter().for_each(|victim| drop(shared.core.vfs.remove(&self.path_of(victim.file))));
        }
        if output.is_some() {
            // When recording it fails, nobody knows whether it is recorded.
            self.path = None;
        }
        // The manifest, then memory, then the old files: before it a crash leaves the old state and an orphan, after it
        // the new one and orphans.
        shared.changes.commit("gc", edits).inspect_err(|error| shared.poison(error))?;
        if let Some(reader) = reader {
            shared.log.move_values(reader, &verdict.moved);
        }
        if planted::is("moved values written back") {
            self.write_back()?;
        }
        let gone = verdict.still.iter().map(|(file, _)| *file).collect::<BTreeSet<_>>();
        let retired = verdict.still.into_iter().map(|(file, segments)| {
            let places = segments.into_iter().map(|segment| (segment, file)).collect();
            let bytes =
                self.victims.iter().find(|victim| victim.file == file).map_or(0, |victim| victim.bytes);
            let given_up = GivenUp { path: self.path_of(file), number: file, bytes };
            Retired::new(&shared, places, Some(given_up))
        });
        let retired: Vec<Retired> = retired.collect();
        if planted::is("collected files removed under their readers") {
            drop(retired);
        } else {
            shared.core.install(|view| view.pin = view.pin.retire(retired));
        }
        self.done.files = gone.len() as u64;
        self.done.freed_bytes =
            self.victims.iter().filter(|victim| gone.contains(&victim.file)).map(|victim| victim.bytes).sum();
        self.done.written_bytes = output.map_or(0, |output| output.bytes);
        shared.collecting.done.lock().add(&self.done);
        Ok(self.done)
    }

    /// Which segments still have their values in the files, and whether tables still point to them.
    fn verdict(&self, state: &State) -> Verdict {
        let mut verdict = Verdict::default();
        for victim in &self.victims {
            let still: Vec<u64> = state.segments_in(victim.file).map(|segment| segment.segment).collect();
            for segment in &still {
                let is_live = state.tables_pointing_to(*segment) > 0;
                if is_live { &mut verdict.moved } else { &mut verdict.dropped }.push(*segment);
            }
            if !still.is_empty() {
                verdict.still.push((victim.file, still));
            }
        }
        verdict
    }

    /// As a collection would that changes the keys' pointers: each value that was live becomes the newest again.
    fn write_back(&mut self) -> Result<(), StoreError> {
        let core = &self.shared.core;
        for alias in &self.aliases {
            let Some(victim) = self.victims.get_mut(alias.place.victim as usize) else { continue };
            let head = victim.reader.head(alias.place.at)?;
            let (segment, offset, length) = (alias.segment, alias.from, head.length);
            let pointer = ValuePointer { segment, offset, length, value_bytes: 0 };
            let slot = Slot::Pointer(pointer, kv_vlog::Expiry::NEVER);
            core.view().active.insert(&head.key, core.visible().seq, slot);
        }
        Ok(())
    }

    /// As if nothing could have changed.
    fn verdict_of_before(&self) -> Verdict {
        let mut verdict = Verdict::default();
        for victim in &self.victims {
            for segment in &victim.segments {
                let is_live = self.aliases.iter().any(|alias| alias.segment == *segment);
                if is_live { &mut verdict.moved } else { &mut verdict.dropped }.push(*segment);
            }
            verdict.still.push((victim.file, victim.segments.clone()));
        }
        verdict
    }
}

fn edits(verdict: &Verdict, output: Option<&Output>) -> Vec<Edit> {
    let mut edits = Vec::new();
    if let Some(Output { identity, summary, .. }) = output {
        let SegmentIdentity { segment, file, generation, epoch, .. } = *identity;
        let SegmentSummary { end, values, value_bytes, .. } = *summary;
        edits.push(Edit::AddValueSegment { segment, file, generation, epoch, end, values, value_bytes });
        let remaps = verdict.moved.iter().map(|segment| Edit::RemapSegment { segment: *segment, file });
        edits.extend(remaps);
    }
    edits.extend(verdict.dropped.iter().map(|segment| Edit::DropSegment { segment: *segment }));
    edits
}
