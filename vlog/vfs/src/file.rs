//! File access behind two traits: [`Vfs`] for directories and names, [`File`] for contents.
//!
//! Errors are `std::io::Error`; implementations put the path and the operation into the message, so that
//! an error reads `open /data/00000007.seg: No such file or directory`, keeping the [`io::ErrorKind`] and,
//! where there is one, reachable through it the OS error.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::BLOCK;

/// How the bytes of a file travel between memory and the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoMode {
    /// Through the page cache; any offset, length and address.
    Buffered,
    /// Past the page cache where the file system allows it, else buffered (see [`File::is_direct`]).
    /// Offsets, lengths and addresses must be multiples of [`BLOCK`]; use [`AlignedBuf`].
    Direct,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The last component of the path. Names that are not UTF-8 are given lossily: none of ours is.
    pub name: String,
    /// Whether the name is a directory.
    pub is_dir: bool,
    /// Length in bytes; 0 for a directory.
    pub len: u64,
    /// Bytes of the disk that the file takes: more than its length where room was reserved, less where it has
    /// holes; 0 for a directory.
    pub disk_bytes: u64,
}

/// Room on the file system that holds a directory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that an unprivileged process may still use.
    pub available: u64,
    /// Size of the file system.
    pub total: u64,
}

/// Holds a directory's lock until dropped.
pub trait DirLock: Send + Sync + Debug {}

/// Why a directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it. `holder` is what that process wrote about itself, e.g. `pid 4711`.
    #[error("held by {holder}")]
    Held {
        /// The holder's own words; `an unknown process` where it wrote nothing readable.
        holder: String,
    },
    /// The lock file could not be opened or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A file system: the names. All paths are taken as given; implementations do not resolve `..`.
pub trait Vfs: Send + Sync + Debug + 'static {
    /// Creates a new, empty file for reading and writing; `AlreadyExists` where the name is taken.
    /// Its directory entry is durable only after [`Vfs::sync_dir`] of the parent.
    fn create(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>>;

    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>>;

    /// Opens an existing file for reading only; works in a directory one may not write to.
    fn open_read(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>>;

    /// Atomically replaces `to` by `from`; durable only after [`Vfs::sync_dir`] of the parent(s).
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; durable only after [`Vfs::sync_dir`] of the parent.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Gives `from` the second name `to`.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// How many names the file has.
    fn link_count(&self, path: &Path) -> io::Result<u64>;

    /// Creates the directory, mode 0700, and those above it that are missing.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted, without `.` and `..`.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// Whether there is such a file or directory.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Permission bits (`0o700`) of a file or directory, without its type.
    fn permissions(&self, path: &Path) -> io::Result<u32>;

    /// Makes the names in `dir` durable: creations, renames and removals done before.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the lock file `path` (made where missing) for this process and writes `holder` into it, or
    /// says who has it. The lock ends with the returned value or with the process, however it ends.
    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn DirLock>, LockError>;

    /// Room on the file system of `dir`.
    fn space(&self, dir: &Path) -> io::Result<Space>;

    /// Whether both paths, which are there, are on one file system: what is on one can have a name on the other.
    fn same_file_system(&self, _a: &Path, _b: &Path) -> io::Result<bool> {
        Ok(true)
    }

    /// Reads a whole file, refusing one longer than `limit` bytes with `InvalidData`.
    fn read_all(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.open_read(path, IoMode::Buffered)?;
        let len = file.len()?;
        if len > limit {
            let why = format!("read {}: {len} bytes, over the limit of {limit}", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

/// An open file: the contents. Safe to use from many threads at once.
pub trait File: Send + Sync + Debug {
    /// Reads at `offset` into `buf`; returns how many bytes were there, fewer than asked for only at the
    /// end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `buf` at `offset`, growing the file where needed. After an error any part of it may
    /// have been written.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bufs`, one after the other, from `offset` on; as [`File::write_at`] otherwise.
    fn write_vectored_at(&self, bufs: &[io::IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Makes the contents, and the length needed to read them back, durable (`fdatasync`).
    /// After an error nothing is known of what was written since the last success: never retry.
    fn sync_data(&self) -> io::Result<()>;

    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file holds no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or zero-extends to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves disk blocks for `[0, len)` without changing the length; a hint: does nothing where the
    /// file system cannot, but says so when there is no room (`StorageFull`).
    fn preallocate(&self, len: u64) -> io::Result<()>;

    /// Whether I/O really goes past the page cache.
    fn is_direct(&self) -> bool;

    /// The path it was opened by.
    fn path(&self) -> &Path;

    /// Fills `buf` from `offset`, or fails with `UnexpectedEof`.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let got = self.read_at(buf, offset)?;
        if got == buf.len() {
            return Ok(());
        }
        let why = format!(
            "read {}: {} bytes wanted at offset {offset}, {got} there",
            self.path().display(),
            buf.len()
        );
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, why))
    }
}

/// Adds the operation and the path to an error, keeping its kind.
pub(crate) fn in_context(op: &str, path: &Path, e: io::Error) -> io::Error {
    io::Error::new(e.kind(), PathError { op: op.to_string(), path: path.to_path_buf(), source: e })
}

#[derive(Debug, thiserror::Error)]
#[error("{op} {}: {source}", path.display())]
struct PathError {
    op: String,
    path: PathBuf,
    source: io::Error,
}

/// A growable buffer whose address is a multiple of [`BLOCK`], for direct I/O.
///
/// Touching new memory is slow: keep and reuse these.
pub struct AlignedBuf {
    blocks: Vec<Block>,
    len: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK]);

impl AlignedBuf {
    /// An empty buffer that holds no memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { blocks: Vec::new(), len: 0 }
    }

    /// An empty buffer with room for `bytes`.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { blocks: Vec::with_capacity(bytes.div_ceil(BLOCK)), len: 0 }
    }

    /// Bytes written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes there is memory for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.blocks.capacity() * BLOCK
    }

    /// Forgets the content, keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Gives memory back until at most `bytes` (or what is written, if more) are held.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.blocks.truncate(self.len.div_ceil(BLOCK));
        self.blocks.shrink_to(bytes.div_ceil(BLOCK));
    }

    /// Cuts, or extends with zeroes, to `len` bytes.
    pub fn resize(&mut self, len: usize) {
        let old = self.len;
        self.grow_to(len);
        self.len = len;
        if let Some(new) = self.bytes_mut().get_mut(old..len) {
            new.fill(0); // blocks that are reused hold old bytes
        }
    }

    /// Extends with zeroes to a multiple of [`BLOCK`].
    pub fn pad_to_block(&mut self) {
        self.resize(self.len.next_multiple_of(BLOCK));
    }

    /// Appends bytes.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let start = self.len;
        self.grow_to(start + bytes.len());
        self.len = start + bytes.len();
        if let Some(place) = self.bytes_mut().get_mut(start..start + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// The content.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes().get(..self.len).unwrap_or_default()
    }

    /// The content.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let len = self.len;
        self.bytes_mut().get_mut(..len).unwrap_or_default()
    }

    fn grow_to(&mut self, len: usize) {
        let blocks = len.div_ceil(BLOCK);
        if blocks > self.blocks.len() {
            self.blocks.resize(blocks, Block([0; BLOCK]));
        }
    }

    #[expect(unsafe_code, reason = "blocks are plain bytes; std has no safe view of aligned arrays as bytes")]
    fn bytes(&self) -> &[u8] {
        // SAFETY: `Block` is `repr(C)`, exactly `BLOCK` initialised bytes long and without padding, so the
        // vector's elements are `len * BLOCK` contiguous bytes; the borrow of `self` covers the slice.
        unsafe { std::slice::from_raw_parts(self.blocks.as_ptr().cast::<u8>(), self.blocks.len() * BLOCK) }
    }

    #[expect(unsafe_code, reason = "as `bytes`")]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; the borrow is exclusive, and any byte is valid in a `Block`.
        unsafe {
            std::slice::from_raw_parts_mut(self.blocks.as_mut_ptr().cast::<u8>(), self.blocks.len() * BLOCK)
        }
    }
}

