//! The manifest in use: open, append, rewrite.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_vfs::{Clock, File, IoMode, Vfs, planted};

use crate::current::{self, FIRST_NUMBER};
use crate::edit::{ChangeSet, Edit, Identity};
use crate::encode::{encode_change_set, frame, whole_state};
use crate::error::ManifestError;
use crate::fold::Fold;
use crate::format;
use crate::header::Header;
use crate::names::{CURRENT, manifest_name};
use crate::numbers::FileNumbers;
use crate::scan::{self, TornTail};
use crate::state::{InvalidEdit, State};

/// The log of change-sets of one data directory, and the state they fold to.
///
/// One process at a time, held apart by the lock of the directory, which the caller takes.
///
/// ```
/// # use std::{path::Path, sync::Arc};
/// # use kv_manifest::{Edit, Identity, Manifest};
/// # use kv_vfs::{Clock, ManualClock, MemVfs, Vfs};
/// # let vfs: Arc<dyn Vfs> = Arc::new(MemVfs::new());
/// # let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
/// # let dir = Path::new("/data");
/// # vfs.create_dir_all(dir)?;
/// let mut manifest = Manifest::create(vfs.clone(), clock.clone(), dir, Identity::default())?;
/// let file = manifest.file_numbers().take();
/// let open = Edit::OpenSegment { segment: 1, file, generation: 0, epoch: 1 };
/// let number = manifest.append("open", vec![Edit::Epoch(1), open])?;
/// drop(manifest);
///
/// let manifest = Manifest::open(vfs, clock, dir)?;
/// manifest.require(number)?;
/// assert_eq!(manifest.state().segments[&1].file, file);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Invariants:
/// 1. `state` is the fold of the frames in `file` before `end`, and nothing else.
/// 2. What `append` returned for is durable: the frame, the name of its file and the `CURRENT` that
///    names it.
/// 3. A frame is only ever written behind one that this process wrote and synced. So what cannot be read
///    at the end of a file is a change-set that nobody was told of.
/// 4. After an error nothing is written any more.
#[derive(Debug)]
pub struct Manifest {
    vfs: Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    /// File number of the manifest in use.
    file_number: u64,
    file: Arc<dyn File>,
    /// Where the next frame goes. Invariant: a multiple of [`format::ALIGNMENT`].
    end: u64,
    /// Whether this process wrote all of `file`; see [`Manifest::settle`].
    settled: bool,
    state: State,
    torn: Option<TornTail>,
    numbers: FileNumbers,
    /// Length of the file above which the state is measured again.
    measure_above: u64,
    /// See [`Manifest::set_rewrite_bytes_min`].
    rewrite_bytes_min: u64,
    poisoned: Option<String>,
}

impl Manifest {
    /// Makes the manifest of a new data directory, which exists and holds no data.
    ///
    /// # Errors
    /// [`ManifestError::Exists`] or [`ManifestError::LostCurrent`] where there is data, `Io` where the
    /// file system refuses; a later `create` may then begin again.
    pub fn create(
        vfs: Arc<dyn Vfs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        identity: Identity,
    ) -> Result<Self, ManifestError> {
        if vfs.exists(&dir.join(CURRENT))? {
            return Err(ManifestError::Exists { dir: dir.to_path_buf() });
        }
        match current::absent(&*vfs, dir)? {
            ManifestError::Missing { .. } => {}
            lost => return Err(lost),
        }
        let name = dir.join(manifest_name(FIRST_NUMBER));
        // Left by an earlier `create` that a crash met; `absent` saw that nothing ever came of it.
        if vfs.exists(&name)? {
            vfs.remove(&name)?;
        }
        let edits = vec![Edit::Identity(identity), Edit::NextFile(FIRST_NUMBER + 1)];
        let set = ChangeSet { number: 1, unix_ms: clock.unix_ms(), cause: "create".to_string(), edits };
        let mut state = State::default();
        state.apply(&set)?;
        let bytes = frame_of(&set)?;
        let end = format::FIRST_FRAME_AT + bytes.len() as u64;
        let file = current::start_file(&*vfs, dir, FIRST_NUMBER, &Header::new(&state.identity, end))?;
        file.write_at(&bytes, format::FIRST_FRAME_AT)?;
        current::switch(&*vfs, dir, FIRST_NUMBER, &*file)?;
        let numbers = FileNumbers::from(state.next_file);
        Ok(Self {
            vfs,
            clock,
            dir: dir.to_path_buf(),
            file_number: FIRST_NUMBER,
            file,
            end,
            settled: true,
            state,
            torn: None,
            numbers,
            measure_above: format::REWRITE_BYTES_MIN,
            rewrite_bytes_min: format::REWRITE_BYTES_MIN,
            poisoned: None,
        })
    }

