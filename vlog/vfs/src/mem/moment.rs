//! A look at the disk between two operations.

use std::fmt::{self, Debug};
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk::{Disk, Shared};
use super::node::{DirNode, Room};
use super::{MemVfs, Survival, crash, fork};
use crate::op::Op;

/// The disk just before a mutating operation, which is as it is just after the one before.
pub struct Moment<'a> {
    disk: &'a Disk,
    room: &'a Arc<Room>,
    op: &'a Op,
}

impl Moment<'_> {
    /// The number of the operation that is about to be done, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.disk.done + 1
    }

    /// The operation that is about to be done.
    #[must_use]
    pub fn op(&self) -> &Op {
        self.op
    }

    /// As [`MemVfs::crash_clone`], at this moment.
    #[must_use]
    pub fn crash_clone(&self, survival: &Survival) -> MemVfs {
        clone_of(self.disk, self.room, survival)
    }

    /// As [`MemVfs::kill_clone`], at this moment.
    #[must_use]
    pub fn kill_clone(&self) -> MemVfs {
        fork_of(self.disk, self.room)
    }
}

pub(super) fn clone_of(disk: &Disk, room: &Arc<Room>, survival: &Survival) -> MemVfs {
    made_of(disk, room, |room| crash::survivors(disk, *survival, room))
}

pub(super) fn fork_of(disk: &Disk, room: &Arc<Room>) -> MemVfs {
    made_of(disk, room, |room| fork::fork(&disk.root, room))
}

fn made_of(disk: &Disk, room: &Room, root: impl FnOnce(&Arc<Room>) -> Arc<DirNode>) -> MemVfs {
    let room = Arc::new(Room::new(room.limit()));
    let root = root(&room);
    let disk = Disk { refuses_direct: disk.refuses_direct, ..Disk::new(root, disk.next_id) };
    MemVfs { shared: Arc::new(Shared { disk: Mutex::new(disk), room }) }
}

/// Called before each mutating operation.
pub(super) struct Watch {
    room: Arc<Room>,
    call: Box<dyn FnMut(&Moment<'_>) + Send>,
}

impl Watch {
    pub(super) fn new(room: &Arc<Room>, call: impl FnMut(&Moment<'_>) + Send + 'static) -> Self {
        Self { room: room.clone(), call: Box::new(call) }
    }

    pub(super) fn call(&mut self, disk: &Disk, op: &Op) {
        (self.call)(&Moment { disk, room: &self.room, op });
    }
}

impl Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}
