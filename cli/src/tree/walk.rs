//! Walks a tree of files in the order of their keys.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::local::{self, Kind};

/// What the walk meets. Paths are relative to its root.
#[derive(Debug)]
pub enum Found {
    /// A regular file.
    File(PathBuf),
    /// Something that cannot be a key.
    Skipped(PathBuf, Skip),
    /// A directory that cannot be read.
    Failed(PathBuf, io::Error),
}

/// What cannot be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// It may lead anywhere.
    SymbolicLink,
    /// No file in it gives it a key.
    EmptyDirectory,
    /// A pipe, socket or device: it has no content.
    Special,
}

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SymbolicLink => "symbolic link",
            Self::EmptyDirectory => "empty directory",
            Self::Special => "pipe, socket or device",
        })
    }
}

/// The walk. It holds the names of one directory for each level it is deep.
pub struct Walk {
    root: PathBuf,
    /// Innermost directory last; each with the names still to visit, the next one last.
    levels: Vec<(PathBuf, Vec<(OsString, Kind)>)>,
    start: bool,
}

impl Walk {
    /// A walk below `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), levels: Vec::new(), start: true }
    }

    /// Reads a directory; says what is wrong with it, if anything.
    fn enter(&mut self, relative: PathBuf) -> Option<Found> {
        // `join("")` would put a slash behind the root; harmless, but messages are nicer without.
        let path =
            if relative.as_os_str().is_empty() { self.root.clone() } else { self.root.join(&relative) };
        match local::list(&path) {
            Err(error) => Some(Found::Failed(relative, error)),
            Ok(entries) if entries.is_empty() => Some(Found::Skipped(relative, Skip::EmptyDirectory)),
            Ok(mut entries) => {
                entries.sort_by_cached_key(|entry| std::cmp::Reverse(sort_name(entry)));
                self.levels.push((relative, entries));
                None
            }
        }
    }
}

/// The order of keys is that of whole paths: a directory sorts as its name and a slash.
fn sort_name((name, kind): &(OsString, Kind)) -> Vec<u8> {
    let slash: &[u8] = if *kind == Kind::Directory { b"/" } else { b"" };
    [name.as_bytes(), slash].concat()
}

impl Iterator for Walk {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        if std::mem::take(&mut self.start)
            && let Some(found) = self.enter(PathBuf::new())
        {
            return Some(found);
        }
        loop {
            let (directory, names) = self.levels.last_mut()?;
            let Some((name, kind)) = names.pop() else {
                self.levels.pop();
                continue;
            };
            let path = directory.join(name);
            match kind {
                Kind::File => return Some(Found::File(path)),
                Kind::SymbolicLink => return Some(Found::Skipped(path, Skip::SymbolicLink)),
                Kind::Special => return Some(Found::Skipped(path, Skip::Special)),
                Kind::Directory => {
                    if let Some(found) = self.enter(path) {
                        return Some(found);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(root: &Path, path: &[u8]) {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        local::make_directories(root, path.parent().expect("parent")).expect("directories");
        let sink = local::Sink::within(root.join(path)).expect("file");
        sink.commit().expect("file");
    }

    #[test]
    fn files_come_in_the_order_of_their_keys_and_the_rest_is_named() {
        let dir = tempfile::tempdir().expect("directory");
        let mut expected: Vec<&[u8]> =
            vec![b"a", b"a-b", b"b/c", b"b/c.d", b"b-", b"b0", b"d/e/f", b"n\nl", b"sp ace", b"\xff\xfe"];
        for name in &expected {
            touch(dir.path(), name);
        }
        expected.sort();
        local::make_directories(dir.path(), Path::new("d/empty")).expect("directory");
        std::os::unix::fs::symlink("a", dir.path().join("link")).expect("link");
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).expect("socket");

        let (mut files, mut skipped) = (Vec::new(), Vec::new());
        for found in Walk::new(dir.path()) {
            match found {
                Found::File(path) => files.push(path.as_os_str().as_bytes().to_vec()),
                Found::Skipped(path, why) => skipped.push((path.display().to_string(), why)),
                Found::Failed(path, error) => panic!("{}: {error}", path.display()),
            }
        }
        assert_eq!(files, expected);
        let expected =
            [("d/empty", Skip::EmptyDirectory), ("link", Skip::SymbolicLink), ("socket", Skip::Special)];
        assert_eq!(skipped, expected.map(|(path, why)| (path.to_owned(), why)));
    }

    #[test]
    fn a_root_that_is_empty_or_no_directory_is_said_so() {
        let dir = tempfile::tempdir().expect("directory");
        let found: Vec<_> = Walk::new(dir.path()).collect();
        assert!(
            matches!(found.as_slice(), [Found::Skipped(path, Skip::EmptyDirectory)] if path == Path::new(""))
        );
        touch(dir.path(), b"f");
        let found: Vec<_> = Walk::new(&dir.path().join("f")).collect();
        assert!(matches!(found.as_slice(), [Found::Failed(..)]));
    }
}