    /// Opens the manifest of a data directory: replays it and writes nothing.
    ///
    /// What was replayed may not be durable yet: a process that was killed, or whose sync failed, may have
    /// left a change-set that only the page cache holds. So nothing that cannot be undone (removing files
    /// above all) may be done on the strength of it before the first [`Manifest::append`] or
    /// [`Manifest::settle`] has returned.
    ///
    /// # Errors
    /// [`ManifestError::Missing`] where there is no data, [`ManifestError::LostCurrent`] where there is but
    /// without a `CURRENT`, `Corruption` or `Newer` for bytes that cannot be read, `Io`.
    pub fn open(vfs: Arc<dyn Vfs>, clock: Arc<dyn Clock>, dir: &Path) -> Result<Self, ManifestError> {
        let file_number = current::load(&*vfs, dir)?;
        let file = current::open_named(&*vfs, dir, file_number)?;
        let scan = scan::scan(&*file, |_| Ok(()))?;
        let numbers = FileNumbers::above(scan.state.next_file, &vfs.list(dir)?);
        Ok(Self {
            vfs,
            clock,
            dir: dir.to_path_buf(),
            file_number,
            file,
            end: scan.end,
            settled: false,
            state: scan.state,
            torn: scan.torn,
            numbers,
            measure_above: format::REWRITE_BYTES_MIN,
            rewrite_bytes_min: format::REWRITE_BYTES_MIN,
            poisoned: None,
        })
    }

    /// A file that is mostly history is rewritten when it is longer than this many bytes. Default 1 MiB.
    pub fn set_rewrite_bytes_min(&mut self, bytes: u64) {
        self.rewrite_bytes_min = bytes;
        self.measure_above = bytes;
    }

    /// What the change-sets so far fold to.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The half-written last change-set that [`Manifest::open`] left out, if there was one.
    #[must_use]
    pub fn torn_tail(&self) -> Option<&TornTail> {
        self.torn.as_ref()
    }

    /// Where to take numbers for new files from.
    #[must_use]
    pub fn file_numbers(&self) -> FileNumbers {
        self.numbers.clone()
    }

    /// Name of the manifest file in use.
    #[must_use]
    pub fn file_name(&self) -> String {
        manifest_name(self.file_number)
    }

    /// Checks that change-set `number`, which the caller knows to have been durable, is there: a manifest
    /// that lost its end cannot tell this from never having had one.
    ///
    /// To be called before the first append after [`Manifest::open`]: later, change-sets appended since take
    /// the numbers of the missing ones and hide the loss, and the file that shows it is gone.
    ///
    /// # Errors
    /// [`ManifestError::Corruption`] where the last change-set is an earlier one.
    pub fn require(&self, number: u64) -> Result<(), ManifestError> {
        let last = self.state.number;
        if last >= number {
            return Ok(());
        }
        let why = format!(
            "acknowledged change-sets are missing: {last} is the last one here, but {number} was durable; \
             run `kvadmin check --data-dir {}`",
            self.dir.display()
        );
        Err(ManifestError::corruption(&self.dir.join(self.file_name()), self.end, why))
    }

