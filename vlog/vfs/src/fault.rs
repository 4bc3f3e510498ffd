//! A file system that fails on purpose, around any other.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;

use crate::BLOCK;
use crate::file::{DirEntry, DirLock, File, IoMode, LockError, Space, Vfs, in_context};
use crate::op::OpKind;

/// Which operations fail, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The kind of operation.
    pub op: OpKind,
    /// A part of the path as it is given to the file system; empty for every path. Either path of a rename
    /// or link counts; a file has the path it was opened by, whatever its names are now.
    pub path_contains: String,
    /// The first such operation that fails, counted from 1 since the rule was set (0 is taken as 1).
    pub nth: u64,
    /// Whether later ones fail as well.
    pub times: Times,
    /// What happens to them.
    pub error: Fault,
}

/// How often a rule applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// To the `nth` operation alone.
    Once,
    /// To the `nth` and all later ones.
    Forever,
}

/// How an operation fails. Nothing of it is done, except for a short write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `EIO`: the device failed.
    Eio,
    /// `ENOSPC` (`StorageFull`): no room.
    Enospc,
    /// The first bytes are written (with direct I/O whole blocks of them), then the write fails with
    /// `WriteZero`. Operations other than writes fail with `EIO`.
    ShortWrite {
        /// How many; if the write has fewer, it is done in full, and fails all the same.
        bytes: usize,
    },
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::Eio => io::Error::from_raw_os_error(Errno::IO.raw_os_error()),
            Self::Enospc => io::Error::from_raw_os_error(Errno::NOSPC.raw_os_error()),
            Self::ShortWrite { .. } => io::Error::new(io::ErrorKind::WriteZero, "only a part was written"),
        }
    }
}

/// Passes every operation on to another file system, except those that a [`Rule`] fails. Cloning shares
/// the rules. Files opened through it obey rules that are set later.
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
/// use kv_vfs::fault::{Fault, FaultVfs, Rule, Times};
/// use kv_vfs::{IoMode, MemVfs, OpKind, Vfs};
///
/// let vfs = FaultVfs::new(Arc::new(MemVfs::new()));
/// let file = vfs.create(Path::new("/a.seg"), IoMode::Buffered)?;
/// vfs.fail(Rule {
///     op: OpKind::Sync,
///     path_contains: ".seg".into(),
///     nth: 2,
///     times: Times::Forever,
///     error: Fault::Eio,
/// });
/// file.sync_data()?;
/// assert!(file.sync_data().is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct FaultVfs {
    inner: Arc<dyn Vfs>,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    state: Mutex<State>,
    observer: Mutex<Option<Observer>>,
}

/// Called with each operation and which of its kind it is, from 1.
type Observer = Arc<dyn Fn(OpKind, u64) + Send + Sync>;

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faults").field("state", &self.state).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    /// Each with how many operations it has met.
    rules: Vec<(Rule, u64)>,
    counts: BTreeMap<OpKind, u64>,
    failed: u64,
    barriers: Vec<Arc<Barrier>>,
    /// By a part of the path.
    delays: Vec<(String, Duration)>,
}

impl FaultVfs {
    /// Wraps a file system; no operation fails yet.
    pub fn new(inner: Arc<dyn Vfs>) -> Self {
        Self { inner, faults: Arc::default() }
    }

    /// Adds a rule. Of several that apply to an operation, the one added first decides; all count it.
    pub fn fail(&self, rule: Rule) {
        self.faults.state.lock().rules.push((rule, 0));
    }

    /// Has this called with each operation from now on and its number among those of its kind ([`Rule::nth`]
    /// of a rule for every path that is set at the start), in its thread, whether it then fails or not.
    pub fn observe(&self, observer: impl Fn(OpKind, u64) + Send + Sync + 'static) {
        *self.faults.observer.lock() = Some(Arc::new(observer));
    }

    /// Drops all rules. Counts stay; syncs that are blocked stay blocked.
    pub fn clear(&self) {
        self.faults.state.lock().rules.clear();
    }

    /// How many operations of this kind were asked for, failed ones included.
    #[must_use]
    pub fn count(&self, op: OpKind) -> u64 {
        self.faults.state.lock().counts.get(&op).copied().unwrap_or(0)
    }

