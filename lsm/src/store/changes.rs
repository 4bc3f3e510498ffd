//! The manifest as the engine and the log use it: one at a time, numbers handed out, the log told.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use kv_manifest::{Edit, FileNumbers, LogPosition, Manifest, SealedInfo, State, names};
use kv_vfs::Vfs;
use kv_vlog::{Ledger, NextFile, OpenedSegment, Position, SealedSegment, SegmentSummary, Vlog};
use parking_lot::Mutex;

use crate::error::StoreError;
use crate::options::Options;

/// See the module.
#[derive(Debug)]
pub(crate) struct Changes {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    options: Options,
    manifest: Mutex<Manifest>,
    numbers: FileNumbers,
    log: OnceLock<Weak<Vlog>>,
}

/// The manifest at one moment.
pub(crate) struct ManifestCopy {
    pub name: String,
    pub manifest: Vec<u8>,
    pub current: Vec<u8>,
    pub state: State,
    /// Segments that are not complete, and up to where they were written.
    pub open: Vec<(u64, u64)>,
}

impl Changes {
    pub(crate) fn new(vfs: Arc<dyn Vfs>, dir: &Path, options: Options, manifest: Manifest) -> Self {
        let numbers = manifest.file_numbers();
        Self { vfs, dir: dir.into(), options, manifest: Mutex::new(manifest), numbers, log: OnceLock::new() }
    }

    /// The log to be told of every durable change-set.
    pub(crate) fn attach(&self, log: &Arc<Vlog>) {
        self.log.get_or_init(|| Arc::downgrade(log));
    }

    /// A file number that was never used.
    pub(crate) fn allocate(&self) -> u64 {
        self.numbers.take()
    }

    /// Makes edits durable as one change-set.
    pub(crate) fn commit(&self, cause: &str, edits: Vec<Edit>) -> Result<u64, StoreError> {
        let number = self.manifest.lock().append(cause, edits)?;
        if let Some(log) = self.log.get().and_then(Weak::upgrade) {
            log.note_ledger(number);
        }
        Ok(number)
    }

    /// Refuses a manifest that ends before a change-set which is known to have been durable.
    pub(crate) fn require(&self, number: u64) -> Result<(), StoreError> {
        Ok(self.manifest.lock().require(number)?)
    }

    /// Records other options than the directory was made with, if there are any.
    pub(super) fn set_options(&self, options: Option<BTreeMap<String, String>>) -> Result<(), StoreError> {
        match options {
            Some(options) => Ok(self.manifest.lock().set_options(options)?),
            None => Ok(()),
        }
    }

    /// The state now.
    pub(crate) fn state(&self) -> State {
        self.manifest.lock().state().clone()
    }

    /// Something of the state now.
    pub(crate) fn with_state<T>(&self, f: impl FnOnce(&State) -> T) -> T {
        f(self.manifest.lock().state())
    }

    /// What another directory needs to begin where this one is, all of one moment: no change-set comes in
    /// between, so all that is written by then relies on none that is missing.
    pub(crate) fn copy(&self, written: impl Fn(u64) -> u64) -> Result<ManifestCopy, StoreError> {
        let manifest = self.manifest.lock();
        let (state, name) = (manifest.state().clone(), manifest.file_name());
        let vfs = &*self.vfs;
        let read = |name: &str| vfs.read_all(&self.dir.join(name), u64::MAX);
        let (current, bytes) = (read(names::CURRENT)?, read(&name)?);
        let open = state.segments.values().filter(|segment| segment.sealed.is_none());
        let open = open.map(|segment| (segment.segment, written(segment.segment))).collect();
        Ok(ManifestCopy { name, manifest: bytes, current, state, open })
    }

    /// Bytes in segments that tables point to.
    pub(super) fn live_bytes(&self) -> u64 {
        self.with_state(|state| state.tables.values().flat_map(|table| &table.refs).map(|r| r.bytes).sum())
    }
}

impl Ledger for Changes {
    fn next_file(&self) -> NextFile {
        let file = self.allocate();
        let path = self.dir.join(names::segment_name(file));
        // Where nobody can say how much room there is, there is enough.
        let available = self.vfs.space(&self.dir).map_or(u64::MAX, |space| space.available);
        NextFile { file, path, bytes: self.options.segment_bytes_for(self.live_bytes(), available) }
    }

    fn record(&self, sealed: Option<SealedSegment>, opened: Option<OpenedSegment>) -> io::Result<u64> {
        let cause = match (&sealed, &opened) {
            (Some(sealed), Some(_)) if !sealed.summary.cut => "roll",
            (_, Some(_)) => "open",
            (_, None) => "close",
        };
        let mut edits = Vec::new();
        if let Some(SealedSegment { segment, summary }) = sealed {
            edits.push(Edit::SealSegment { segment, info: to_info(summary) });
        }
        if let Some(OpenedSegment { segment, file, generation, epoch }) = opened {
            if self.with_state(|state| state.epoch) < epoch {
                edits.push(Edit::Epoch(epoch));
            }
            edits.push(Edit::OpenSegment { segment, file, generation, epoch });
        }
        self.commit(cause, edits).map_err(io::Error::other)
    }
}

fn to_info(summary: SegmentSummary) -> SealedInfo {
    SealedInfo {
        end: summary.end,
        first_index: summary.first_index,
        last_index: summary.last_index,
        terms: summary.terms.into_iter().map(to_manifest).collect(),
        values: summary.values,
        value_bytes: summary.value_bytes,
        cut: summary.cut,
    }
}

pub(crate) fn to_summary(info: &SealedInfo) -> SegmentSummary {
    SegmentSummary {
        end: info.end,
        first_index: info.first_index,
        last_index: info.last_index,
        terms: info.terms.iter().map(from_manifest).collect(),
        values: info.values,
        value_bytes: info.value_bytes,
        cut: info.cut,
    }
}

pub(crate) fn to_manifest(at: Position) -> LogPosition {
    LogPosition { term: at.term, index: at.index }
}

pub(crate) fn from_manifest(at: &LogPosition) -> Position {
    Position { term: at.term, index: at.index }
}