    /// Adds a change-set and returns its number. It is durable on return.
    ///
    /// The first append after [`Manifest::open`] goes to a new file ([`Manifest::settle`]); one that finds
    /// the file mostly dead rewrites it before.
    ///
    /// # Errors
    /// [`ManifestError::InvalidEdit`]: refused, and nothing was written. After any other error the change-set
    /// may or may not be there when the manifest is opened again; until then every further call fails
    /// with [`ManifestError::Poisoned`].
    pub fn append(&mut self, cause: &str, edits: Vec<Edit>) -> Result<u64, ManifestError> {
        self.usable()?;
        let set = self.next_change_set(cause, edits);
        let bytes = frame_of(&set)?;
        // Judged before anything is written: a file must never hold a change-set that its own replay
        // refuses.
        Fold::run(&mut self.state, &set)?.run(&mut self.state);
        if self.is_mostly_dead()? {
            self.rewrite()?;
        } else {
            self.settle()?;
        }
        let undo = Fold::run(&mut self.state, &set)?;
        if let Err(e) = self.write(&bytes) {
            undo.run(&mut self.state);
            if planted::is("change-set behind a half-written one") {
                self.end += bytes.len() as u64;
                return Err(e.into());
            }
            return Err(self.poison(e.into()));
        }
        self.end += bytes.len() as u64;
        self.numbers.raise_to(self.state.next_file);
        Ok(set.number)
    }

    /// Makes durable what [`Manifest::open`] read, by copying its frames into a new file; does nothing
    /// the second time. Every append does it by itself.
    ///
    /// Why a copy, when a sync and an append behind the last frame would do in most cases:
    /// - Behind a torn change-set nothing may be written: with a frame behind it, it would be damage. And
    ///   cut in place it could come back, whole or in part, with a crash before the cut is durable.
    /// - After a failed sync the kernel may show pages that never reached the disk and take them for clean,
    ///   so that no later sync writes them. A change-set appended behind such pages would be acknowledged
    ///   and then stand behind a hole.
    /// - After a kill between two steps of a switch, `CURRENT` may be the new one for now only.
    ///
    /// # Errors
    /// Those of [`Manifest::append`], and `Corruption` where the file reads otherwise than it did.
    pub fn settle(&mut self) -> Result<(), ManifestError> {
        self.usable()?;
        if self.settled {
            return Ok(());
        }
        if planted::is("manifest appended to behind a torn end") {
            self.file = self.vfs.open(&self.dir.join(self.file_name()), IoMode::Buffered)?;
            self.settled = true;
            return Ok(());
        }
        self.copy().map_err(|e| self.poison(e))
    }

    /// Writes the state down afresh, as one change-set in a new file, and drops the old file with its
    /// history. The number of the last change-set stays what it is.
    ///
    /// # Errors
    /// Those of [`Manifest::append`].
    pub fn rewrite(&mut self) -> Result<(), ManifestError> {
        self.usable()?;
        self.rewrite_state().map_err(|e| self.poison(e))
    }

    /// Has the directory depend on other options from now on ([`Identity::options`]); durable on return. The identity
    /// stands in the first change-set of a file only, so it is a rewrite.
    ///
    /// # Errors
    /// Those of [`Manifest::append`].
    pub fn set_options(&mut self, options: BTreeMap<String, String>) -> Result<(), ManifestError> {
        self.usable()?;
        let before = std::mem::replace(&mut self.state.identity.options, options);
        self.rewrite().inspect_err(|_| self.state.identity.options = before)
    }

