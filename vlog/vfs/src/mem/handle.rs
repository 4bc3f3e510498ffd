//! Open files and held locks.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, Shared};
use super::node::{FileChange, FileNode};
use crate::BLOCK;
use crate::file::{DirLock, File, IoMode, in_context};
use crate::op::{Op, OpKind};

#[derive(Debug)]
pub(super) struct MemFile {
    pub(super) shared: Arc<Shared>,
    pub(super) file: Arc<FileNode>,
    pub(super) path: PathBuf,
    pub(super) mode: IoMode,
    pub(super) writable: bool,
}

impl MemFile {
    fn begin(&self, disk: &mut Disk, kind: OpKind, offset: u64, len: u64) -> io::Result<()> {
        disk.begin(Op { kind, path: self.path.clone(), to: None, offset, len })
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "opened for reading only"))
    }

    /// A real disk refuses what is not aligned, but only some do, and only where direct I/O works: the
    /// test double is stricter.
    fn check_aligned(&self, offset: u64, buf: &[u8]) {
        if self.mode == IoMode::Direct {
            let aligned = [offset as usize, buf.len(), buf.as_ptr().addr()].map(|n| n % BLOCK == 0);
            let path = self.path.display();
            assert_eq!(aligned, [true; 3], "{path}: direct I/O with offset, length or address not aligned");
        }
    }

    fn write(&self, offset: u64, bytes: Vec<u8>) -> io::Result<()> {
        self.check_writable()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let len = bytes.len() as u64;
        let end = offset.checked_add(len).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut disk = self.shared.disk.lock();
        self.file.check_room(end)?;
        self.begin(&mut disk, OpKind::Write, offset, len)?;
        self.file.change(FileChange::Write { offset, bytes });
        Ok(())
    }
}

impl File for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check_aligned(offset, buf);
        Ok(self.file.state.lock().now.read(offset, buf))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check_aligned(offset, buf);
        self.write(offset, buf.to_vec()).map_err(|e| in_context("write", &self.path, e))
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        bufs.iter().for_each(|buf| self.check_aligned(offset, buf));
        let mut bytes = Vec::with_capacity(bufs.iter().map(|buf| buf.len()).sum());
        bufs.iter().for_each(|buf| bytes.extend_from_slice(buf));
        self.write(offset, bytes).map_err(|e| in_context("write", &self.path, e))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.shared.disk.lock();
        self.begin(&mut disk, OpKind::Sync, 0, 0).map_err(|e| in_context("sync", &self.path, e))?;
        self.file.sync();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.state.lock().now.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let set_len = || {
            self.check_writable()?;
            let mut disk = self.shared.disk.lock();
            self.file.check_room(len)?;
            self.begin(&mut disk, OpKind::SetLen, 0, len)?;
            self.file.change(FileChange::SetLen(len));
            Ok(())
        };
        set_len().map_err(|e| in_context("set length of", &self.path, e))
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        let preallocate = || {
            self.check_writable()?;
            let mut disk = self.shared.disk.lock();
            self.file.check_room(len)?;
            self.begin(&mut disk, OpKind::Preallocate, 0, len)?;
            self.file.reserve(len);
            Ok(())
        };
        preallocate().map_err(|e| in_context("preallocate", &self.path, e))
    }

    fn is_direct(&self) -> bool {
        self.mode == IoMode::Direct
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[derive(Debug)]
pub(super) struct MemLock {
    pub(super) shared: Arc<Shared>,
    pub(super) path: PathBuf,
}

impl DirLock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.shared.disk.lock().locks.remove(&self.path);
    }
}
