//! The operating system's file system.
#![expect(clippy::disallowed_methods, reason = "this is the one place that reaches data directories")]

use std::fs;
use std::io::{self, IoSlice, Read as _, Seek as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};
use rustix::io::Errno;

use crate::BLOCK;
use crate::file::{DirEntry, DirLock, File, IoMode, LockError, Space, Vfs, in_context};

/// Slices a single vectored write takes.
const IOV_MAX: usize = 1024;

/// Files as the operating system has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealVfs;

#[derive(Debug)]
struct RealFile {
    file: fs::File,
    path: PathBuf,
    direct: bool,
}

impl RealVfs {
    /// Opens; falls back to the page cache where the file system refuses direct I/O.
    fn open_with(
        op: &str,
        path: &Path,
        mode: IoMode,
        options: &mut fs::OpenOptions,
    ) -> io::Result<Arc<dyn File>> {
        options.mode(0o600);
        if mode == IoMode::Direct {
            match options.clone().custom_flags(OFlags::DIRECT.bits() as i32).open(path) {
                Ok(file) => return Ok(Arc::new(RealFile { file, path: path.into(), direct: true })),
                Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                    // A failed O_DIRECT open may have created the file all the same.
                    options.create_new(false);
                    options.create(op == "create");
                }
                Err(e) => return Err(in_context(op, path, e)),
            }
        }
        let file = options.open(path).map_err(|e| in_context(op, path, e))?;
        Ok(Arc::new(RealFile { file, path: path.into(), direct: false }))
    }
}

impl Vfs for RealVfs {
    fn create(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>> {
        Self::open_with("create", path, mode, fs::OpenOptions::new().read(true).write(true).create_new(true))
    }

    fn open(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>> {
        Self::open_with("open", path, mode, fs::OpenOptions::new().read(true).write(true))
    }

    fn open_read(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>> {
        Self::open_with("open", path, mode, fs::OpenOptions::new().read(true))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to).map_err(|e| in_context(&format!("rename {} to", from.display()), to, e))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).map_err(|e| in_context("remove", path, e))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to).map_err(|e| in_context(&format!("link {} to", from.display()), to, e))
    }

    fn link_count(&self, path: &Path) -> io::Result<u64> {
        fs::metadata(path).map(|m| m.nlink()).map_err(|e| in_context("stat", path, e))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|e| in_context("create directory", path, e))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let entries = || -> io::Result<Vec<DirEntry>> {
            let entry = |entry: io::Result<fs::DirEntry>| {
                let entry = entry?;
                let meta = match entry.metadata() {
                    // Removed since its name was read: a live node's directory may be listed from outside.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                    meta => meta?,
                };
                let (is_dir, name) = (meta.is_dir(), entry.file_name().to_string_lossy().into_owned());
                // Blocks of stat are of 512 bytes, whatever the file system's are.
                let (len, disk_bytes) = if is_dir { (0, 0) } else { (meta.len(), meta.blocks() * 512) };
                Ok(Some(DirEntry { name, is_dir, len, disk_bytes }))
            };
            fs::read_dir(dir)?.filter_map(|name| entry(name).transpose()).collect()
        };
        let mut entries = entries().map_err(|e| in_context("list", dir, e))?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists().map_err(|e| in_context("stat", path, e))
    }

    fn permissions(&self, path: &Path) -> io::Result<u32> {
        let meta = fs::metadata(path).map_err(|e| in_context("stat", path, e))?;
        Ok(meta.permissions().mode() & 0o7777)
    }

    fn same_file_system(&self, a: &Path, b: &Path) -> io::Result<bool> {
        let device =
            |path: &Path| fs::metadata(path).map(|m| m.dev()).map_err(|e| in_context("stat", path, e));
        Ok(device(a)? == device(b)?)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| in_context("sync directory", dir, e))
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn DirLock>, LockError> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).map_err(|e| in_context("open", path, e))?;
        match rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let read = std::io::Read::take(&mut file, 4096).read_to_string(&mut holder);
                let unknown = read.is_err() || holder.trim().is_empty();
                let holder = if unknown { "an unknown process".into() } else { holder.trim().into() };
                return Err(LockError::Held { holder });
            }
            Err(e) => return Err(in_context("lock", path, e.into()).into()),
        }
        let mut write = || -> io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(holder.as_bytes())
        };
        write().map_err(|e| in_context("write", path, e))?;
        Ok(Box::new(RealLock { _file: file }))
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(dir).map_err(|e| in_context("statvfs", dir, e.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Space { available: bytes(stat.f_bavail), total: bytes(stat.f_blocks) })
    }
}

