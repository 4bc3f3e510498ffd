//! A life with restarts and rewrites, on a file system that may fail at any point, and what may be found
//! there afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use kv_vfs::Vfs;

use super::make::*;
use crate::{ChangeSet, Edit, Manifest, ManifestError, State};

/// How far a life came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// The state after the last step that succeeded; `None` before the manifest was made.
    pub(crate) acknowledged: Option<State>,
    /// What the step that failed would have made of it.
    pub(crate) under_way: Option<State>,
    /// Text of the error that ended it.
    pub(crate) error: Option<String>,
}

impl Run {
    /// Whether a manifest that is opened now may be in this state.
    pub(crate) fn allows(&self, state: &State) -> bool {
        self.acknowledged.iter().chain(&self.under_way).any(|one| same_but_for_next_file(state, one))
    }

    /// Has other options recorded, and keeps book of it.
    fn set_options(&mut self, manifest: &mut Manifest, n: usize) -> Result<(), ManifestError> {
        let options: BTreeMap<_, _> = [("base_bytes".to_owned(), n.to_string())].into();
        let mut after = manifest.state().clone();
        after.identity.options.clone_from(&options);
        self.under_way = Some(after);
        manifest.set_options(options).inspect_err(|_| {
            assert!(self.acknowledged.as_ref().is_some_and(|s| same_but_for_next_file(manifest.state(), s)));
        })?;
        self.acknowledged = Some(manifest.state().clone());
        Ok(())
    }

    /// Appends, and keeps book of it.
    pub(crate) fn append(
        &mut self,
        manifest: &mut Manifest,
        cause: &str,
        edits: Vec<Edit>,
    ) -> Result<(), ManifestError> {
        let mut after = manifest.state().clone();
        let number = after.number + 1;
        // File numbers are left out of the comparison, so let there be enough of them.
        let enough = vec![Edit::NextFile(1000)];
        let set = ChangeSet { number, edits: [edits.clone(), enough].concat(), ..ChangeSet::default() };
        after.apply(&set).unwrap();
        self.under_way = Some(after);
        let appended = manifest.append(cause, edits);
        if let Err(e) = appended {
            let again = manifest.append(cause, Vec::new());
            assert!(matches!(again, Err(ManifestError::Poisoned { .. })), "not poisoned by {e}");
            assert!(matches!(manifest.rewrite(), Err(ManifestError::Poisoned { .. })));
            assert!(matches!(manifest.settle(), Err(ManifestError::Poisoned { .. })));
            // What is not acknowledged does not show.
            assert!(self.acknowledged.as_ref().is_some_and(|s| same_but_for_next_file(manifest.state(), s)));
            return Err(e);
        }
        self.acknowledged = Some(manifest.state().clone());
        Ok(())
    }
}

/// Lives it, up to the first error.
pub(crate) fn run(vfs: &Arc<dyn Vfs>) -> Run {
    let mut run = Run::default();
    run.error = live(vfs, &mut run).err().map(|e| e.to_string());
    run
}

fn live(vfs: &Arc<dyn Vfs>, run: &mut Run) -> Result<(), ManifestError> {
    let mut created = State::default();
    let edits = vec![Edit::Identity(identity()), Edit::NextFile(2)];
    created.apply(&ChangeSet { number: 1, edits, ..ChangeSet::default() }).unwrap();
    run.under_way = Some(created);
    let mut manifest = Manifest::create(vfs.clone(), clock(), dir(), identity())?;
    run.acknowledged = Some(manifest.state().clone());
    for (n, (cause, edits)) in life().into_iter().enumerate() {
        if n % 3 == 2 {
            drop(manifest);
            manifest = Manifest::open(vfs.clone(), clock(), dir())?;
        }
        if n % 4 == 3 {
            run.under_way = None;
            manifest.rewrite()?;
        }
        if n % 5 == 4 {
            run.set_options(&mut manifest, n)?;
        }
        run.append(&mut manifest, cause, edits)?;
    }
    // One frame of many sectors.
    let membership = (0..9000).map(|n| n as u8 | 1).collect();
    let position = crate::LogPosition { term: 1, index: 50 };
    run.append(&mut manifest, "flush", vec![Edit::Flushed { position, membership }])
}
