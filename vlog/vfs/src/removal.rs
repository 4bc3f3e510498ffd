//! Has files removed in another way than at once.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::{DirEntry, DirLock, File, IoMode, LockError, Space, Vfs};

/// Takes the removal of a file over: its name is free on return. `false`: it is to be removed as usual.
type Takes = dyn Fn(&Path) -> bool + Send + Sync;

/// Another file system, of which somebody else removes files, or some of them.
///
/// ```
/// # use std::{path::Path, sync::Arc};
/// # use kv_vfs::{IoMode, MemVfs, RemovalVfs, Vfs};
/// let disk = MemVfs::new();
/// let (old, new) = (Path::new("/file"), Path::new("/file.old"));
/// let renames = disk.clone();
/// let vfs = RemovalVfs::new(Arc::new(disk.clone()), move |path| renames.rename(path, new).is_ok());
/// vfs.create(old, IoMode::Buffered)?;
/// vfs.remove(old)?;
/// assert!(!disk.exists(old)? && disk.exists(new)?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct RemovalVfs {
    inner: Arc<dyn Vfs>,
    takes: Box<Takes>,
}

impl RemovalVfs {
    /// `takes` has the first word on each removal.
    pub fn new(inner: Arc<dyn Vfs>, takes: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Self {
        Self { inner, takes: Box::new(takes) }
    }
}

impl Debug for RemovalVfs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemovalVfs").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Vfs for RemovalVfs {
    fn create(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>> {
        self.inner.create(path, mode)
    }

    fn open(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>> {
        self.inner.open(path, mode)
    }

    fn open_read(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>> {
        self.inner.open_read(path, mode)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if (self.takes)(path) { Ok(()) } else { self.inner.remove(path) }
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.hard_link(from, to)
    }

    fn link_count(&self, path: &Path) -> io::Result<u64> {
        self.inner.link_count(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }

    fn permissions(&self, path: &Path) -> io::Result<u32> {
        self.inner.permissions(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn DirLock>, LockError> {
        self.inner.lock(path, holder)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.inner.space(dir)
    }

    fn same_file_system(&self, a: &Path, b: &Path) -> io::Result<bool> {
        self.inner.same_file_system(a, b)
    }

    fn read_all(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        self.inner.read_all(path, limit)
    }
}
