//! Values are read by several threads at once, as far ahead as was said.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kv_lsm::{Db, Environment, IterOptions, Options};
use kv_vfs::{DirEntry, DirLock, File, IoMode, LockError, MemVfs, Space, SystemClock, ThreadExecutor, Vfs};
use parking_lot::{Condvar, Mutex};

use crate::world::{fill, small};

/// Has reads of segments wait until so many are under way.
#[derive(Debug, Default)]
struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    wanted: usize,
    under_way: usize,
    most: usize,
}

impl Meeting {
    fn want(&self, count: usize) {
        *self.state.lock() = State { wanted: count, ..State::default() };
    }

    fn attend(&self, path: &Path) {
        let mut state = self.state.lock();
        if state.wanted == 0 || path.extension().is_none_or(|extension| extension != "seg") {
            return;
        }
        state.under_way += 1;
        state.most = state.most.max(state.under_way);
        self.changed.notify_all();
        // Ends by itself where they do not come: the test then says so instead of hanging.
        self.changed.wait_while_for(&mut state, |state| state.most < state.wanted, Duration::from_secs(20));
        state.under_way -= 1;
    }
}

#[derive(Debug)]
struct Meets {
    disk: MemVfs,
    meeting: Arc<Meeting>,
}

#[derive(Debug)]
struct MeetingFile(Arc<dyn File>, Arc<Meeting>);

impl Meets {
    fn wrap(&self, file: io::Result<Arc<dyn File>>) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(MeetingFile(file?, self.meeting.clone())))
    }
}

impl Vfs for Meets {
    fn create(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>> {
        self.wrap(self.disk.create(path, mode))
    }
    fn open(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>> {
        self.wrap(self.disk.open(path, mode))
    }
    fn open_read(&self, path: &Path, mode: IoMode) -> io::Result<Arc<dyn File>> {
        self.wrap(self.disk.open_read(path, mode))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.hard_link(from, to)
    }
    fn link_count(&self, path: &Path) -> io::Result<u64> {
        self.disk.link_count(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }
    fn permissions(&self, path: &Path) -> io::Result<u32> {
        self.disk.permissions(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn DirLock>, LockError> {
        self.disk.lock(path, holder)
    }
    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.disk.space(dir)
    }
}

impl File for MeetingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.attend(self.0.path());
        self.0.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(buf, offset)
    }
    fn write_vectored_at(&self, bufs: &[io::IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.0.write_vectored_at(bufs, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn preallocate(&self, len: u64) -> io::Result<()> {
        self.0.preallocate(len)
    }
    fn is_direct(&self) -> bool {
        self.0.is_direct()
    }
    fn path(&self) -> &Path {
        self.0.path()
    }
}

#[test]
fn by_several_threads_at_once() {
    let meeting = Arc::new(Meeting::default());
    let vfs = Arc::new(Meets { disk: MemVfs::new(), meeting: meeting.clone() });
    let environment =
        Environment { vfs, clock: Arc::new(SystemClock::default()), executor: Arc::new(ThreadExecutor) };
    let options = Options { read_threads: 3, ..small() };
    let db = Db::open_in(&environment, Path::new("/above/data"), options).unwrap();
    let expected = fill(&db, 60);
    db.flush().unwrap();

    // The three threads; the caller may read, too, or wait for one of them.
    meeting.want(3);
    let keys: Vec<_> = expected.keys().collect();
    let found = db.multi_get(&keys).unwrap();
    assert!(found.into_iter().map(|found| found.unwrap().value).eq(expected.values().cloned()));
    assert!(meeting.state.lock().most >= 3);

    meeting.want(3);
    let iter = db.iter(IterOptions { read_ahead: 20, ..IterOptions::default() });
    assert!(
        iter.entries()
            .map(|entry| entry.unwrap())
            .map(|(key, found)| (key, found.value))
            .eq(expected.clone())
    );
    assert!(meeting.state.lock().most >= 3);

    // Bounded: with room for one value, no second one is read ahead of it.
    meeting.want(1);
    let iter = db.iter(IterOptions { read_ahead: 20, read_ahead_bytes: 1, ..IterOptions::default() });
    assert!(iter.entries().map(|entry| entry.unwrap()).map(|(key, found)| (key, found.value)).eq(expected));
    assert_eq!(meeting.state.lock().most, 1);
    db.close().unwrap();
}