    /// How many operations failed by a rule.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.faults.state.lock().failed
    }

    /// From now on, each `sync_data` of a file whose path contains this blocks its thread until the handle
    /// is released or dropped. Needs workers with threads of their own: a stepped simulation would stop.
    #[must_use = "dropping the handle lets the syncs go on"]
    pub fn block_sync(&self, path_contains: &str) -> BlockedSync {
        let barrier = Arc::new(Barrier { path_contains: path_contains.into(), ..Barrier::default() });
        self.faults.state.lock().barriers.push(barrier.clone());
        BlockedSync { barrier, faults: self.faults.clone() }
    }

    /// From now on, each `sync_data` of a file whose path contains this takes this much longer: a disk that
    /// is slow, not dead. Zero ends it.
    pub fn delay_sync(&self, path_contains: &str, delay: Duration) {
        let delays = &mut self.faults.state.lock().delays;
        delays.retain(|(part, _)| part != path_contains);
        if !delay.is_zero() {
            delays.push((path_contains.into(), delay));
        }
    }

    fn wrap(&self, file: io::Result<Arc<dyn File>>) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(FaultFile { inner: file?, faults: self.faults.clone() }))
    }
}

impl Faults {
    /// Counts the operation; says whether it fails.
    fn meet(&self, op: OpKind, paths: &[&Path]) -> Option<Fault> {
        let (fault, number) = self.judge(op, paths);
        let observer = self.observer.lock().clone();
        if let Some(observer) = observer {
            observer(op, number);
        }
        fault
    }

    fn judge(&self, op: OpKind, paths: &[&Path]) -> (Option<Fault>, u64) {
        let state = &mut *self.state.lock();
        let count = state.counts.entry(op).or_insert(0);
        *count += 1;
        let (mut fault, number) = (None, *count);
        for (rule, met) in &mut state.rules {
            let contains = |path: &&Path| path.to_string_lossy().contains(&rule.path_contains);
            if rule.op != op || !paths.iter().any(contains) {
                continue;
            }
            *met += 1;
            let first = rule.nth.max(1);
            if *met == first || (rule.times == Times::Forever && *met > first) {
                fault = fault.or(Some(rule.error));
            }
        }
        state.failed += u64::from(fault.is_some());
        (fault, number)
    }

    fn check(&self, op: OpKind, name: &str, path: &Path) -> io::Result<()> {
        self.check_all(op, name, &[path])
    }

    /// The last path is the one that the error names.
    fn check_all(&self, op: OpKind, name: &str, paths: &[&Path]) -> io::Result<()> {
        let fault = match self.meet(op, paths) {
            None => return Ok(()),
            Some(Fault::ShortWrite { .. }) => Fault::Eio,
            Some(fault) => fault,
        };
        Err(in_context(name, paths.last().copied().unwrap_or(Path::new("")), fault.error()))
    }

    /// Waits as long as syncs of this path are delayed, and at every barrier for them.
    fn wait(&self, path: &Path) {
        let (barriers, delay) = {
            let state = self.state.lock();
            let delays = state.delays.iter().filter(|(part, _)| path.to_string_lossy().contains(part));
            (state.barriers.clone(), delays.map(|(_, delay)| *delay).sum::<Duration>())
        };
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        for barrier in barriers {
            if path.to_string_lossy().contains(&barrier.path_contains) {
                barrier.wait();
            }
        }
    }
}

#[derive(Debug, Default)]
struct Barrier {
    path_contains: String,
    state: Mutex<BarrierState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct BarrierState {
    waiting: usize,
    released: bool,
}

impl Barrier {
    fn wait(&self) {
        let mut state = self.state.lock();
        state.waiting += 1;
        self.changed.notify_all();
        while !state.released {
            self.changed.wait(&mut state);
        }
        state.waiting -= 1;
    }
}

/// Syncs held back by [`FaultVfs::block_sync`]; dropping it releases them.
#[derive(Debug)]
pub struct BlockedSync {
    barrier: Arc<Barrier>,
    faults: Arc<Faults>,
}

impl BlockedSync {
    /// How many syncs are blocked here now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.barrier.state.lock().waiting
    }

    /// Blocks the thread until at least one sync is blocked here.
    pub fn wait_until_blocked(&self) {
        let mut state = self.barrier.state.lock();
        while state.waiting == 0 {
            self.barrier.changed.wait(&mut state);
        }
    }

    /// Lets the blocked syncs, and all later ones, go on.
    pub fn release(self) {}
}

impl Drop for BlockedSync {
    fn drop(&mut self) {
        self.faults.state.lock().barriers.retain(|barrier| !Arc::ptr_eq(barrier, &self.barrier));
        self.barrier.state.lock().released = true;
        self.barrier.changed.notify_all();
    }
}

