//! The engine as a replicated node drives it: entries of several terms, votes, truncation after a change of
//! leader, purge.

mod check;
mod model;
mod run;
mod script;

use std::sync::Arc;

use kv_lsm::{NewStore, Store, StoreError};
use kv_manifest::names;
use kv_vfs::{DirLock, LockError, MemVfs, Vfs};

use crate::coverage::Coverage;
use crate::crash::Subject;
use crate::world::{Life, dir, shared};
pub use check::contents;
use model::Model;
pub use model::{Contents, entry};
pub use run::records_of;
pub(crate) use script::stored;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Node;

/// An open store, and the lock of its directory.
pub struct Opened {
    store: Arc<Store>,
    _lock: Box<dyn DirLock>,
}

/// Whose data it is.
const OURS: NewStore = NewStore { cluster_id: *b"a cluster of one", node_id: 1, incarnation: 7 };

impl Opened {
    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }
}

impl Subject for Node {
    const NAME: &'static str = "node";
    const REQUIRED: &'static [&'static str] = &[
        "a put under way",
        "a put that expires under way",
        "a delete under way",
        "a batch under way",
        "a condition under way",
        "a blank entry under way",
        "a membership under way",
        "a truncation under way",
        "a vote under way",
        "a purge under way",
        "an installation under way",
        "in install",
        "Remove segment by the caller",
        "Rename free file by the caller",
        "Create table by the caller",
        "in rewrite",
        "in stop",
        // The first segment, a roll, a group, a footer.
        "Create segment by the caller",
        "Create segment by vlog-writer",
        "Rename segment by vlog-writer",
        "Preallocate segment by vlog-writer",
        "Write segment by vlog-writer",
        "Sync segment by vlog-writer",
        "SetLen segment by vlog-writer",
        "SyncDir directory by vlog-writer",
        // Flush and compaction, each with its change-set.
        "Sync table by flusher",
        "SyncDir directory by flusher",
        "Write manifest by flusher",
        "Sync table by compactor",
        "SyncDir directory by compactor",
        "Sync manifest by compactor",
        "Remove table by compactor",
        // Long files that go.
        "SyncDir directory by sweeper",
        "SetLen file that goes by sweeper",
        "Remove file that goes by sweeper",
        // The manifest, made, copied and rewritten.
        "Create manifest by the caller",
        "Rename CURRENT by the caller",
        "Remove manifest by the caller",
        "CreateDir directory by the caller",
        // What recovery has to deal with.
        "torn tail",
        "uncommitted entries",
        "Create table while recovering",
        "Remove table while recovering",
        "Rename segment while recovering",
        "Remove segment while recovering",
    ];
    type Known = Model;
    type Opened = Opened;

    fn run(self, seed: u64, vfs: &Arc<dyn Vfs>, life: &Arc<Life<Model>>) -> Result<(), StoreError> {
        run::run(seed, vfs, life)
    }

    fn open(self, vfs: &Arc<dyn Vfs>, life: &Arc<Life<Model>>) -> Result<Opened, StoreError> {
        kv_vfs::create_dir(&**vfs, dir())?;
        let lock = vfs.lock(&dir().join(names::LOCK), "the proof").map_err(|error| match error {
            LockError::Held { holder } => StoreError::Invalid(format!("held by {holder}")),
            LockError::Io(error) => error.into(),
        })?;
        let store = Store::open(&life.environment(vfs), dir(), life.options(), Some(OURS))?;
        Ok(Opened { store, _lock: lock })
    }

    fn compare(self, opened: &Opened, life: &Arc<Life<Model>>, coverage: &Coverage) {
        check::compare(&opened.store, life, coverage).unwrap();
    }

    fn go_on(self, opened: Opened, disk: &MemVfs, life: &Arc<Life<Model>>, seed: u64) {
        run::go_on(opened, &shared(disk), life, seed);
    }

    fn stop(self, opened: Opened) {
        opened.store.stop();
    }
}
