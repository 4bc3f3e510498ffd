//! A copy of the tree that keeps what is synced apart from what is not.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::node::{DirChange, DirNode, FileNode, Names, Node, Room};

/// Copies the tree below a directory.
pub(super) fn fork(root: &DirNode, room: &Arc<Room>) -> Arc<DirNode> {
    Fork { room, files: BTreeMap::new(), dirs: BTreeMap::new() }.dir(root)
}

struct Fork<'a> {
    room: &'a Arc<Room>,
    /// Copied already, by id: all names of a file, old and new, stay names of one file.
    files: BTreeMap<u64, Arc<FileNode>>,
    dirs: BTreeMap<u64, Arc<DirNode>>,
}

impl Fork<'_> {
    fn dir(&mut self, dir: &DirNode) -> Arc<DirNode> {
        if let Some(copy) = self.dirs.get(&dir.id) {
            return copy.clone();
        }
        let copy = DirNode::new(dir.id, Names::new());
        self.dirs.insert(dir.id, copy.clone());
        let old = dir.state.lock();
        let mut names =
            |names: &Names| names.iter().map(|(name, node)| (name.clone(), self.node(node))).collect();
        let (now, synced) = (names(&old.now), names(&old.synced));
        let mut change = |change: &DirChange| {
            change
                .iter()
                .map(|(name, node)| (name.clone(), node.as_ref().map(|node| self.node(node))))
                .collect()
        };
        let unsynced = old.unsynced.iter().map(&mut change).collect();
        let mut state = copy.state.lock();
        (state.now, state.synced, state.unsynced) = (now, synced, unsynced);
        drop(state);
        copy
    }

    fn node(&mut self, node: &Node) -> Node {
        match node {
            Node::Dir(dir) => Node::Dir(self.dir(dir)),
            Node::File(file) => Node::File(self.file(file)),
        }
    }

    fn file(&mut self, file: &FileNode) -> Arc<FileNode> {
        let room = self.room;
        self.files.entry(file.id).or_insert_with(|| file.fork(room)).clone()
    }
}
