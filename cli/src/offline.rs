//! Looking into a data directory: no lock is taken, nothing is written, a node may run beside it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_lsm::StoreError;
use kv_lsm::table::TableError;
use kv_manifest::{Reading, State};
use kv_vfs::{RealVfs, Vfs};

use crate::exit::{Exit, Failure};
use crate::progress::message;

/// A data directory, and what its manifest says.
pub struct Directory {
    /// The file system.
    pub vfs: Arc<dyn Vfs>,
    /// Where it is.
    pub path: PathBuf,
    /// The manifest.
    pub reading: Reading,
}

impl Directory {
    /// Reads the manifest of the directory.
    ///
    /// # Errors
    /// There is no data, or it is damaged, or newer than this program.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
        let reading = kv_manifest::read(&*vfs, path).map_err(failure)?;
        if let Some(torn) = &reading.torn_tail {
            let (file, offset, why) = (&reading.file, torn.offset, &torn.why);
            message(&format!(
                "note: {file} ends in a change-set that is not whole, at offset {offset}: {why}"
            ));
        }
        Ok(Self { vfs, path: path.into(), reading })
    }

    /// What exists.
    pub fn state(&self) -> &State {
        &self.reading.state
    }
}

/// What a failed look into a data directory means to the user.
pub fn failure(error: impl Into<StoreError>) -> Failure {
    let error = error.into();
    match &error {
        _ if error.is_damage() => Failure::new(Exit::Corruption, error.to_string()),
        StoreError::Table(TableError::Foreign { .. }) => Failure::new(Exit::Corruption, error.to_string()),
        StoreError::Io(io) | StoreError::Table(TableError::Io(io)) if io.kind() == ErrorKind::NotFound => {
            let hint = "a running node may have removed it meanwhile, then run this again; if none runs, the \
                        file is lost: see `kvadmin check`";
            Failure::error(format!("{error}; {hint}"))
        }
        _ => Failure::error(error.to_string()),
    }
}

/// A segment or table that the manifest does not name.
pub fn not_found(what: &str, number: u64, directory: &Directory) -> Failure {
    let (dir, file) = (directory.path.display(), &directory.reading.file);
    Failure::new(Exit::NotFound, format!("there is no {what} {number} in {dir} ({file} does not name it)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_and_other_errors_have_their_exit_codes() {
        let io = |kind: ErrorKind| StoreError::Io(kind.into());
        let foreign = TableError::Foreign {
            file: "00000007.sst".into(),
            field: "table id",
            found: "8".into(),
            expected: "7".into(),
        };
        for (error, exit, text) in [
            (StoreError::Damaged("0001.sst: missing".into()), Exit::Corruption, "0001.sst"),
            (foreign.into(), Exit::Corruption, "00000007.sst"),
            (io(ErrorKind::NotFound), Exit::Error, "run this again"),
            (io(ErrorKind::PermissionDenied), Exit::Error, "denied"),
        ] {
            let failure = failure(error);
            assert_eq!(failure.exit, exit);
            assert!(failure.to_string().contains(text), "{failure}");
        }
    }
}
