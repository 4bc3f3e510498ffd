//! What is left of the manifests of a damaged directory. Believes nothing that a checksum does not confirm, but
//! takes what comes before damage, and looks for manifests where no `CURRENT` names one.

use std::path::Path;

use kv_vfs::{IoMode, Vfs};

use crate::check::Problem;
use crate::current;
use crate::edit::ChangeSet;
use crate::error::ManifestError;
use crate::names::{self, CURRENT, FileName, manifest_name};
use crate::scan::scan;
use crate::state::State;

/// The best manifest of a directory.
#[derive(Clone, Debug)]
pub struct Remains {
    /// Name of the file; `None`: not one change-set can be read.
    pub file: Option<String>,
    /// What its change-sets fold to, up to the first that cannot be read.
    pub state: State,
    /// Whether the file can be read to its end, a torn last change-set aside. It may have lost change-sets there
    /// nevertheless: who knows the number of a later one can tell.
    pub is_whole: bool,
    /// What is wrong with it, with `CURRENT`, and with other manifests.
    pub problems: Vec<Problem>,
}

/// Looks for what can be read of the manifests in a directory: of the one that `CURRENT` names, if that is whole,
/// else of the one that goes furthest.
///
/// # Errors
/// `Io` where the directory cannot be listed or a file cannot be read; `Newer`.
pub fn remains(vfs: &dyn Vfs, dir: &Path) -> Result<Remains, ManifestError> {
    let mut problems = Vec::new();
    let named = match current::load(vfs, dir) {
        Ok(number) => Some(number),
        Err(error @ (ManifestError::Io(_) | ManifestError::Newer { .. })) => return Err(error),
        Err(error) => {
            let why = match error {
                ManifestError::Corruption { why, .. } => why,
                _ => "missing".to_owned(),
            };
            problems.push(Problem { file: CURRENT.into(), why });
            None
        }
    };
    let mut found = Vec::new();
    for entry in vfs.list(dir)? {
        let Some(FileName::Manifest(number)) = names::parse(&entry.name).filter(|_| !entry.is_dir) else {
            continue;
        };
        let (state, damage) = read_up_to_damage(vfs, dir, number)?;
        if let Some(why) = &damage {
            problems.push(Problem { file: entry.name, why: why.clone() });
        }
        found.push((number, state, damage.is_none()));
    }
    if let Some(number) = named.filter(|named| found.iter().all(|(number, ..)| number != named)) {
        let why = format!("it names {}, which is missing", manifest_name(number));
        problems.push(Problem { file: CURRENT.into(), why });
    }
    let best = found.into_iter().max_by_key(|(number, state, is_whole)| {
        (*is_whole && named == Some(*number), state.number, *is_whole, *number)
    });
    let (file, state, is_whole) = match best.filter(|(_, state, _)| state.number > 0) {
        Some((number, state, is_whole)) => (Some(manifest_name(number)), state, is_whole),
        None => (None, State::default(), false),
    };
    Ok(Remains { file, state, is_whole, problems })
}

/// What a manifest folds to, and what ends the reading before its end.
fn read_up_to_damage(
    vfs: &dyn Vfs,
    dir: &Path,
    number: u64,
) -> Result<(State, Option<String>), ManifestError> {
    let file = vfs.open_read(&dir.join(manifest_name(number)), IoMode::Buffered)?;
    let mut sets: Vec<ChangeSet> = Vec::new();
    let read = scan(&*file, |frame| {
        sets.push(frame.set);
        Ok(())
    });
    match read {
        Ok(scan) => Ok((scan.state, None)),
        Err(ManifestError::Corruption { offset, why, .. }) => {
            let mut state = State::default();
            // Each has been applied to the ones before when it was read.
            let _ = sets.iter().try_for_each(|set| state.apply(set));
            Ok((state, Some(format!("offset {offset}: {why}"))))
        }
        Err(error) => Err(error),
    }
}
