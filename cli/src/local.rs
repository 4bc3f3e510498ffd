//! The user's own files: what `put --file`, `get --out`, `import` and `export` read and write.
//!
//! The only module of this program that opens files; those of a data directory are none of its business.
#![expect(clippy::disallowed_methods, reason = "user files, not a data directory")]

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

/// Runs file access where it does not hold up the network.
///
/// # Errors
/// Those of `work`.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// What a name in a directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, to whatever.
    SymbolicLink,
    /// A pipe, socket or device.
    Special,
}

/// The names in a directory, in no order. Links are not followed.
///
/// # Errors
/// The directory cannot be read.
pub fn list(directory: &Path) -> io::Result<Vec<(OsString, Kind)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        entries.push((entry.file_name(), kind(entry.file_type()?)));
    }
    Ok(entries)
}

fn kind(file_type: fs::FileType) -> Kind {
    match file_type {
        file_type if file_type.is_file() => Kind::File,
        file_type if file_type.is_dir() => Kind::Directory,
        file_type if file_type.is_symlink() => Kind::SymbolicLink,
        _ => Kind::Special,
    }
}

/// Whether there is a directory at this path, or a link to one.
///
/// # Errors
/// There is nothing, or it cannot be looked at.
pub fn is_directory(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.is_dir())
}

/// Length of a regular file, for progress bars; 0 where it cannot be told.
pub fn length_or_zero(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |metadata| metadata.len())
}

/// A regular file open for reading, and what it looked like when it was opened.
pub struct Source {
    file: File,
    length: u64,
    modified: Option<SystemTime>,
}

impl Source {
    /// Opens a regular file. Does not follow a link, and does not wait for a writer of a pipe, in case the
    /// name stands for something else since it was listed.
    ///
    /// # Errors
    /// It cannot be opened, or it is no regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        use rustix::fs::OFlags;
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok(Self { file, length: metadata.len(), modified: metadata.modified().ok() })
    }

    /// Its length in bytes when it was opened.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads exactly these bytes.
    ///
    /// # Errors
    /// The file cannot be read, or has become shorter.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => changed(),
            _ => error,
        })?;
        Ok(bytes)
    }

    /// Call it when everything is read: what was read is the content of one moment.
    ///
    /// # Errors
    /// Length or time of modification are others than when the file was opened.
    pub fn check_unchanged(&self) -> io::Result<()> {
        let metadata = self.file.metadata()?;
        let same = metadata.len() == self.length && metadata.modified().ok() == self.modified;
        if same { Ok(()) } else { Err(changed()) }
    }
}

fn changed() -> io::Error {
    io::Error::other("it changed while it was read; import it again when nobody writes to it")
}

/// Reads a file, or standard input where `path` is `None`, up to `bytes_max`; `Ok(None)`: it is longer.
///
/// # Errors
/// It cannot be read.
pub fn read_up_to(path: Option<&Path>, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let limit = bytes_max.saturating_add(1);
    match path {
        Some(path) => File::open(path)?.take(limit).read_to_end(&mut bytes)?,
        None => io::stdin().lock().take(limit).read_to_end(&mut bytes)?,
    };
    Ok((bytes.len() as u64 <= bytes_max).then_some(bytes))
}

/// A file that appears under its name only when it is complete. Dropped before [`Self::commit`], it
/// leaves nothing.
pub struct Sink {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    committed: AtomicBool,
}

