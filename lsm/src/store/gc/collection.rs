//! One collection, from its marks to the change-set that makes it true.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use kv_manifest::{State, names};
use kv_vfs::planted;
use kv_vlog::{Codec, Ledger, ValueReader, ValueSegmentWriter};

use super::Claim;
use super::marks::Marks;
use crate::error::StoreError;
use crate::gc::{Standing, standing};
use crate::store::Shared;
use crate::store::pins::{Holder, Pin};

/// Bytes that keys take in memory while values are put in their order. Where they are more, only the beginning of
/// each counts: their order is for the speed of scans alone.
const KEYS_BYTES_MAX: usize = 64 << 20;
/// What counts of a key at least.
const KEY_BYTES_MIN: usize = 16;

/// What a collection has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many collections this is the sum of.
    pub runs: u64,
    /// Files given up.
    pub files: u64,
    /// Values that were copied.
    pub values: u64,
    /// Bytes read of the old files.
    pub read_bytes: u64,
    /// Length of the new file, and all that was written: no table is.
    pub written_bytes: u64,
    /// Length of the old files.
    pub freed_bytes: u64,
}

impl Collected {
    /// What the disk holds less afterwards, once nobody reads the old files; negative where it holds more.
    #[must_use]
    pub fn reclaimed_bytes(&self) -> i64 {
        self.freed_bytes as i64 - self.written_bytes as i64
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.files += other.files;
        self.values += other.values;
        self.read_bytes += other.read_bytes;
        self.written_bytes += other.written_bytes;
        self.freed_bytes += other.freed_bytes;
    }
}

/// A collection under way. Nothing is changed before [`Collection::finish`]; dropped before, it leaves no trace.
///
/// Memory: 20 bytes for each reference, and for each value 24 and its key (64 MiB of keys at most, or 16 bytes of
/// each); one group of the new file.
pub struct Collection {
    pub(super) shared: Arc<Shared>,
    /// Keeps the files that are read. Not the view: that would keep memtables.
    _pin: Pin,
    _claim: Claim,
    pub(super) victims: Vec<Victim>,
    pub(super) marks: Marks,
    pub(super) aliases: Vec<Alias>,
    pub(super) values: Vec<Value>,
    keys: Vec<u8>,
    pub(super) phase: Phase,
    pub(super) writer: Option<ValueSegmentWriter>,
    /// The new file, until the manifest may know it.
    pub(super) path: Option<PathBuf>,
    pub(super) done: Collected,
}

/// A file that is collected.
pub(super) struct Victim {
    pub(super) file: u64,
    /// Its length.
    pub(super) bytes: u64,
    pub(super) segments: Vec<u64>,
    pub(super) reader: ValueReader,
}

/// A reference, and the value it leads to.
#[derive(Clone, Copy)]
pub(super) struct Alias {
    pub(super) segment: u64,
    pub(super) from: u32,
    pub(super) place: Place,
}

/// Where a value is: which victim, and where in its file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) victim: u32,
    pub(super) at: u32,
}

/// A value that is live.
#[derive(Clone, Copy)]
pub(super) struct Value {
    pub(super) place: Place,
    length: u32,
    /// Where it is in the new file.
    pub(super) to: u32,
    /// What counts of its key.
    key_at: u32,
    key_bytes: u32,
}

#[derive(Clone, Copy)]
pub(super) enum Phase {
    /// Reading headers and keys, in the order of the files: the next one.
    Heads(usize),
    /// Copying, in the order of the keys: the next one.
    Copy(usize),
    Copied,
}

impl Collection {
    pub(super) fn begin(shared: &Arc<Shared>, files: &[u64]) -> Result<Self, StoreError> {
        shared.check()?;
        let files: BTreeSet<u64> = files.iter().copied().collect();
        let is_target = |file: &u64| shared.changes.with_state(|state| state.segments_in(*file).count() > 1);
        let targets = files.iter().copied().filter(is_target).collect();
        let claim = shared.collecting.claims.claim(files.clone(), &targets)?;
        // What the tables are and where segments are, at one moment; and what is there then stays readable.
        let (view, found) = {
            let _structure = shared.structure.lock();
            let found = shared.changes.with_state(|state| victims(state, &files))?;
            (shared.core.view(), found)
        };
        let (tables, pin) = (view.tables.clone(), view.pin.held_by(Holder::Collection));
        drop(view);
        let mut victims = Vec::new();
        for (owner, file, segments) in found {
            let reader = shared.log.value_reader(owner)?;
            let bytes = reader.file_bytes()?;
            victims.push(Victim { file, bytes, segments, reader });
        }
        let segments = victims.iter().flat_map(|victim| victim.segments.iter().copied()).collect();
        let marks = Marks::of(&tables, &segments)?;
        let mut collection = Self {
            shared: shared.clone(),
            _pin: pin,
            _claim: claim,
            victims,
            marks,
            aliases: Vec::new(),
            values: Vec::new(),
            keys: Vec::new(),
            phase: Phase::Heads(0),
            writer: None,
            path: None,
            done: Collected { runs: 1, ..Collected::default() },
        };
        collection.locate()?;
        Ok(collection)
    }

