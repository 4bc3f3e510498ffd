//! What is left after a loss of power.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::content::Content;
use super::disk::Disk;
use super::node::{DirChange, DirNode, FileChange, FileNode, FileState, Names, Node, Room, apply};
use super::rng::Rng;

/// The unit in which a device writes, in bytes: no smaller part of a write survives alone.
const SECTOR: usize = 512;

/// Which of the operations that were not synced survive a loss of power.
///
/// What is synced always survives. Files and directories are independent of each other: neither order
/// between files nor between a file's data and its name is kept. The same seed has the same outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// None.
    Synced,
    /// All.
    Everything,
    /// Names all; of each file the changes of its data up to a random one, in order. That one, a write, is
    /// cut at a random multiple of `sector` (in the file).
    Torn {
        /// Bytes that the device writes in one piece: 512 or 4096.
        sector: usize,
        /// Makes the choices.
        seed: u64,
    },
    /// Names all; of each file any of the changes of its data: every 512-byte sector of a write, and every
    /// change of the length, survives or not by itself. A hole that a lost write leaves reads as zeroes
    /// (or what was there before), and the file ends where the surviving changes make it end.
    Subset {
        /// Makes the choices.
        seed: u64,
    },
    /// Data all; of each directory the changes of its names up to a random one, in order. A rename between
    /// two directories is one change in each.
    NamesLost {
        /// Makes the choices.
        seed: u64,
    },
    /// Data all; of each directory any of the changes of its names, each by itself: a file system need not
    /// keep their order.
    NamesSubset {
        /// Makes the choices.
        seed: u64,
    },
}

/// Copies the tree of the disk as it is after a loss of power.
pub(super) fn survivors(disk: &Disk, survival: Survival, room: &Arc<Room>) -> Arc<DirNode> {
    let mut copy = Copy { survival, room, files: BTreeMap::new(), dirs: BTreeSet::new() };
    copy.dir(&disk.root)
}

struct Copy<'a> {
    survival: Survival,
    room: &'a Arc<Room>,
    /// Copied already, by id: a file with two names stays one file.
    files: BTreeMap<u64, Arc<FileNode>>,
    /// Seen already. A directory of which the old and the new name both survive keeps the first: a tree in
    /// which it had two could have cycles.
    dirs: BTreeSet<u64>,
}

impl Copy<'_> {
    fn dir(&mut self, dir: &DirNode) -> Arc<DirNode> {
        self.dirs.insert(dir.id);
        let mut names = Names::new();
        for (name, node) in surviving_names(dir, self.survival) {
            let node = match node {
                Node::File(file) => Node::File(self.file(&file)),
                Node::Dir(dir) if self.dirs.contains(&dir.id) => continue,
                Node::Dir(dir) => Node::Dir(self.dir(&dir)),
            };
            names.insert(name, node);
        }
        DirNode::new(dir.id, names)
    }

    fn file(&mut self, file: &FileNode) -> Arc<FileNode> {
        let make = || {
            let content = surviving_content(file.id, &file.state.lock(), self.survival);
            FileNode::with_content(file.id, self.room, content)
        };
        let copy = self.files.entry(file.id).or_insert_with(make);
        copy.state.lock().links += 1;
        copy.clone()
    }
}

fn surviving_names(dir: &DirNode, survival: Survival) -> Names {
    let state = dir.state.lock();
    match survival {
        Survival::Synced => state.synced.clone(),
        Survival::Everything | Survival::Torn { .. } | Survival::Subset { .. } => state.now.clone(),
        Survival::NamesLost { seed } => {
            let kept = Rng::new(seed, dir.id).up_to(state.unsynced.len());
            let mut names = state.synced.clone();
            state.unsynced.iter().take(kept).for_each(|change| apply(&mut names, change));
            names
        }
        Survival::NamesSubset { seed } => {
            let (mut rng, mut names) = (Rng::new(seed, dir.id), state.synced.clone());
            let survives = |_: &&DirChange| rng.up_to(1) == 0;
            state.unsynced.iter().filter(survives).for_each(|change| apply(&mut names, change));
            names
        }
    }
}

fn surviving_content(id: u64, state: &FileState, survival: Survival) -> Content {
    match survival {
        Survival::Synced => state.synced.clone(),
        Survival::Everything | Survival::NamesLost { .. } | Survival::NamesSubset { .. } => state.now.clone(),
        Survival::Torn { sector, seed } => torn(state, sector, Rng::new(seed, id)),
        Survival::Subset { seed } => subset(state, Rng::new(seed, id)),
    }
}

fn torn(state: &FileState, sector: usize, mut rng: Rng) -> Content {
    let mut content = state.synced.clone();
    let whole = rng.up_to(state.unsynced.len());
    state.unsynced.iter().take(whole).for_each(|change| content.apply(change));
    if let Some(FileChange::Write { offset, bytes }) = state.unsynced.get(whole) {
        let sectors: Vec<_> = sectors(*offset, bytes, sector).collect();
        let kept = rng.up_to(sectors.len().saturating_sub(1));
        sectors.iter().take(kept).for_each(|(at, part)| content.write(*at, part));
    }
    content
}

fn subset(state: &FileState, mut rng: Rng) -> Content {
    let mut content = state.synced.clone();
    // One write lost out of many and one kept out of many are states of their own: not always half.
    let odds = rng.up_to(6);
    for change in &state.unsynced {
        match change {
            FileChange::SetLen(len) if rng.up_to(7) > odds => content.set_len(*len),
            FileChange::SetLen(_) => {}
            FileChange::Write { offset, bytes } => {
                for (at, part) in sectors(*offset, bytes, SECTOR) {
                    if rng.up_to(7) > odds {
                        content.write(at, part);
                    }
                }
            }
        }
    }
    content
}

/// Cuts a write at the multiples of `sector` in the file.
fn sectors(offset: u64, bytes: &[u8], sector: usize) -> impl Iterator<Item = (u64, &[u8])> {
    let to_border = sector - (offset % sector as u64) as usize;
    let (head, rest) = bytes.split_at(to_border.min(bytes.len()));
    let head = Some((offset, head)).filter(|(_, head)| !head.is_empty());
    let after = offset + to_border as u64;
    let rest = rest.chunks(sector).enumerate();
    head.into_iter().chain(rest.map(move |(n, part)| (after + (n * sector) as u64, part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_cut_at_the_borders_of_sectors() {
        let bytes = [1; 1000];
        let cut = |offset, len: usize| {
            sectors(offset, &bytes[..len], 512).map(|(at, part)| (at, part.len())).collect::<Vec<_>>()
        };
        assert_eq!(cut(0, 1000), [(0, 512), (512, 488)]);
        assert_eq!(cut(500, 1000), [(500, 12), (512, 512), (1024, 476)]);
        assert_eq!(cut(500, 12), [(500, 12)]);
        assert_eq!(cut(500, 5), [(500, 5)]);
        assert_eq!(cut(512, 0), []);
    }
}
