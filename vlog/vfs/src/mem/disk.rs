//! The tree of names, the count and log of operations, and the power switch.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::POWER_LOSS;
use super::moment::Watch;
use super::node::{DirNode, FileNode, Names, Node, Room};
use crate::op::{Op, OpKind};

/// Operations kept in the log; long simulations do more than memory should hold.
const LOG_MAX: usize = 1 << 16;

/// What all clones of a file system and its open files have in common.
#[derive(Debug)]
pub(super) struct Shared {
    /// Held for the whole of each mutating operation. Taken before the lock of any file or directory.
    pub(super) disk: Mutex<Disk>,
    pub(super) room: Arc<Room>,
}

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) root: Arc<DirNode>,
    pub(super) next_id: u64,
    /// Mutating operations done.
    pub(super) done: u64,
    /// The power goes when this many are done.
    pub(super) off_after: Option<u64>,
    pub(super) log: VecDeque<Op>,
    /// Called before each mutating operation.
    pub(super) watch: Option<Watch>,
    /// Who holds which lock file.
    pub(super) locks: BTreeMap<PathBuf, String>,
    /// Whether there is no direct I/O.
    pub(super) refuses_direct: bool,
}

impl Disk {
    pub(super) fn new(root: Arc<DirNode>, next_id: u64) -> Self {
        let (log, locks) = (VecDeque::new(), BTreeMap::new());
        Self { root, next_id, done: 0, off_after: None, log, watch: None, locks, refuses_direct: false }
    }

    pub(super) fn is_off(&self) -> bool {
        self.off_after.is_some_and(|end| self.done >= end)
    }

    /// Counts and logs a mutating operation that is about to succeed, unless the machine is off.
    pub(super) fn begin(&mut self, op: Op) -> io::Result<()> {
        if self.is_off() {
            return Err(io::Error::new(POWER_LOSS, "the machine is off"));
        }
        if let Some(mut watch) = self.watch.take() {
            watch.call(self, &op);
            self.watch = Some(watch);
        }
        self.done += 1;
        if self.log.len() == LOG_MAX {
            self.log.pop_front();
        }
        self.log.push_back(op);
        Ok(())
    }

    /// As [`Self::begin`], for an operation on names.
    pub(super) fn begin_named(&mut self, kind: OpKind, path: &Path, to: Option<&Path>) -> io::Result<()> {
        self.begin(Op { kind, path: path.into(), to: to.map(Into::into), offset: 0, len: 0 })
    }

    pub(super) fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<Node> {
        let mut node = Node::Dir(self.root.clone());
        for name in names(path)? {
            let Node::Dir(dir) = node else { return Err(io::ErrorKind::NotADirectory.into()) };
            node = dir.get(&name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    pub(super) fn find_dir(&self, path: &Path) -> io::Result<Arc<DirNode>> {
        match self.find(path)? {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn find_file(&self, path: &Path) -> io::Result<Arc<FileNode>> {
        match self.find(path)? {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// The directory that holds or would hold the path, and the path's name there.
    pub(super) fn parent(&self, path: &Path) -> io::Result<(Arc<DirNode>, String)> {
        let name = names(path)?.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.find_dir(dir)?, name))
    }

    /// Puts a file where none may be, its name and the directories above synced and nothing counted.
    pub(super) fn put_synced(&mut self, path: &Path, file: Arc<FileNode>) -> io::Result<()> {
        let mut names = names(path)?;
        let last = names.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let mut dir = self.root.clone();
        for name in names {
            let node =
                dir.get(&name).unwrap_or_else(|| Node::Dir(DirNode::new(self.take_id(), Names::new())));
            dir.set_synced(&name, &node);
            let Node::Dir(next) = node else { return Err(io::ErrorKind::NotADirectory.into()) };
            dir = next;
        }
        file.state.lock().links += 1;
        dir.set_synced(&last, &Node::File(file));
        Ok(())
    }
}

/// The components of a path; it starts at the root whether or not it says so.
pub(super) fn names(path: &Path) -> io::Result<Vec<String>> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(Ok(name.to_string_lossy().into_owned())),
        Component::RootDir | Component::CurDir => None,
        Component::ParentDir | Component::Prefix(_) => {
            Some(Err(io::Error::new(io::ErrorKind::InvalidInput, "`..` is not resolved here")))
        }
    };
    path.components().filter_map(name).collect()
}