    /// Finds the values that are live, each once, in the order of the files.
    fn locate(&mut self) -> Result<(), StoreError> {
        for (segment, from) in self.marks.iter() {
            let holds = |victim: &Victim| victim.segments.contains(&segment);
            let Some((number, victim)) = (0u32..).zip(&self.victims).find(|(_, victim)| holds(victim)) else {
                continue;
            };
            let at = victim.reader.place(segment, from)?.ok_or_else(|| {
                StoreError::Damaged(format!(
                    "{}: a table points to offset {from} of segment {segment}, which is not in it",
                    names::segment_name(victim.file)
                ))
            })?;
            self.aliases.push(Alias { segment, from, place: Place { victim: number, at } });
        }
        let mut places: Vec<Place> = self.aliases.iter().map(|alias| alias.place).collect();
        places.sort_unstable();
        places.dedup();
        let value = |place| Value { place, length: 0, to: 0, key_at: 0, key_bytes: 0 };
        self.values = places.into_iter().map(value).collect();
        Ok(())
    }

    /// Reads or copies about this many bytes; says whether there is more to do before [`Collection::finish`].
    pub fn step(&mut self, bytes: u64) -> Result<bool, StoreError> {
        self.shared.check()?;
        match self.phase {
            Phase::Heads(next) => self.read_heads(next, bytes)?,
            Phase::Copy(next) => self.copy(next, bytes)?,
            Phase::Copied => return Ok(false),
        }
        Ok(!matches!(self.phase, Phase::Copied))
    }

    fn read_heads(&mut self, next: usize, bytes: u64) -> Result<(), StoreError> {
        /// What reading a header and a key costs, about.
        const HEAD_BYTES: u64 = 512;
        let end = next.saturating_add((bytes / HEAD_BYTES).max(1) as usize).min(self.values.len());
        let key_bytes_max = (KEYS_BYTES_MAX / self.values.len().max(1)).max(KEY_BYTES_MIN);
        for value in self.values.get_mut(next..end).unwrap_or_default() {
            let Some(victim) = self.victims.get_mut(value.place.victim as usize) else { continue };
            let head = victim.reader.head(value.place.at)?;
            let key = head.key.get(..key_bytes_max).unwrap_or(&head.key);
            (value.length, value.key_at, value.key_bytes) =
                (head.length, self.keys.len() as u32, key.len() as u32);
            self.keys.extend_from_slice(key);
        }
        self.phase = Phase::Heads(end);
        if end == self.values.len() {
            let keys = std::mem::take(&mut self.keys);
            let key = |value: &Value| {
                let start = value.key_at as usize;
                keys.get(start..start + value.key_bytes as usize).unwrap_or_default()
            };
            self.values.sort_unstable_by(|a, b| key(a).cmp(key(b)).then_with(|| a.place.cmp(&b.place)));
            self.phase = if self.values.is_empty() { Phase::Copied } else { Phase::Copy(0) };
        }
        Ok(())
    }

    fn copy(&mut self, next: usize, bytes: u64) -> Result<(), StoreError> {
        let (mut at, mut copied) = (next, 0u64);
        while copied < bytes
            && let Some(value) = self.values.get(at).copied()
        {
            let to = self.copy_one(&value)?;
            if let Some(value) = self.values.get_mut(at) {
                value.to = to;
            }
            copied += u64::from(value.length);
            at += 1;
        }
        self.done.values += (at - next) as u64;
        self.done.read_bytes += copied;
        self.phase = if at == self.values.len() { Phase::Copied } else { Phase::Copy(at) };
        Ok(())
    }

    fn copy_one(&mut self, value: &Value) -> Result<u32, StoreError> {
        let Some(victim) = self.victims.get(value.place.victim as usize) else { return Ok(0) };
        // Verified on the way: damage is not carried into a file where it would look like a fresh write.
        let mut record = victim.reader.value(value.place.at, value.length)?;
        if planted::is("codec of a moved value lost") {
            record.value.codec = Codec::Raw;
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let next = self.shared.changes.next_file();
                // Before the file is there: one that was made, but not to its end, goes, too.
                self.path = Some(next.path.clone());
                none.insert(self.shared.log.write_values(next.file, next.path)?)
            }
        };
        Ok(writer.add(&record.key, record.seq, &record.value)?.offset)
    }

    /// Bytes of values read so far.
    pub(super) fn read_bytes(&self) -> u64 {
        self.done.read_bytes
    }

    pub(super) fn path_of(&self, file: u64) -> PathBuf {
        self.shared.core.dir.join(names::segment_name(file))
    }
}

/// The files, if all of them can be collected: segment, number and the segments in it.
fn victims(state: &State, files: &BTreeSet<u64>) -> Result<Vec<(u64, u64, Vec<u64>)>, StoreError> {
    let victim = |file: &u64| {
        let owner = state.owner_of(*file).ok_or_else(|| {
            StoreError::Invalid(format!("file {file} is to be collected: there is no such file of values"))
        })?;
        match standing(state, owner) {
            Standing::Complete => {}
            other => {
                return Err(StoreError::Invalid(format!("file {file} cannot be collected: {other:?}")));
            }
        }
        let segments = state.segments_in(*file).map(|segment| segment.segment).collect();
        Ok((owner.segment, *file, segments))
    };
    files.iter().map(victim).collect()
}

impl Drop for Collection {
    fn drop(&mut self) {
        // Its handle first.
        self.writer = None;
        if let Some(path) = self.path.take()
            && let Err(error) = self.shared.core.vfs.remove(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            // Nothing is lost: the next open finds an orphan and removes it.
            tracing::warn!(%error, "could not remove the new file of a collection that was given up");
        }
    }
}

impl std::fmt::Debug for Collection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collection").field("done", &self.done).finish_non_exhaustive()
    }
}
