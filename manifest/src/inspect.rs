//! Reads a manifest for tools: all change-sets with where they stand. Holds no lock, writes nothing, and
//! so may look at the directory of a running node.

use std::path::Path;

use kv_vfs::Vfs;

use crate::current;
use crate::edit::{ChangeSet, Identity};
use crate::error::ManifestError;
use crate::names::manifest_name;
use crate::scan::{TornTail, scan};
use crate::state::{InvalidEdit, State};

/// How often a manifest is looked for when the node replaces it while it is being opened.
const ATTEMPTS: u32 = 16;

/// One change-set of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Where its frame begins, in bytes from the start of the file.
    pub offset: u64,
    /// Length of the frame in bytes, without the zeros behind it.
    pub length: u64,
    /// The change-set.
    pub change_set: ChangeSet,
}

/// All that a manifest file says.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Whose data it is.
    pub identity: Identity,
    /// Name of the file.
    pub file: String,
    /// The change-sets, oldest first. The first one holds all that came before it.
    pub change_sets: Vec<Recorded>,
    /// What they fold to.
    pub state: State,
    /// A half-written change-set at the end. Beside a running node: perhaps one that it is writing now.
    pub torn_tail: Option<TornTail>,
}

/// Reads the manifest of a data directory.
///
/// # Errors
/// Those of [`crate::Manifest::open`].
pub fn read(vfs: &dyn Vfs, dir: &Path) -> Result<Reading, ManifestError> {
    let mut number = current::load(vfs, dir)?;
    let mut attempt = 1;
    let file = loop {
        match current::open_named(vfs, dir, number) {
            Ok(file) => break file,
            Err(e) => {
                // A running node may have replaced the manifest between the two steps; then CURRENT
                // names another one by now.
                let now = current::load(vfs, dir)?;
                if now == number || attempt == ATTEMPTS {
                    return Err(e);
                }
                number = now;
                attempt += 1;
            }
        }
    };
    let mut change_sets = Vec::new();
    let scan = scan(&*file, |frame| {
        let (offset, length) = (frame.offset, frame.bytes.len() as u64);
        change_sets.push(Recorded { offset, length, change_set: frame.set });
        Ok(())
    })?;
    Ok(Reading {
        identity: scan.state.identity.clone(),
        file: manifest_name(number),
        change_sets,
        state: scan.state,
        torn_tail: scan.torn,
    })
}

impl Reading {
    /// What there was after the change-set of this number; `None` where the file does not go back, or on, so far.
    ///
    /// # Errors
    /// The change-sets contradict each other: they were not read from a file.
    pub fn state_at(&self, number: u64) -> Result<Option<State>, InvalidEdit> {
        let mut state = State::default();
        for recorded in &self.change_sets {
            if recorded.change_set.number > number {
                break;
            }
            state.apply(&recorded.change_set)?;
        }
        Ok((number > 0 && state.number == number).then_some(state))
    }
}
