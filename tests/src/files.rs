//! Files as tests lay them out, look at them and damage them.
#![expect(clippy::disallowed_methods, reason = "test fixtures")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

/// Writes a file, and makes the directories above it.
pub fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Reads a file.
#[must_use]
pub fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Makes a directory with these permission bits.
pub fn make_dir(path: &Path, mode: u32) {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Makes a symbolic link to a relative path.
pub fn make_link(to: &str, path: &Path) {
    symlink(to, path).unwrap();
}

/// Makes a named pipe.
pub fn make_pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// Names in a directory, in order.
#[must_use]
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Bytes that the files in a directory take on the disk, as `du` counts them.
#[must_use]
pub fn disk_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().metadata().unwrap().blocks() * 512).sum()
}

/// Number of the device that holds a path.
#[must_use]
pub fn device(path: &Path) -> u64 {
    fs::metadata(path).unwrap().dev()
}

/// Everything below a directory by its relative path; `None`: something that is no regular file. Directories
/// stand for themselves only where they are empty.
#[must_use]
pub fn tree(root: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        let entries: Vec<_> = fs::read_dir(&dir).unwrap().map(Result::unwrap).collect();
        if entries.is_empty() && dir != root {
            found.insert(dir.strip_prefix(root).unwrap().to_owned(), None);
        }
        for entry in entries {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                waiting.push(path);
                continue;
            }
            let content = kind.is_file().then(|| read(&path));
            found.insert(path.strip_prefix(root).unwrap().to_owned(), content);
        }
    }
    found
}

/// The Rust sources below a directory; what a build leaves behind, and hidden directories, are left out.
#[must_use]
pub fn sources(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        for name in names(&dir) {
            let path = dir.join(&name);
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                waiting.push(path);
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    found
}

/// Writes bytes into a file that exists.
pub fn patch(path: &Path, offset: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
    file.sync_all().unwrap();
}

/// Cuts a file.
pub fn truncate(path: &Path, length: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

/// Removes a file.
pub fn remove(path: &Path) {
    fs::remove_file(path).unwrap();
}

/// Flips the lowest bit of a byte.
pub fn flip_bit(path: &Path, offset: u64) {
    let byte = read(path).get(offset as usize).copied().unwrap();
    patch(path, offset, &[byte ^ 1]);
}

/// Segment files of a data directory, oldest first.
#[must_use]
pub fn segments(dir: &Path) -> Vec<PathBuf> {
    names(dir).into_iter().filter(|name| name.ends_with(".seg")).map(|name| dir.join(name)).collect()
}

/// Bytes that a process has had written to disk, as the kernel counts them.
#[must_use]
pub fn bytes_written(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/io")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap();
    line.trim().parse().unwrap()
}