/// The kernel drops the lock with the file, however the process ends.
#[derive(Debug)]
struct RealLock {
    _file: fs::File,
}

impl DirLock for RealLock {}

impl RealFile {
    fn context(&self, op: &str) -> impl Fn(io::Error) -> io::Error + '_ {
        let op = op.to_string();
        move |e| in_context(&op, &self.path, e)
    }

    /// Not left to the file system: some refuse what is not aligned, some silently do it through the page
    /// cache, which is slow, and coherent with direct I/O only by luck.
    fn check_aligned(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let aligned = |n: usize| n.is_multiple_of(BLOCK);
        if !self.direct || [offset as usize, buf.len(), buf.as_ptr().addr()].into_iter().all(aligned) {
            return Ok(());
        }
        let why = "direct I/O with offset, length or address not aligned";
        Err(io::Error::new(io::ErrorKind::InvalidInput, why))
    }

    fn write_slices(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        bufs.iter().try_for_each(|buf| self.check_aligned(offset, buf))?;
        let mut offset = offset;
        for slices in bufs.chunks(IOV_MAX) {
            let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
            let written = loop {
                match rustix::io::pwritev(&self.file, slices, offset) {
                    Err(Errno::INTR) => {}
                    other => break other?,
                }
            };
            // A partial write is finished slice by slice.
            let mut skip = written;
            let mut at = offset + written as u64;
            for slice in slices {
                let rest = slice.get(skip.min(slice.len())..).unwrap_or_default();
                skip = skip.saturating_sub(slice.len());
                self.file.write_all_at(rest, at)?;
                at += rest.len() as u64;
            }
            offset += wanted as u64;
        }
        Ok(())
    }
}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check_aligned(offset, buf).map_err(self.context("read"))?;
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                // A direct read that stops within a block has met the end of the file.
                Ok(n) if self.direct && n % BLOCK != 0 => return Ok(done + n),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.context("read")(e)),
            }
        }
        Ok(done)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let checked = self.check_aligned(offset, buf);
        checked.and_then(|()| self.file.write_all_at(buf, offset)).map_err(self.context("write"))
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.write_slices(bufs, offset).map_err(self.context("write"))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().map_err(self.context("sync"))
    }

    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|meta| meta.len()).map_err(self.context("stat"))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len).map_err(self.context("set length of"))
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(()); // which the kernel refuses
        }
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, len) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(self.context("preallocate")(e.into())),
            }
        }
    }

    fn is_direct(&self) -> bool {
        self.direct
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AlignedBuf;

    #[test]
    fn direct_writes_are_read_back_both_ways() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = RealVfs.create(&path, IoMode::Direct).unwrap();
        let mut buf = AlignedBuf::new();
        buf.extend_from_slice(&[7; 5000]);
        buf.pad_to_block();
        file.write_at(&buf, 4096).unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.len().unwrap(), 3 * 4096);
        let mut back = vec![1; 4096 + 5001];
        let plain = RealVfs.open_read(&path, IoMode::Buffered).unwrap();
        plain.read_exact_at(&mut back, 0).unwrap();
        assert!(back[..4096].iter().all(|b| *b == 0) && back[4096..9096].iter().all(|b| *b == 7));
        let mut back = AlignedBuf::new();
        back.resize(8 * 4096);
        let direct = RealVfs.open_read(&path, IoMode::Direct).unwrap();
        assert_eq!(direct.read_at(back.as_mut_slice(), 4096).unwrap(), 2 * 4096);
        assert_eq!(RealVfs.create(&path, IoMode::Direct).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn direct_writes_are_vectored_and_aligned() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealVfs.create(&dir.path().join("f"), IoMode::Direct).unwrap();
        let mut buf = AlignedBuf::new();
        buf.resize(2 * BLOCK);
        buf.as_mut_slice()[..BLOCK].fill(1);
        buf.as_mut_slice()[BLOCK..].fill(2);
        let slices = [IoSlice::new(&buf[BLOCK..]), IoSlice::new(&buf)];
        file.write_vectored_at(&slices, BLOCK as u64).unwrap();
        let mut back = AlignedBuf::new();
        back.resize(4 * BLOCK);
        file.read_exact_at(back.as_mut_slice(), 0).unwrap();
        assert_eq!(back.chunks(BLOCK).map(|block| block[BLOCK - 1]).collect::<Vec<_>>(), [0, 2, 1, 2]);
        if file.is_direct() {
            let refused = [
                file.write_at(&buf[..100], 0),
                file.write_at(&buf, 100),
                file.write_vectored_at(&[IoSlice::new(&buf[1..=BLOCK])], 0),
                file.read_exact_at(&mut back.as_mut_slice()[..100], 0),
            ];
            assert!(refused.into_iter().all(|done| done.unwrap_err().kind() == io::ErrorKind::InvalidInput));
        }
    }

    #[test]
    fn files_that_refuse_direct_io_are_opened_without() {
        let file = RealVfs.open_read(Path::new("/proc/self/status"), IoMode::Direct).unwrap();
        assert!(!file.is_direct());
        assert!(file.read_at(&mut [0; 10], 3).unwrap() > 0);
    }

    #[test]
    fn vectored_writes_pass_the_limit_of_slices() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealVfs.create(&dir.path().join("f"), IoMode::Buffered).unwrap();
        let bytes: Vec<Vec<u8>> = (0..2500u32).map(|n| vec![n as u8; (n % 7) as usize]).collect();
        let slices: Vec<IoSlice<'_>> = bytes.iter().map(|b| IoSlice::new(b)).collect();
        file.write_vectored_at(&slices, 3).unwrap();
        let expected = [&[0; 3][..], &bytes.concat()].concat();
        let mut back = vec![0; expected.len()];
        file.read_exact_at(&mut back, 0).unwrap();
        assert_eq!(back, expected);
        assert_eq!(file.len().unwrap(), expected.len() as u64);
    }

    #[test]
    fn a_lock_names_its_holder_and_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let lock = RealVfs.lock(&path, "pid 1, a test").unwrap();
        match RealVfs.lock(&path, "pid 2") {
            Err(LockError::Held { holder }) => assert_eq!(holder, "pid 1, a test"),
            other => panic!("{other:?}"),
        }
        drop(lock);
        RealVfs.lock(&path, "pid 2").unwrap();
    }

    #[test]
    fn names_are_listed_renamed_linked_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("x/y");
        RealVfs.create_dir_all(&sub).unwrap();
        assert_eq!(RealVfs.permissions(&sub).unwrap(), 0o700);
        let (a, b) = (sub.join("a"), sub.join("b"));
        let file = RealVfs.create(&a, IoMode::Buffered).unwrap();
        file.preallocate(0).unwrap();
        file.preallocate(1 << 16).unwrap();
        assert!(file.is_empty().unwrap());
        file.write_at(b"hello", 3).unwrap();
        file.set_len(6).unwrap();
        assert_eq!(RealVfs.permissions(&a).unwrap(), 0o600);
        RealVfs.hard_link(&a, &b).unwrap();
        assert_eq!(RealVfs.link_count(&a).unwrap(), 2);
        RealVfs.create_dir_all(&sub.join("dir")).unwrap();
        let listed = RealVfs.list(&sub).unwrap();
        let listed: Vec<_> = listed.iter().map(|e| (e.name.as_str(), e.is_dir, e.len)).collect();
        assert_eq!(listed, [("a", false, 6), ("b", false, 6), ("dir", true, 0)]);
        RealVfs.rename(&a, &b).unwrap();
        RealVfs.remove(&a).unwrap();
        assert!(!RealVfs.exists(&a).unwrap() && RealVfs.exists(&b).unwrap());
        RealVfs.sync_dir(&sub).unwrap();
        assert_eq!(RealVfs.read_all(&b, 6).unwrap(), b"\0\0\0hel");
        assert_eq!(RealVfs.read_all(&b, 5).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let read_only = RealVfs.open_read(&b, IoMode::Buffered).unwrap();
        assert!(read_only.write_at(b"x", 0).is_err());
        let past_the_end = read_only.read_exact_at(&mut [0; 4], 4).unwrap_err();
        assert_eq!(past_the_end.kind(), io::ErrorKind::UnexpectedEof);
        let space = RealVfs.space(&sub).unwrap();
        assert!(space.available <= space.total && space.total > 0);
    }

    #[test]
    fn errors_name_the_operation_and_the_path() {
        let error = RealVfs.open(Path::new("/nowhere/at/all"), IoMode::Buffered).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("open /nowhere/at/all: "), "{error}");
    }
}
