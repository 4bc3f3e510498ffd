//! Files of dead segments, kept to be written again: how many bytes of them.

use std::sync::Arc;

use kv_manifest::{CrossCheck, names};
use kv_vlog::{FilePool, FreeFile};

use super::changes::Changes;
use super::{Core, Shared};
use crate::error::StoreError;
use crate::gc::{Footprint, Priority, priority};

/// The pool of a directory, with what an earlier process left in it.
///
/// Its files may be written at once: each was given its name after the change-set that gave it up was durable.
pub(super) fn open_pool(
    core: &Core,
    changes: &Changes,
    found: &CrossCheck,
) -> Result<Arc<FilePool>, StoreError> {
    let pool = FilePool::new(core.vfs.clone());
    pool.set_bytes_max(bytes_max(core, changes)?);
    let file =
        |&(number, bytes): &(u64, u64)| FreeFile { path: core.dir.join(names::free_name(number)), bytes };
    pool.adopt(found.free.iter().map(file));
    Ok(pool)
}

impl Shared {
    /// Has the pool keep what it may now: in a store at rest no more than there is room for within what its directory
    /// should take.
    pub(super) fn bound_pool(&self, footprint: Option<&Footprint>) -> Result<(), StoreError> {
        let at_rest = footprint.filter(|_| self.is_idle());
        let room = at_rest.map_or(u64::MAX, |footprint| footprint.room_at_rest(&self.core.options.gc));
        self.log.pool().set_bytes_max(bytes_max(&self.core, &self.changes)?.min(room));
        Ok(())
    }
}

/// What is idle must not stand in the way of what is not: nothing is kept where value GC takes room for short, or where a
/// server is about to refuse writes for want of it.
fn bytes_max(core: &Core, changes: &Changes) -> Result<u64, StoreError> {
    let (options, live_bytes) = (&core.options, changes.live_bytes());
    let bounds = options.gc_bounds(live_bytes, core.vfs.space(&core.dir)?);
    let is_short = priority(&options.gc, &bounds) == Priority::Emergency
        || bounds.available_bytes < 2 * bounds.write_reserve_bytes(&options.gc);
    Ok(if is_short { 0 } else { options.recycled_bytes_for(live_bytes) })
}
