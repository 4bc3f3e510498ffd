//! Files and directories: each with what is there now, what is synced, and the changes between the two.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::content::Content;

/// Bytes that all files together use and may use.
#[derive(Debug)]
pub(super) struct Room {
    used: AtomicU64,
    limit: AtomicU64,
}

impl Room {
    pub(super) fn new(limit: u64) -> Self {
        Self { used: AtomicU64::new(0), limit: AtomicU64::new(limit) }
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::SeqCst)
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit.load(Ordering::SeqCst)
    }

    pub(super) fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::SeqCst);
    }

    fn available(&self) -> u64 {
        self.limit().saturating_sub(self.used())
    }
}

/// A file's data, whatever its names. It lives as long as a name, a change of a name or a handle needs it.
pub(super) struct FileNode {
    pub(super) id: u64,
    pub(super) state: Mutex<FileState>,
    room: Arc<Room>,
}

#[derive(Debug, Default)]
pub(super) struct FileState {
    pub(super) now: Content,
    pub(super) synced: Content,
    /// Invariant: these, applied to `synced`, make `now`, unless some were lost on purpose.
    pub(super) unsynced: Vec<FileChange>,
    /// Names it has now.
    pub(super) links: u64,
    /// Bytes preallocated, from the start of the file.
    reserved: u64,
    /// What the file takes of the room. Invariant: the larger of its length and `reserved`.
    charged: u64,
}

#[derive(Clone, Debug)]
pub(super) enum FileChange {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
}

impl Content {
    pub(super) fn apply(&mut self, change: &FileChange) {
        match change {
            FileChange::Write { offset, bytes } => self.write(*offset, bytes),
            FileChange::SetLen(len) => self.set_len(*len),
        }
    }
}

impl FileNode {
    pub(super) fn new(id: u64, room: &Arc<Room>) -> Arc<Self> {
        Self::with_content(id, room, Content::default())
    }

    /// A file whose content is synced, whether or not there is room for it.
    pub(super) fn with_content(id: u64, room: &Arc<Room>, content: Content) -> Arc<Self> {
        let file = Arc::new(Self { id, state: Mutex::default(), room: room.clone() });
        file.replace(content);
        file
    }

    /// The same file in another file system, with what is synced and what is not.
    pub(super) fn fork(&self, room: &Arc<Room>) -> Arc<Self> {
        let old = self.state.lock();
        let (reserved, links, unsynced) = (old.reserved, old.links, old.unsynced.clone());
        let state = FileState {
            now: old.now.clone(),
            synced: old.synced.clone(),
            unsynced,
            links,
            reserved,
            charged: 0,
        };
        let file = Arc::new(Self { id: self.id, state: Mutex::new(state), room: room.clone() });
        file.charge(&mut file.state.lock(), old.charged);
        file
    }

    /// Makes this the content, synced.
    pub(super) fn replace(&self, content: Content) {
        let state = &mut *self.state.lock();
        state.unsynced.clear();
        state.synced = content.clone();
        state.now = content;
        self.charge(state, state.now.len().max(state.reserved));
    }

    /// Whether there is room for the change, and what the file then takes.
    pub(super) fn check_room(&self, len: u64) -> io::Result<()> {
        let growth = len.saturating_sub(self.state.lock().charged);
        if growth > self.room.available() {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on the simulated disk"));
        }
        Ok(())
    }

    pub(super) fn change(&self, change: FileChange) {
        let state = &mut *self.state.lock();
        state.now.apply(&change);
        if let FileChange::SetLen(len) = change {
            state.reserved = state.reserved.min(len);
        }
        state.unsynced.push(change);
        self.charge(state, state.now.len().max(state.reserved));
    }

    pub(super) fn reserve(&self, len: u64) {
        let state = &mut *self.state.lock();
        state.reserved = state.reserved.max(len);
        self.charge(state, state.now.len().max(state.reserved));
    }

    pub(super) fn sync(&self) {
        let FileState { now, synced, unsynced, .. } = &mut *self.state.lock();
        // Not simply a copy of `now`, which would cost time for every page of a large file. Pages are taken
        // over in their last state. A cut harms one only where a write after the cut went to it, and that
        // write takes it over again.
        for change in unsynced.drain(..) {
            match change {
                FileChange::Write { offset, bytes } => synced.adopt(now, offset, bytes.len()),
                FileChange::SetLen(len) => synced.set_len(len),
            }
        }
        synced.set_len(now.len());
    }

