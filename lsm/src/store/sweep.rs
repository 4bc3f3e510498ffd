//! Giving long files back to the disk piece by piece.
//!
//! To free blocks is work for a disk that is told of it (mount option `discard`): 256 MiB at once keep all other writes and
//! syncs waiting for a quarter of a second. So a long file that is removed goes like this, in the background:
//!
//! ```text
//! 00000012.sst --(renamed, directory synced, no other name)--> 00000012.gone --> cut ... cut --> removed
//! ```

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kv_manifest::names::{self, FileName};
use kv_vfs::{File, IoMode, RemovalVfs, Step, Vfs, Wake, Worker, planted};
use parking_lot::Mutex;

use super::Shared;
use crate::error::StoreError;
use crate::table::TableError;

/// The disk has so long for others between two pieces.
const PAUSE: Duration = Duration::from_millis(5);
/// A piece is such a part of what waits, if that is more: however much comes, it does not pile up for long.
const PARTS: u64 = 64;
/// With less room than this, in bytes, files go at once: room is wanted sooner than quick syncs.
const ROOM_MIN: u64 = 1 << 30;

/// The files that go: tables and segments. Their names are free at once. Before [`Sweep::attach`] they wait; after
/// [`Sweep::stop`] they go at once, as a whole.
///
/// Nobody may read a file that is removed, not even through a handle that is open: its end goes first. One that has another
/// name is not cut.
#[derive(Debug)]
pub(crate) struct Sweep {
    vfs: Arc<dyn Vfs>,
    piece_bytes: u64,
    state: Mutex<State>,
    worker: OnceLock<Arc<dyn Wake>>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Going>,
    /// Of all files that go.
    bytes: u64,
    stopped: bool,
}

/// A file that goes.
#[derive(Debug)]
struct Going {
    path: PathBuf,
    /// Its length by now.
    bytes: u64,
    /// There once its end may be cut.
    file: Option<Arc<dyn File>>,
}

impl Sweep {
    /// Files of more than `piece_bytes` go in pieces, of so many bytes unless very much waits.
    pub(crate) fn new(vfs: Arc<dyn Vfs>, piece_bytes: u64) -> Arc<Self> {
        Arc::new(Self { vfs, piece_bytes, state: Mutex::default(), worker: OnceLock::new() })
    }

    /// The file system with long files removed here.
    pub(crate) fn vfs(self: &Arc<Self>) -> Arc<dyn Vfs> {
        let sweep = self.clone();
        Arc::new(RemovalVfs::new(self.vfs.clone(), move |path| sweep.take(path)))
    }

    /// Begins to give back: this is its [`Sweeper`].
    pub(crate) fn attach(&self, worker: Arc<dyn Wake>) {
        self.worker.get_or_init(|| worker).wake();
    }

