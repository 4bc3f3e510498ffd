//! A file system in memory that forgets what was not synced.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

mod content;
mod crash;
mod disk;
mod fork;
mod handle;
mod moment;
mod node;
mod rng;
#[cfg(test)]
mod tests;

pub use crash::Survival;
pub use moment::Moment;

use crate::file::{DirEntry, DirLock, File, IoMode, LockError, Space, Vfs, in_context};
use crate::op::{Op, OpKind};
use content::Content;
use disk::{Disk, Shared, names};
use handle::{MemFile, MemLock};
use node::{DirNode, FileNode, Names, Node, Room};

/// The kind of error that every mutating operation ends with once the power is gone (see
/// [`MemVfs::stop_after`]). No file system uses it for anything.
pub const POWER_LOSS: io::ErrorKind = io::ErrorKind::HostUnreachable;

/// Size of the file system while no limit is set, in bytes.
const SIZE: u64 = 1 << 40;

/// A file system in memory that can tell how it would look after a loss of power. Cloning shares it.
///
/// Each file keeps its data as it is now and as it was last synced, with the changes between; each
/// directory the same of its names. [`crash_clone`](Self::crash_clone) makes a new file system of what a
/// real disk could be left with:
///
/// - A file's data and its names are independent: a synced file in a directory that was not synced is lost,
///   and so is a synced file in a synced directory whose own name, above, was not.
/// - A rename or removal that was not synced may come back.
/// - What is synced is never lost.
///
/// It is stricter than real ones: direct I/O which is not aligned panics, so that a mistake shows on a
/// machine where direct I/O does not work. Everything is deterministic. The parent of `/a` is `/`, which
/// needs a sync like any other directory; relative paths start there too.
///
/// ```
/// use std::path::Path;
/// use kv_vfs::mem::Survival;
/// use kv_vfs::{IoMode, MemVfs, Vfs};
///
/// let disk = MemVfs::new();
/// let file = disk.create(Path::new("/a"), IoMode::Buffered)?;
/// file.write_at(b"data", 0)?;
/// file.sync_data()?;
/// assert!(disk.crash_clone(&Survival::Synced).files().is_empty()); // the name was not synced
/// disk.sync_dir(Path::new("/"))?;
/// assert_eq!(disk.crash_clone(&Survival::Synced).read_file(Path::new("/a"))?, b"data");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemVfs {
    shared: Arc<Shared>,
}

impl Default for MemVfs {
    fn default() -> Self {
        let (root, room) = (DirNode::new(0, Names::new()), Arc::new(Room::new(SIZE)));
        Self { shared: Arc::new(Shared { disk: Mutex::new(Disk::new(root, 1)), room }) }
    }
}