    fn charge(&self, state: &mut FileState, bytes: u64) {
        // Never below zero in total, since each file takes back no more than it put in.
        self.room.used.fetch_add(bytes.wrapping_sub(state.charged), Ordering::SeqCst);
        state.charged = bytes;
    }
}

impl Drop for FileNode {
    fn drop(&mut self) {
        self.room.used.fetch_sub(self.state.get_mut().charged, Ordering::SeqCst);
    }
}

impl Debug for FileNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        let (len, unsynced) = (state.now.len(), state.unsynced.len());
        f.debug_struct("File").field("id", &self.id).field("len", &len).field("unsynced", &unsynced).finish()
    }
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Dir(Arc<DirNode>),
    File(Arc<FileNode>),
}

pub(super) type Names = BTreeMap<String, Node>;

/// Names set (`Some`) and taken away (`None`) in one step.
pub(super) type DirChange = Vec<(String, Option<Node>)>;

#[derive(Debug)]
pub(super) struct DirNode {
    pub(super) id: u64,
    pub(super) state: Mutex<DirState>,
}

#[derive(Debug, Default)]
pub(super) struct DirState {
    pub(super) now: Names,
    pub(super) synced: Names,
    /// Invariant: these, applied to `synced`, make `now`.
    pub(super) unsynced: Vec<DirChange>,
}

/// Applies a change to names.
pub(super) fn apply(names: &mut Names, change: &DirChange) {
    for (name, node) in change {
        match node {
            Some(node) => names.insert(name.clone(), node.clone()),
            None => names.remove(name),
        };
    }
}

impl DirNode {
    /// A directory whose names are synced.
    pub(super) fn new(id: u64, names: Names) -> Arc<Self> {
        let state = DirState { now: names.clone(), synced: names, unsynced: Vec::new() };
        Arc::new(Self { id, state: Mutex::new(state) })
    }

    pub(super) fn get(&self, name: &str) -> Option<Node> {
        self.state.lock().now.get(name).cloned()
    }

    pub(super) fn change(&self, change: DirChange) {
        let state = &mut *self.state.lock();
        apply(&mut state.now, &change);
        state.unsynced.push(change);
    }

    /// Sets a name as if it had always been there.
    pub(super) fn set_synced(&self, name: &str, node: &Node) {
        let state = &mut *self.state.lock();
        state.now.insert(name.to_string(), node.clone());
        state.synced.insert(name.to_string(), node.clone());
        // Or a change of this name from before would undo it in a crash.
        state.unsynced.iter_mut().for_each(|change| change.retain(|(changed, _)| changed != name));
    }

    pub(super) fn sync(&self) {
        let state = &mut *self.state.lock();
        for change in state.unsynced.drain(..) {
            apply(&mut state.synced, &change);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change() -> impl Strategy<Value = FileChange> {
        prop_oneof![
            3 => (0..20_000u64, prop::collection::vec(1..255u8, 1..9000))
                .prop_map(|(offset, bytes)| FileChange::Write { offset, bytes }),
            1 => (0..30_000u64).prop_map(FileChange::SetLen),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_sync_takes_over_all_changes(
            batches in prop::collection::vec(prop::collection::vec(change(), 0..6), 1..5),
        ) {
            let room = Arc::new(Room::new(u64::MAX));
            let file = FileNode::new(1, &room);
            for changes in batches {
                let before = file.state.lock().now.to_bytes();
                changes.into_iter().for_each(|change| file.change(change));
                prop_assert_eq!(file.state.lock().synced.to_bytes(), before);
                file.sync();
                let state = &mut *file.state.lock();
                prop_assert_eq!(state.synced.to_bytes(), state.now.to_bytes());
                // What a cut should have removed must not come back with the length.
                let (mut synced, mut now) = (state.synced.clone(), state.now.clone());
                synced.set_len(40_000);
                now.set_len(40_000);
                prop_assert_eq!(synced.to_bytes(), now.to_bytes());
                prop_assert_eq!(room.used(), state.now.len());
            }
            drop(file);
            prop_assert_eq!(room.used(), 0);
        }
    }
}