    fn next_change_set(&self, cause: &str, mut edits: Vec<Edit>) -> ChangeSet {
        // Recorded before a file with such a number can be part of the state, so that no crash makes
        // `open` hand it out again.
        let next_file = self.numbers.next();
        let said = edits.iter().any(|edit| matches!(edit, Edit::NextFile(next) if *next >= next_file));
        if next_file > self.state.next_file && !said {
            edits.push(Edit::NextFile(next_file));
        }
        let number = self.state.number.saturating_add(1);
        ChangeSet { number, unix_ms: self.clock.unix_ms(), cause: cause.to_string(), edits }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        // One write and one sync: a crash in between leaves any part of the frame, which the next open
        // tells by its CRC, and that there is nothing behind it.
        self.file.write_at(bytes, self.end)?;
        planted::unless("change-set not synced", || self.file.sync_data())
    }

    /// Whether most of the file is history. Measuring the state costs as much as writing it, so it is
    /// measured only when the file has grown past what it was then worth.
    fn is_mostly_dead(&mut self) -> Result<bool, ManifestError> {
        if self.end <= self.measure_above {
            return Ok(false);
        }
        let live = frame_of(&whole_state(&self.state, 0))?.len() as u64;
        self.measure_above = self.rewrite_bytes_min.max(format::REWRITE_RATIO.saturating_mul(live));
        Ok(self.end > self.measure_above)
    }

    fn rewrite_state(&mut self) -> Result<(), ManifestError> {
        let number = self.numbers.take();
        let mut state = self.state.clone();
        state.next_file = state.next_file.max(self.numbers.next());
        let bytes = frame_of(&whole_state(&state, self.clock.unix_ms()))?;
        let end = format::FIRST_FRAME_AT + bytes.len() as u64;
        let file = current::start_file(&*self.vfs, &self.dir, number, &Header::new(&state.identity, end))?;
        file.write_at(&bytes, format::FIRST_FRAME_AT)?;
        self.move_to(number, file, end)?;
        self.state = state;
        Ok(())
    }

    fn copy(&mut self) -> Result<(), ManifestError> {
        let number = self.numbers.take();
        let header = Header::new(&self.state.identity, self.end);
        let file = current::start_file(&*self.vfs, &self.dir, number, &header)?;
        // At the offsets they had. The end of the last one's zeros may be missing in the old file; the
        // length is set so that it is not in the new one.
        file.set_len(self.end)?;
        let again = scan::scan(&*self.file, |frame| Ok(file.write_at(frame.bytes, frame.offset)?))?;
        if again.end != self.end || again.state != self.state {
            let why = "it reads otherwise than when it was opened";
            return Err(ManifestError::corruption(self.file.path(), again.end, why));
        }
        self.move_to(number, file, self.end)
    }

    /// Makes the new file the one in use, and drops the old one.
    fn move_to(&mut self, number: u64, file: Arc<dyn File>, end: u64) -> Result<(), ManifestError> {
        current::switch(&*self.vfs, &self.dir, number, &*file)?;
        let old = std::mem::replace(&mut self.file_number, number);
        self.file = file;
        self.end = end;
        self.settled = true;
        // Not before the new CURRENT is durable: else a power loss may bring back a CURRENT that names a
        // file which is gone. An error is of no consequence: the file is an orphan, and removed with
        // the others at some later open.
        drop(self.vfs.remove(&self.dir.join(manifest_name(old))));
        Ok(())
    }

    fn usable(&self) -> Result<(), ManifestError> {
        match &self.poisoned {
            Some(why) => Err(ManifestError::Poisoned { why: why.clone() }),
            None => Ok(()),
        }
    }

    fn poison(&mut self, error: ManifestError) -> ManifestError {
        self.poisoned = Some(error.to_string());
        error
    }
}

fn frame_of(set: &ChangeSet) -> Result<Vec<u8>, InvalidEdit> {
    let payload = encode_change_set(set);
    let too_large = InvalidEdit::TooLarge { bytes: payload.len(), limit: format::PAYLOAD_BYTES_MAX as usize };
    frame(&payload).ok_or(too_large)
}