impl Vfs for FaultVfs {
    fn create(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>> {
        self.faults.check(OpKind::Create, "create", path)?;
        self.wrap(self.inner.create(path, mode))
    }

    fn open(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>> {
        self.faults.check(OpKind::Open, "open", path)?;
        self.wrap(self.inner.open(path, mode))
    }

    fn open_read(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>> {
        self.faults.check(OpKind::Open, "open", path)?;
        self.wrap(self.inner.open_read(path, mode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let name = format!("rename {} to", from.display());
        self.faults.check_all(OpKind::Rename, &name, &[from, to])?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.faults.check(OpKind::Remove, "remove", path)?;
        self.inner.remove(path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let name = format!("link {} to", from.display());
        self.faults.check_all(OpKind::Link, &name, &[from, to])?;
        self.inner.hard_link(from, to)
    }

    fn link_count(&self, path: &Path) -> io::Result<u64> {
        self.faults.check(OpKind::Stat, "stat", path)?;
        self.inner.link_count(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.faults.check(OpKind::CreateDir, "create directory", path)?;
        self.inner.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.faults.check(OpKind::List, "list", dir)?;
        self.inner.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.faults.check(OpKind::Stat, "stat", path)?;
        self.inner.exists(path)
    }

    fn permissions(&self, path: &Path) -> io::Result<u32> {
        self.faults.check(OpKind::Stat, "stat", path)?;
        self.inner.permissions(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.faults.check(OpKind::SyncDir, "sync directory", dir)?;
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn DirLock>, LockError> {
        self.faults.check(OpKind::Lock, "lock", path)?;
        self.inner.lock(path, holder)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.faults.check(OpKind::Space, "statvfs", dir)?;
        self.inner.space(dir)
    }

    fn same_file_system(&self, a: &Path, b: &Path) -> io::Result<bool> {
        self.faults.check_all(OpKind::Stat, "stat", &[a, b])?;
        self.inner.same_file_system(a, b)
    }
}

#[derive(Debug)]
struct FaultFile {
    inner: Arc<dyn File>,
    faults: Arc<Faults>,
}

impl FaultFile {
    fn check(&self, op: OpKind, name: &str) -> io::Result<()> {
        self.faults.check(op, name, self.path())
    }

    /// Does the write that was asked for, or what the rules let through of it: bytes of these slices.
    fn write(
        &self,
        bufs: &[IoSlice<'_>],
        offset: u64,
        all: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(fault) = self.faults.meet(OpKind::Write, &[self.path()]) else { return all() };
        if let Fault::ShortWrite { bytes } = fault {
            let bytes = if self.is_direct() { bytes / BLOCK * BLOCK } else { bytes };
            let (mut offset, mut left) = (offset, bytes);
            for buf in bufs {
                let part = buf.get(..left.min(buf.len())).unwrap_or_default();
                if !part.is_empty() {
                    self.inner.write_at(part, offset)?;
                }
                offset += part.len() as u64;
                left -= part.len();
            }
        }
        Err(in_context("write", self.path(), fault.error()))
    }
}

impl File for FaultFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check(OpKind::Read, "read")?;
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.write(&[IoSlice::new(buf)], offset, || self.inner.write_at(buf, offset))
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.write(bufs, offset, || self.inner.write_vectored_at(bufs, offset))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.wait(self.path());
        self.check(OpKind::Sync, "sync")?;
        self.inner.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.check(OpKind::Len, "stat")?;
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check(OpKind::SetLen, "set length of")?;
        self.inner.set_len(len)
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        self.check(OpKind::Preallocate, "preallocate")?;
        self.inner.preallocate(len)
    }

    fn is_direct(&self) -> bool {
        self.inner.is_direct()
    }

    fn path(&self) -> &Path {
        self.inner.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AlignedBuf;
    use crate::mem::{MemVfs, Survival};

    fn path(path: &str) -> &Path {
        Path::new(path)
    }

    fn rule(op: OpKind, path: &str, nth: u64, times: Times, error: Fault) -> Rule {
        Rule { op, path_contains: path.into(), nth, times, error }
    }

    fn faulty() -> (FaultVfs, MemVfs) {
        let disk = MemVfs::new();
        (FaultVfs::new(Arc::new(disk.clone())), disk)
    }

    #[test]
    fn the_nth_fails_once_or_for_ever_where_the_path_matches() {
        let (vfs, _) = faulty();
        vfs.fail(rule(OpKind::Create, "a", 2, Times::Once, Fault::Enospc));
        vfs.fail(rule(OpKind::Create, "b", 2, Times::Forever, Fault::Eio));
        let create = |name| vfs.create(path(name), IoMode::Buffered).map(|_| ()).map_err(|e| e.kind());
        let eio = Fault::Eio.error().kind();
        assert_eq!(["/a1", "/a2", "/a3"].map(create), [Ok(()), Err(io::ErrorKind::StorageFull), Ok(())]);
        assert_eq!(["/b1", "/c", "/b2", "/b3"].map(create), [Ok(()), Ok(()), Err(eio), Err(eio)]);
        assert_eq!((vfs.count(OpKind::Create), vfs.failed()), (7, 3));
        vfs.clear();
        let observed = Arc::new(Mutex::new(Vec::new()));
        let keep = observed.clone();
        vfs.observe(move |op, number| keep.lock().push((op, number)));
        assert_eq!(create("/b2"), Ok(()));
        assert_eq!(vfs.count(OpKind::Read), 0);
        assert_eq!(*observed.lock(), [(OpKind::Create, 8)]);
    }

    #[test]
    fn errors_look_like_real_ones_and_nothing_is_done() {
        let (vfs, disk) = faulty();
        disk.write_file(path("/a"), b"data").unwrap();
        vfs.fail(rule(OpKind::Rename, "/b", 1, Times::Once, Fault::Eio));
        let error = vfs.rename(path("/a"), path("/b")).unwrap_err();
        assert_eq!(error.to_string(), format!("rename /a to /b: {}", Fault::Eio.error()));
        assert_eq!(disk.files(), [path("/a")]);
        vfs.rename(path("/a"), path("/b")).unwrap();
    }

    #[test]
    fn a_failed_sync_makes_nothing_durable() {
        let (vfs, disk) = faulty();
        disk.write_file(path("/a"), b"old").unwrap();
        let file = vfs.open(path("/a"), IoMode::Buffered).unwrap();
        vfs.fail(rule(OpKind::Sync, "", 1, Times::Once, Fault::Eio));
        file.write_at(b"new", 0).unwrap();
        file.sync_data().unwrap_err();
        assert_eq!(disk.crash_clone(&Survival::Synced).read_file(path("/a")).unwrap(), b"old");
    }

    #[test]
    fn a_short_write_leaves_its_beginning() {
        let (vfs, disk) = faulty();
        let file = vfs.create(path("/a"), IoMode::Buffered).unwrap();
        vfs.fail(rule(OpKind::Write, "", 1, Times::Once, Fault::ShortWrite { bytes: 5 }));
        let error = file.write_vectored_at(&[IoSlice::new(b"abc"), IoSlice::new(b"defg")], 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
        assert_eq!(disk.read_file(path("/a")).unwrap(), b"\0abcde");

        let direct = vfs.create(path("/b"), IoMode::Direct).unwrap();
        let mut buf = AlignedBuf::new();
        buf.resize(2 * BLOCK);
        vfs.fail(rule(OpKind::Write, "/b", 1, Times::Once, Fault::ShortWrite { bytes: 5000 }));
        direct.write_at(&buf, 0).unwrap_err();
        assert_eq!(direct.len().unwrap(), BLOCK as u64);
    }

    #[test]
    fn syncs_block_until_released() {
        let (vfs, disk) = faulty();
        let file = vfs.create(path("/a.seg"), IoMode::Buffered).unwrap();
        let other = vfs.create(path("/b"), IoMode::Buffered).unwrap();
        let blocked = vfs.block_sync(".seg");
        let before = disk.operations();
        let syncs = std::thread::spawn(move || file.sync_data());
        blocked.wait_until_blocked();
        assert_eq!(blocked.waiting(), 1);
        other.sync_data().unwrap();
        assert_eq!(disk.operations(), before + 1);
        blocked.release();
        syncs.join().unwrap().unwrap();
        assert_eq!(disk.operations(), before + 2);
    }

    #[test]
    fn syncs_of_a_slow_file_take_longer() {
        let (vfs, _) = faulty();
        let time = |name: &str| {
            let began = std::time::Instant::now();
            vfs.create(path(name), IoMode::Buffered).unwrap().sync_data().unwrap();
            began.elapsed()
        };
        let (long, short) = (Duration::from_secs(60), Duration::from_millis(50));
        vfs.delay_sync(".seg", long);
        assert!(time("/b") < long);
        vfs.delay_sync(".seg", short);
        let slow = time("/a.seg");
        assert!(slow >= short && slow < long, "{slow:?}");
        vfs.delay_sync(".seg", long);
        vfs.delay_sync(".seg", Duration::ZERO);
        assert!(time("/c.seg") < long);
    }
}