    /// Removes what is left, and from now on at once.
    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        if let Some(worker) = self.worker.get() {
            worker.wake();
            worker.join();
        }
    }

    /// Bytes that are not given back yet.
    pub(crate) fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    /// Whether it has taken the file over: it is long, and its name is free now.
    fn take(&self, path: &Path) -> bool {
        let Some(gone) = gone_path(path) else { return false };
        // What is wrong with the file says whoever removes it instead.
        let Ok(bytes) = self.vfs.open_read(path, IoMode::Buffered).and_then(|file| file.len()) else {
            return false;
        };
        let is_at_once =
            bytes <= self.piece_bytes || self.is_short_of_room(path) || self.state.lock().stopped;
        if is_at_once || (path != gone && self.vfs.rename(path, &gone).is_err()) {
            return false;
        }
        let mut going = Going { path: gone, bytes, file: None };
        let mut state = self.state.lock();
        state.bytes += bytes;
        if state.stopped {
            drop(state);
            self.remove(&mut going);
            return true;
        }
        state.waiting.push_back(going);
        // Else it goes on by itself, at its own pace.
        let is_first = state.waiting.len() == 1;
        drop(state);
        if let Some(worker) = self.worker.get().filter(|_| is_first) {
            worker.wake();
        }
        true
    }

    fn is_short_of_room(&self, path: &Path) -> bool {
        let space = path.parent().map(|dir| self.vfs.space(dir));
        !matches!(space, Some(Ok(space)) if space.available >= ROOM_MIN)
    }

    /// Cuts a piece off the file, or removes it if that was all; says whether it is gone.
    fn cut(&self, going: &mut Going) -> Result<bool, StoreError> {
        let file = if self.is_short_of_room(&going.path) { None } else { self.opened(going)? };
        let piece = self.piece_bytes.max(self.bytes() / PARTS);
        match file {
            Some(file) if piece < going.bytes => {
                file.set_len(going.bytes - piece)?;
                self.gave_back(going, piece);
                Ok(false)
            }
            _ => {
                self.remove(going);
                Ok(true)
            }
        }
    }

    /// The file, if it may be cut: not where it has another name, which a checkpoint gives.
    fn opened(&self, going: &mut Going) -> Result<Option<Arc<dyn File>>, StoreError> {
        if going.file.is_none() {
            // The name before the first cut: after a power loss no file with the name of a table or of a segment lacks its end.
            if let Some(dir) = going.path.parent() {
                planted::unless("file cut before its name is durable", || self.vfs.sync_dir(dir))
                    .map_err(TableError::SyncFailed)?;
            }
            if self.vfs.link_count(&going.path)? > 1 && !planted::is("file cut that has another name") {
                return Ok(None);
            }
            going.file = Some(self.vfs.open(&going.path, IoMode::Buffered)?);
        }
        Ok(going.file.clone())
    }

    fn gave_back(&self, going: &mut Going, bytes: u64) {
        going.bytes -= bytes;
        self.state.lock().bytes -= bytes;
    }

    /// Removes the file as a whole.
    fn remove(&self, going: &mut Going) {
        going.file = None;
        if let Err(error) = self.vfs.remove(&going.path) {
            // Nothing is lost: the next open of the directory does it.
            tracing::warn!(%error, "could not remove a file that is no longer needed");
        }
        self.gave_back(going, going.bytes);
    }
}

/// The name that a table's or segment's file has while it goes: its own, if it goes already.
fn gone_path(path: &Path) -> Option<PathBuf> {
    match names::parse(path.file_name()?.to_str()?)? {
        FileName::Table(number)
        | FileName::Segment(number)
        | FileName::Free(number)
        | FileName::Gone(number) => Some(path.with_file_name(names::gone_name(number))),
        FileName::Manifest(_) | FileName::Current | FileName::Lock | FileName::Temporary => None,
    }
}

/// Gives back what the [`Sweep`] has.
pub(crate) struct Sweeper {
    shared: Arc<Shared>,
    current: Option<Going>,
}

impl Sweeper {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, current: None }
    }
}

impl Worker for Sweeper {
    fn step(&mut self) -> Step {
        let Self { shared, current } = self;
        let sweep = &shared.sweep;
        let (next, stopped) = {
            let mut state = sweep.state.lock();
            (current.take().or_else(|| state.waiting.pop_front()), state.stopped)
        };
        let Some(mut going) = next else { return if stopped { Step::Done } else { Step::Idle } };
        if stopped {
            sweep.remove(&mut going);
            return Step::More;
        }
        match sweep.cut(&mut going) {
            Ok(true) => {}
            Ok(false) => *current = Some(going),
            Err(error) => {
                tracing::warn!(%error, "could not give a file back piece by piece");
                if matches!(error, StoreError::Table(TableError::SyncFailed(_))) {
                    // Names that others rely on may be lost, and the next sync need not say so again.
                    shared.poison(&error);
                }
                sweep.remove(&mut going);
            }
        }
        Step::After(PAUSE)
    }
}
