//! Whose data directory is it? Asked before anything in it is touched.
//!
//! A node works in a directory only if it is its own: nobody else's files, closed to other users, and
//! locked against a second process. What the files mean is the engine's business, not decided here.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use kv_manifest::names::{self, FileName};
use kv_vfs::{DirLock, LockError, Vfs};

/// How many foreign names a message lists.
const FOREIGN_SHOWN: usize = 3;

/// A data directory that this process may use, alone, until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    is_new: bool,
    _lock: Box<dyn DirLock>,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it.
    #[error(
        "data directory {} is in use by {holder}: stop that process, or give this node a directory of its own \
         with --data-dir",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// What that process says of itself.
        holder: String,
    },
    /// Other users could read or write it.
    #[error("data directory {0} has permissions {mode:04o}, open to other users; run: chmod 700 {0}", path.display())]
    TooOpen {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is something else.
    #[error("{} is not a directory; name another with --data-dir", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// It holds files, and none of them is ours.
    #[error(
        "{} holds files that are not kvnode's ({names}); name an empty or a new directory with --data-dir",
        path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The first few of the names.
        names: String,
    },
    /// It holds files of ours but not the one that says which of them count.
    #[error(
        "data directory {} is damaged: it holds {found} but no CURRENT; nothing was changed; restore CURRENT \
         or the whole directory from a backup",
        path.display()
    )]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// One of the files.
        found: String,
    },
    /// The file system refused. The message names the operation and the path.
    #[error("cannot use the data directory: {0}")]
    Io(#[from] io::Error),
}

/// What a process writes into the lock file about itself, for the one that finds it locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process number.
    pub pid: u32,
    /// Where it listens, as configured.
    pub listen: String,
    /// When it took the lock, in milliseconds since 1970.
    pub since_unix_ms: u64,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, listen, since_unix_ms } = self;
        let since = UNIX_EPOCH.checked_add(Duration::from_millis(*since_unix_ms)).unwrap_or(UNIX_EPOCH);
        let since = humantime::format_rfc3339_seconds(since);
        write!(f, "pid {pid} listening on {listen} since {since}")
    }
}

impl DataDir {
    /// Makes the directory where it is missing, checks that it is ours or empty, and locks it.
    ///
    /// # Errors
    /// Nothing is changed in a directory that holds foreign files or is open to others.
    pub fn open(vfs: &dyn Vfs, path: &Path, holder: &Holder) -> Result<Self, DataDirError> {
        // A directory without a CURRENT may be one that a killed process has just made: its name may not be
        // durable yet.
        match vfs.exists(&path.join(names::CURRENT)) {
            Ok(true) => {}
            Ok(false) => kv_vfs::create_dir(vfs, path)?,
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
                return Err(DataDirError::NotADirectory { path: path.into() });
            }
            Err(e) => return Err(e.into()),
        }
        // Foreign first: nobody should be told to `chmod 700 /etc`.
        survey(vfs, path)?.refuse_foreign(path)?;
        let mode = vfs.permissions(path)?;
        if mode & 0o077 != 0 {
            return Err(DataDirError::TooOpen { path: path.into(), mode });
        }
        let lock = match vfs.lock(&path.join(names::LOCK), &holder.to_string()) {
            Ok(lock) => lock,
            Err(LockError::Held { holder }) => return Err(DataDirError::InUse { path: path.into(), holder }),
            Err(LockError::Io(e)) => return Err(e.into()),
        };
        // Only under the lock is it known that nobody is just making the first files.
        let survey = survey(vfs, path)?;
        survey.refuse_foreign(path)?;
        survey.refuse_damaged(path)?;
        Ok(Self { path: path.into(), is_new: !survey.has_current, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it held no data when it was opened.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }
}

/// What kinds of names a directory holds.
#[derive(Debug, Default)]
struct Survey {
    has_current: bool,
    /// The first name that can only have come into being under a `CURRENT`.
    tells: Option<String>,
    /// Whether any name but the lock's is ours.
    has_ours: bool,
    foreign: Vec<String>,
}

impl Survey {
    fn refuse_foreign(&self, path: &Path) -> Result<(), DataDirError> {
        if self.foreign.is_empty() || self.has_ours {
            return Ok(());
        }
        let mut names = self.foreign.iter().take(FOREIGN_SHOWN).cloned().collect::<Vec<_>>().join(", ");
        match self.foreign.len().saturating_sub(FOREIGN_SHOWN) {
            0 => {}
            more => names.push_str(&format!(" and {more} more")),
        }
        Err(DataDirError::Foreign { path: path.into(), names })
    }

    fn refuse_damaged(&self, path: &Path) -> Result<(), DataDirError> {
        match &self.tells {
            Some(found) if !self.has_current => {
                Err(DataDirError::Damaged { path: path.into(), found: found.clone() })
            }
            _ => Ok(()),
        }
    }
}

fn survey(vfs: &dyn Vfs, path: &Path) -> Result<Survey, DataDirError> {
    let entries = vfs.list(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotADirectory => DataDirError::NotADirectory { path: path.into() },
        _ => e.into(),
    })?;
    let mut survey = Survey::default();
    for entry in entries {
        let file = if entry.is_dir { None } else { names::parse(&entry.name) };
        survey.has_ours |= !matches!(file, Some(FileName::Lock) | None);
        match file {
            None => survey.foreign.push(entry.name),
            Some(FileName::Lock | FileName::Temporary) => {}
            Some(FileName::Current) => survey.has_current = true,
            // A crash in the making of a directory leaves the first manifest without a CURRENT; whether
            // it is more than that, kv-manifest finds out.
            Some(FileName::Manifest(0 | 1)) => {}
            // All others have a number.
            Some(_) => {
                survey.tells.get_or_insert(entry.name);
            }
        }
    }
    Ok(survey)
}

/// [`DataDir::open`] for this process, now.
///
/// # Errors
/// As there.
pub fn open(vfs: &Arc<dyn Vfs>, path: &Path, listen: &impl fmt::Display) -> Result<DataDir, DataDirError> {
    use kv_vfs::Clock;
    let holder = Holder {
        pid: std::process::id(),
        listen: listen.to_string(),
        since_unix_ms: kv_vfs::SystemClock::default().unix_ms(),
    };
    DataDir::open(&**vfs, path, &holder)
}

#[cfg(test)]
mod tests;