impl MemVfs {
    /// An empty file system.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many mutating operations (see [`OpKind::mutates`]) were done.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.shared.disk.lock().done
    }

    /// The latest mutating operations, at most 65,536, in order; the last one is number
    /// [`operations`](Self::operations). Those that failed are not among them.
    #[must_use]
    pub fn log(&self) -> Vec<Op> {
        self.shared.disk.lock().log.iter().cloned().collect()
    }

    /// Cuts the power before the `n`-th mutating operation from now (1: before the next): it and all later
    /// ones fail with [`POWER_LOSS`] and change nothing. Reading goes on, so that the caller can wind up.
    pub fn stop_after(&self, n: u64) {
        let mut disk = self.shared.disk.lock();
        disk.off_after = Some(disk.done.saturating_add(n.saturating_sub(1)));
    }

    /// Whether the power is gone: no more mutating operations can succeed.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.shared.disk.lock().is_off()
    }

    /// A new file system, as this one could be found if the power went now. It counts its operations from
    /// 0, has power, holds no locks, and keeps the limit of [`set_space`](Self::set_space).
    #[must_use]
    pub fn crash_clone(&self, survival: &Survival) -> Self {
        moment::clone_of(&self.shared.disk.lock(), &self.shared.room, survival)
    }

    /// A new file system, as the next process finds this one when this process is killed: all is there, and
    /// what was not synced still is not.
    #[must_use]
    pub fn kill_clone(&self) -> Self {
        moment::fork_of(&self.shared.disk.lock(), &self.shared.room)
    }

    /// Has this called before each mutating operation from now on that is about to succeed, in its thread;
    /// in place of the one called until now. It must not use this file system, only the moment it is given.
    pub fn before_each(&self, call: impl FnMut(&Moment<'_>) + Send + 'static) {
        self.shared.disk.lock().watch = Some(moment::Watch::new(&self.shared.room, call));
    }

    /// Ends what [`before_each`](Self::before_each) began.
    pub fn unwatch(&self) {
        self.shared.disk.lock().watch = None;
    }

    /// Sets how many more bytes files may take. Growth beyond that, by writes, `set_len` or `preallocate`,
    /// fails with `StorageFull` and changes nothing. Removing gives room back when no handle is open and
    /// the removal is synced.
    pub fn set_space(&self, available: u64) {
        let room = &self.shared.room;
        room.set_limit(room.used().saturating_add(available));
    }

    /// From now on files are opened without direct I/O, as on a file system that has none.
    pub fn refuse_direct(&self) {
        self.shared.disk.lock().refuses_direct = true;
    }

    /// As after a sync of the file that has failed: what was not synced is read as before, but taken for clean. No later
    /// sync writes it, and a loss of power takes it.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`.
    pub fn lose_unsynced(&self, path: &Path) -> io::Result<()> {
        self.with_disk("lose", path, |disk| {
            disk.find_file(path).map(|file| file.state.lock().unsynced.clear())
        })
    }

    /// Damages one byte of a file, as it is now and as it is synced, by `xor`.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` at or beyond the end of the file.
    pub fn corrupt(&self, path: &Path, offset: u64, xor: u8) -> io::Result<()> {
        let corrupt = || {
            let file = self.shared.disk.lock().find_file(path)?;
            let state = &mut *file.state.lock();
            if offset >= state.now.len() {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            for content in [&mut state.now, &mut state.synced] {
                let mut byte = [0];
                if content.read(offset, &mut byte) == 1 {
                    content.write(offset, &byte.map(|byte| byte ^ xor));
                }
            }
            Ok(())
        };
        corrupt().map_err(|e| in_context("corrupt", path, e))
    }

    /// The whole of a file.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`.
    pub fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.shared.disk.lock().find_file(path).map_err(|e| in_context("read", path, e))?;
        Ok(file.state.lock().now.to_bytes())
    }

    /// Puts a file there, or replaces its data, as if all of it, and the directories above, had always been
    /// there: synced, not counted as an operation, limit of space or not.
    ///
    /// # Errors
    /// `NotADirectory`, `IsADirectory`.
    pub fn write_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.shared.disk.lock();
        let content = Content::from_bytes(bytes);
        let written = match disk.find_file(path) {
            Ok(file) => {
                file.replace(content);
                file.state.lock().links -= 1;
                disk.put_synced(path, file)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let file = FileNode::with_content(disk.take_id(), &self.shared.room, content);
                disk.put_synced(path, file)
            }
            Err(e) => Err(e),
        };
        written.map_err(|e| in_context("write", path, e))
    }

    /// Every name of a file, sorted by directory.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        fn collect(dir: &DirNode, path: &Path, files: &mut Vec<PathBuf>) {
            for (name, node) in &dir.state.lock().now {
                match node {
                    Node::Dir(dir) => collect(dir, &path.join(name), files),
                    Node::File(_) => files.push(path.join(name)),
                }
            }
        }
        let mut files = Vec::new();
        collect(&self.shared.disk.lock().root, Path::new("/"), &mut files);
        files
    }

    fn handle(&self, path: &Path, file: Arc<FileNode>, mode: IoMode, writable: bool) -> Arc<dyn File> {
        let mode = if self.shared.disk.lock().refuses_direct { IoMode::Buffered } else { mode };
        Arc::new(MemFile { shared: self.shared.clone(), file, path: path.into(), mode, writable })
    }

    fn open_with(&self, path: &Path, mode: IoMode, writable: bool) -> io::Result<Arc<dyn File>> {
        let file = self.shared.disk.lock().find_file(path).map_err(|e| in_context("open", path, e))?;
        Ok(self.handle(path, file, mode, writable))
    }

    fn with_disk<T>(
        &self,
        op: &str,
        path: &Path,
        f: impl FnOnce(&mut Disk) -> io::Result<T>,
    ) -> io::Result<T> {
        f(&mut self.shared.disk.lock()).map_err(|e| in_context(op, path, e))
    }
}

