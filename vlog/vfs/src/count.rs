//! Counts what is written, where it is written: no writer can be forgotten.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{DirEntry, DirLock, File, IoMode, LockError, Space, Vfs};

/// Bytes that were written, or tried to be.
pub type Tally = Arc<AtomicU64>;

/// Which tally the writes of a file that is opened by this path go to.
type Tallies = dyn Fn(&Path) -> Option<Tally> + Send + Sync;

/// Another file system, the bytes written to its files counted. Room that is only reserved is not.
///
/// ```
/// # use std::{path::Path, sync::{Arc, atomic::Ordering}};
/// # use kv_vfs::{CountingVfs, IoMode, MemVfs, Tally, Vfs};
/// let written = Tally::default();
/// let tally = written.clone();
/// let vfs = CountingVfs::new(Arc::new(MemVfs::new()), move |_| Some(tally.clone()));
/// vfs.create_dir_all(Path::new("/data"))?;
/// vfs.create(Path::new("/data/file"), IoMode::Buffered)?.write_at(b"12345", 0)?;
/// assert_eq!(written.load(Ordering::Relaxed), 5);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct CountingVfs {
    inner: Arc<dyn Vfs>,
    tallies: Box<Tallies>,
}

impl CountingVfs {
    /// `tallies` says which tally a file's writes go to, by the path that it is opened by; `None`: they are not
    /// counted.
    pub fn new(
        inner: Arc<dyn Vfs>,
        tallies: impl Fn(&Path) -> Option<Tally> + Send + Sync + 'static,
    ) -> Self {
        Self { inner, tallies: Box::new(tallies) }
    }

    fn wrap(&self, path: &Path, inner: Arc<dyn File>) -> Arc<dyn File> {
        match (self.tallies)(path) {
            Some(tally) => Arc::new(CountingFile { inner, tally }),
            None => inner,
        }
    }
}

impl Debug for CountingVfs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CountingVfs").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Vfs for CountingVfs {
    fn create(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>> {
        Ok(self.wrap(path, self.inner.create(path, mode)?))
    }

    fn open(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>> {
        Ok(self.wrap(path, self.inner.open(path, mode)?))
    }

    fn open_read(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>> {
        self.inner.open_read(path, mode)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
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

#[derive(Debug)]
struct CountingFile {
    inner: Arc<dyn File>,
    tally: Tally,
}

impl CountingFile {
    fn count(&self, bytes: usize) {
        self.tally.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl File for CountingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.count(buf.len());
        self.inner.write_at(buf, offset)
    }

    fn write_vectored_at(&self, bufs: &[io::IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.count(bufs.iter().map(|buf| buf.len()).sum());
        self.inner.write_vectored_at(bufs, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn is_empty(&self) -> io::Result<bool> {
        self.inner.is_empty()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        self.inner.preallocate(len)
    }

    fn is_direct(&self) -> bool {
        self.inner.is_direct()
    }

    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_exact_at(buf, offset)
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;
    use crate::MemVfs;

    #[test]
    fn writes_are_counted_by_file_however_it_was_opened() {
        let tallies: [Tally; 2] = Default::default();
        let [a, b] = tallies.clone();
        let vfs =
            CountingVfs::new(Arc::new(MemVfs::new()), move |path| match path.extension()?.to_str()? {
                "a" => Some(a.clone()),
                "b" => Some(b.clone()),
                _ => None,
            });
        vfs.create_dir_all(Path::new("/d")).unwrap();
        let first = vfs.create(Path::new("/d/1.a"), IoMode::Buffered).unwrap();
        first.write_at(b"123", 0).unwrap();
        first.write_vectored_at(&[IoSlice::new(b"45"), IoSlice::new(b"678")], 3).unwrap();
        first.preallocate(1 << 20).unwrap();
        vfs.open(Path::new("/d/1.a"), IoMode::Buffered).unwrap().write_at(b"x", 1).unwrap();
        vfs.create(Path::new("/d/2.b"), IoMode::Buffered).unwrap().write_at(b"12", 0).unwrap();
        vfs.create(Path::new("/d/3.c"), IoMode::Buffered).unwrap().write_at(b"12", 0).unwrap();
        assert_eq!(tallies.map(|tally| tally.load(Ordering::Relaxed)), [9, 2]);
        assert_eq!(vfs.read_all(Path::new("/d/1.a"), 100).unwrap(), b"1x345678");
    }
}