impl Default for AlignedBuf {
    fn default() -> Self {
        Self::new()
    }
}

impl std::ops::Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Debug for AlignedBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlignedBuf").field("len", &self.len).field("capacity", &self.capacity()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_holds_what_was_put() {
        let mut buf = AlignedBuf::with_capacity(5000);
        assert!(buf.is_empty() && buf.capacity() >= 2 * BLOCK);
        buf.extend_from_slice(b"ab");
        buf.extend_from_slice(&[7; BLOCK]);
        assert_eq!(buf.as_ptr().addr() % BLOCK, 0);
        assert_eq!(buf[..3], [b'a', b'b', 7]);
        assert_eq!(buf.len(), BLOCK + 2);
        buf.pad_to_block();
        assert_eq!(buf.len(), 2 * BLOCK);
        assert!(buf[BLOCK + 2..].iter().all(|byte| *byte == 0));
        buf.as_mut_slice()[0] = b'x';
        assert_eq!(buf[0], b'x');
    }

    #[test]
    fn memory_used_before_comes_back_as_zeroes() {
        let mut buf = AlignedBuf::new();
        buf.extend_from_slice(&[9; 3 * BLOCK]);
        buf.clear();
        buf.extend_from_slice(b"a");
        buf.pad_to_block();
        buf.resize(2 * BLOCK + 7);
        assert!(buf[1..].iter().all(|byte| *byte == 0));
        buf.as_mut_slice().fill(9);
        buf.resize(5);
        buf.resize(BLOCK);
        assert!(buf[..5].iter().all(|byte| *byte == 9) && buf[5..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn memory_is_given_back_but_not_what_is_in_use() {
        let mut buf = AlignedBuf::new();
        buf.extend_from_slice(&[9; 10 * BLOCK]);
        buf.resize(BLOCK + 1);
        buf.shrink_to(0);
        assert!(buf.capacity() >= 2 * BLOCK && buf.capacity() < 10 * BLOCK);
        assert_eq!(buf[..], [9; BLOCK + 1]);
        buf.clear();
        buf.shrink_to(0);
        assert_eq!(buf.capacity(), 0);
        assert!(buf.as_slice().is_empty());
    }

    #[test]
    fn context_keeps_the_kind_and_the_cause() {
        let error = in_context("open", Path::new("/a"), io::Error::from_raw_os_error(2));
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("open /a: "));
        let source = std::error::Error::source(&error).and_then(|e| e.downcast_ref::<io::Error>());
        assert_eq!(source.and_then(io::Error::raw_os_error), Some(2));
    }
}
