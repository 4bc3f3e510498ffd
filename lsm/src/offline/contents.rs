//! What the tables and the log come to together: the keys that are there, and their values.

use kv_manifest::{Manifest, State, names};
use kv_vlog::{SegmentFiles, VlogError};
use xxhash_rust::xxh3::Xxh3;

use super::Check;
use super::manifest::missing_change_sets;
use crate::error::StoreError;
use crate::key::Slot;
use crate::options::Options;
use crate::store::{Core, ScanItem, ScanRange, pointer, recover, scan};
use crate::table::CacheUse;

/// See [`super::CheckReport::content_hash`].
#[derive(Default)]
pub(crate) struct ContentHash(Xxh3);

impl ContentHash {
    /// Adds the key that comes next.
    pub(crate) fn add(&mut self, key: &[u8], revision: u64, value: &[u8]) {
        self.0.update(&(key.len() as u64).to_le_bytes());
        self.0.update(key);
        self.0.update(&revision.to_le_bytes());
        self.0.update(&(value.len() as u64).to_le_bytes());
        self.0.update(value);
    }

    pub(crate) fn finish(&self) -> String {
        format!("{:032x}", self.0.digest128())
    }
}

impl Check<'_> {
    /// Replays the log and reads every value that is there.
    pub(super) fn contents(&mut self, manifest: &Manifest) -> Result<(), StoreError> {
        let state = manifest.state();
        let core = match Core::open(self.vfs.clone(), &self.dir, Options::default(), state) {
            Ok(core) => core,
            Err(error) => return self.found(&manifest.file_name(), error),
        };
        let (recovered, pending) = match recover(&core, None, &self.dir, state) {
            Ok(found) => found,
            Err(error) => return self.found("the log", error),
        };
        self.held_against_log(manifest, recovered.end.ledger_number, recovered.end.last.map(|at| at.index));
        let applied = core.progress().applied;
        self.report.applied = applied;
        // What is in tables was committed, whether or not a later group came to say so.
        let pending = pending.iter().filter(|entry| Some(entry.at.index) > applied.map(|at| at.index));
        self.report.uncommitted = pending.count() as u64;
        if self.report.uncommitted > 0 {
            self.report.note(format!(
                "the last {} entries of the log are not known to be committed: no part of the contents",
                self.report.uncommitted
            ));
        }
        let files = match SegmentFiles::open(&*self.vfs, &recovered) {
            Ok(files) => files,
            Err(error) => return self.found("a segment", error.into()),
        };
        self.values(state, &core, &files)
    }

    /// The log remembers how far the manifest was durable, and the manifest how far the log was.
    fn held_against_log(&mut self, manifest: &Manifest, ledger_number: u64, last_index: Option<u64>) {
        let state = manifest.state();
        if state.number < ledger_number {
            self.of_manifest(manifest, missing_change_sets(state.number, ledger_number));
        }
        if let Some(flushed) = &state.flushed
            && last_index.is_none_or(|last| last < flushed.index)
        {
            let end = last_index.map_or_else(|| "is empty".into(), |last| format!("ends at entry {last}"));
            let why = format!(
                "the log {end}, but entries up to {} are in tables: segments lost their end",
                flushed.index
            );
            self.of_manifest(manifest, why);
        }
    }

    fn values(&mut self, state: &State, core: &Core, files: &SegmentFiles) -> Result<(), StoreError> {
        let mut hash = ContentHash::default();
        let mut whole = true;
        for item in scan(&core.view(), ScanRange::default(), core.visible(), CacheUse::Peek)? {
            let read = item.and_then(|item| {
                let value = value(state, files, &item)?;
                hash.add(&item.key, item.revision, &value);
                Ok((value.len() as u64, matches!(item.slot, Slot::Pointer(..))))
            });
            match read {
                Ok((value_bytes, separated)) => {
                    self.report.keys += 1;
                    self.report.value_bytes += value_bytes;
                    self.advance(if separated { value_bytes } else { 0 });
                }
                Err(error) => {
                    whole = false;
                    self.found("a value", error)?;
                }
            }
        }
        self.report.content_hash = whole.then(|| hash.finish());
        Ok(())
    }
}

fn value(state: &State, files: &SegmentFiles, item: &ScanItem) -> Result<bytes::Bytes, StoreError> {
    match &item.slot {
        Slot::Tombstone => Ok(bytes::Bytes::new()),
        Slot::Inline(value, _) => Ok(value.clone()),
        Slot::Pointer(at, _) => {
            let value = files.value(pointer(at), &item.key, item.revision)?;
            if value.len() as u64 == at.value_bytes {
                return Ok(value);
            }
            let why = format!("the value is {} bytes long, its pointer says {}", value.len(), at.value_bytes);
            let file = state.segments.get(&at.segment).map_or(0, |segment| segment.file);
            let (file, offset) = (names::segment_name(file), u64::from(at.offset));
            Err(VlogError::Corruption { file, offset, why }.into())
        }
    }
}