impl Sink {
    /// Writes to `<target>.tmp` first. A link to a file stays a link.
    ///
    /// # Errors
    /// The target is something other than a file, or the directory refuses.
    pub fn beside(target: &Path) -> io::Result<Self> {
        let target = match fs::canonicalize(target) {
            Ok(existing) => existing,
            Err(error) if error.kind() == ErrorKind::NotFound => target.to_owned(),
            Err(error) => return Err(error),
        };
        if fs::metadata(&target).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(io::Error::other("not a regular file; write to standard output instead"));
        }
        let mut temporary = target.clone().into_os_string();
        temporary.push(".tmp");
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&temporary)?;
        Ok(Self { file, temporary: temporary.into(), target, committed: AtomicBool::new(false) })
    }

    /// Writes to a temporary name in the directory of `target` first: a name that no other file has.
    ///
    /// # Errors
    /// The directory refuses.
    pub fn within(target: PathBuf) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let temporary = target.with_file_name(format!(".kvadmin-{}-{number}.tmp", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&temporary) {
                Ok(file) => return Ok(Self { file, temporary, target, committed: AtomicBool::new(false) }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes bytes at a place.
    ///
    /// # Errors
    /// The file cannot be written, a disk being full for instance.
    pub fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Forgets what was written.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn clear(&self) -> io::Result<()> {
        self.file.set_len(0)
    }

    /// Makes the content durable.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Gives the file its name. Nothing may be written any more.
    ///
    /// # Errors
    /// The directory refuses.
    pub fn commit(&self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.target)?;
        self.committed.store(true, Ordering::Release);
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if !*self.committed.get_mut() {
            // Nothing more can be done about a leftover.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Makes the directories of `relative` below `root`.
///
/// # Errors
/// One of them exists and is no directory; a link to one neither, as it could lead out of `root`.
pub fn make_directories(root: &Path, relative: &Path) -> io::Result<()> {
    let mut path = root.to_owned();
    for component in relative.components() {
        path.push(component);
        match fs::create_dir(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if !fs::symlink_metadata(&path)?.is_dir() {
                    return Err(io::Error::other("a file or link is where a directory is needed"));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What is at the place an export shall go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nothing, or an empty directory.
    Empty,
    /// A directory with something in it.
    Filled,
    /// The data directory of a node.
    DataDirectory,
}

/// Looks at the target of an export, and makes it where there is nothing.
///
/// # Errors
/// It cannot be read or made, or is no directory.
pub fn prepare_target(directory: &Path) -> io::Result<Target> {
    fs::create_dir_all(directory)?;
    let names: Vec<OsString> = list(directory)?.into_iter().map(|(name, _)| name).collect();
    let has = |wanted: &str| names.iter().any(|name| name == OsStr::new(wanted));
    Ok(match names.is_empty() {
        true => Target::Empty,
        false if has("CURRENT") && has("LOCK") => Target::DataDirectory,
        false => Target::Filled,
    })
}

/// Makes everything written to the file system of this directory durable.
///
/// # Errors
/// Something could not be written.
pub fn sync_file_system(directory: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(directory)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = list(directory).expect("list").into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("directory");
        let target = dir.path().join("f");
        for make in [|path: &Path| Sink::beside(path), |path: &Path| Sink::within(path.to_owned())] {
            fs::write(&target, b"before").expect("write");
            let sink = make(&target).expect("sink");
            sink.write(b"half", 0).expect("write");
            drop(sink);
            assert_eq!(fs::read(&target).expect("read"), b"before");
            assert_eq!(names(dir.path()), ["f"]);

            let sink = make(&target).expect("sink");
            sink.write(b"lost and longer", 0).expect("write");
            sink.clear().expect("clear");
            sink.write(b"ter", 2).expect("write");
            sink.write(b"af", 0).expect("write");
            sink.sync().expect("sync");
            assert_eq!(fs::read(&target).expect("read"), b"before");
            sink.commit().expect("commit");
            assert_eq!(fs::read(&target).expect("read"), b"after");
            assert_eq!(names(dir.path()), ["f"]);
        }
    }

    #[test]
    fn a_device_is_not_replaced_by_a_file() {
        let error = Sink::beside(Path::new("/dev/null")).err().expect("refused");
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }

    #[test]
    fn a_file_that_changes_is_noticed() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("f");
        fs::write(&path, b"12345").expect("write");
        let source = Source::open(&path).expect("open");
        assert_eq!(source.read(1, 3).expect("read"), b"234");
        source.check_unchanged().expect("unchanged");
        fs::write(&path, b"123456").expect("write");
        assert!(source.check_unchanged().is_err());
        fs::write(&path, b"1").expect("write");
        assert!(source.read(0, 5).expect_err("shorter").to_string().contains("changed"));
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().expect("directory");
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir(&root).expect("root");
        fs::create_dir(&outside).expect("outside");
        fs::write(outside.join("f"), b"x").expect("write");
        std::os::unix::fs::symlink(&outside, root.join("link")).expect("link");
        std::os::unix::fs::symlink(outside.join("f"), root.join("file")).expect("link");
        assert!(Source::open(&root.join("file")).is_err());
        assert!(make_directories(&root, Path::new("link/deeper")).is_err());
        make_directories(&root, Path::new("a/b")).expect("made");
        make_directories(&root, Path::new("a/b/c")).expect("made");
        assert_eq!(names(&outside), ["f"]);
        assert!(is_directory(&root.join("a/b/c")).expect("there"));
    }

    #[test]
    fn a_data_directory_is_recognised() {
        let dir = tempfile::tempdir().expect("directory");
        let target = dir.path().join("new/target");
        assert_eq!(prepare_target(&target).expect("made"), Target::Empty);
        fs::write(target.join("CURRENT"), b"").expect("write");
        assert_eq!(prepare_target(&target).expect("read"), Target::Filled);
        fs::write(target.join("LOCK"), b"").expect("write");
        assert_eq!(prepare_target(&target).expect("read"), Target::DataDirectory);
        assert!(prepare_target(&target.join("LOCK")).is_err());
        sync_file_system(&target).expect("sync");
    }

    #[test]
    fn a_value_from_a_file_is_bounded() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("f");
        fs::write(&path, b"12345").expect("write");
        assert_eq!(read_up_to(Some(&path), 5).expect("read"), Some(b"12345".to_vec()));
        assert_eq!(read_up_to(Some(&path), 4).expect("read"), None);
    }
}