impl Vfs for MemVfs {
    fn create(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>> {
        let file = self.with_disk("create", path, |disk| {
            let (dir, name) = disk.parent(path)?;
            if dir.get(&name).is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            disk.begin_named(OpKind::Create, path, None)?;
            let file = FileNode::new(disk.take_id(), &self.shared.room);
            file.state.lock().links = 1;
            dir.change(vec![(name, Some(Node::File(file.clone())))]);
            Ok(file)
        })?;
        Ok(self.handle(path, file, mode, true))
    }

    fn open(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>> {
        self.open_with(path, mode, true)
    }

    fn open_read(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>> {
        self.open_with(path, mode, false)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with_disk(&format!("rename {} to", from.display()), to, |disk| {
            let node = disk.find(from)?;
            let ((from_dir, from_name), (to_dir, to_name)) = (disk.parent(from)?, disk.parent(to)?);
            if matches!(node, Node::Dir(_)) && names(to)?.starts_with(&names(from)?) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let replaced = match (&node, to_dir.get(&to_name)) {
                (_, None) => None,
                (Node::File(file), Some(Node::File(other))) if Arc::ptr_eq(file, &other) => return Ok(()),
                (Node::File(_), Some(Node::File(other))) => Some(other),
                (Node::File(_), Some(Node::Dir(_))) => return Err(io::ErrorKind::IsADirectory.into()),
                (Node::Dir(_), Some(Node::File(_))) => return Err(io::ErrorKind::NotADirectory.into()),
                (Node::Dir(_), Some(Node::Dir(dir))) if dir.state.lock().now.is_empty() => None,
                (Node::Dir(_), Some(Node::Dir(_))) => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
            };
            disk.begin_named(OpKind::Rename, from, Some(to))?;
            if let Some(replaced) = replaced {
                replaced.state.lock().links -= 1;
            }
            if Arc::ptr_eq(&from_dir, &to_dir) {
                to_dir.change(vec![(from_name, None), (to_name, Some(node))]);
            } else {
                to_dir.change(vec![(to_name, Some(node))]);
                from_dir.change(vec![(from_name, None)]);
            }
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.with_disk("remove", path, |disk| {
            let file = disk.find_file(path)?;
            let (dir, name) = disk.parent(path)?;
            disk.begin_named(OpKind::Remove, path, None)?;
            file.state.lock().links -= 1;
            dir.change(vec![(name, None)]);
            Ok(())
        })
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with_disk(&format!("link {} to", from.display()), to, |disk| {
            let file = disk.find_file(from)?;
            let (dir, name) = disk.parent(to)?;
            if dir.get(&name).is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            disk.begin_named(OpKind::Link, from, Some(to))?;
            file.state.lock().links += 1;
            dir.change(vec![(name, Some(Node::File(file)))]);
            Ok(())
        })
    }

    fn link_count(&self, path: &Path) -> io::Result<u64> {
        let file = self.with_disk("stat", path, |disk| disk.find_file(path))?;
        Ok(file.state.lock().links)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.with_disk("create directory", path, |disk| {
            let mut dir = disk.root.clone();
            let mut reached = PathBuf::from("/");
            for name in names(path)? {
                reached.push(&name);
                dir = match dir.get(&name) {
                    Some(Node::Dir(next)) => next,
                    Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                    None => {
                        disk.begin_named(OpKind::CreateDir, &reached, None)?;
                        let next = DirNode::new(disk.take_id(), Names::new());
                        dir.change(vec![(name, Some(Node::Dir(next.clone())))]);
                        next
                    }
                };
            }
            Ok(())
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = self.with_disk("list", dir, |disk| disk.find_dir(dir))?;
        let entry = |(name, node): (&String, &Node)| match node {
            Node::Dir(_) => DirEntry { name: name.clone(), is_dir: true, len: 0, disk_bytes: 0 },
            Node::File(file) => {
                let len = file.state.lock().now.len();
                DirEntry { name: name.clone(), is_dir: false, len, disk_bytes: len }
            }
        };
        Ok(dir.state.lock().now.iter().map(entry).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.with_disk("stat", path, |disk| match disk.find(path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        })
    }

    fn permissions(&self, path: &Path) -> io::Result<u32> {
        self.with_disk("stat", path, |disk| match disk.find(path)? {
            Node::Dir(_) => Ok(0o700),
            Node::File(_) => Ok(0o600),
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.with_disk("sync directory", dir, |disk| {
            let found = disk.find_dir(dir)?;
            disk.begin_named(OpKind::SyncDir, dir, None)?;
            found.sync();
            Ok(())
        })
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn DirLock>, LockError> {
        let lock = {
            let mut disk = self.shared.disk.lock();
            let path = PathBuf::from_iter(names(path).map_err(|e| in_context("lock", path, e))?);
            if let Some(holder) = disk.locks.get(&path) {
                return Err(LockError::Held { holder: holder.clone() });
            }
            disk.locks.insert(path.clone(), holder.to_string());
            MemLock { shared: self.shared.clone(), path }
        };
        let file = match self.create(path, IoMode::Buffered) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.open(path, IoMode::Buffered)?,
            created => created?,
        };
        file.set_len(0)?;
        file.write_at(holder.as_bytes(), 0)?;
        Ok(Box::new(lock))
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.with_disk("statvfs", dir, |disk| disk.find(dir).map(|_| ()))?;
        let total = self.shared.room.limit();
        Ok(Space { available: total.saturating_sub(self.shared.room.used()), total })
    }
}
