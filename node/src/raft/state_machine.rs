//! openraft's state machine on kv-lsm: entries with pointers in, outcomes out.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use kv_lsm::{Store, StoreError};
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::{OptionalSend, RaftSnapshotBuilder, StoredMembership};

use super::types::{LogIdOfUs, StoredMembershipOfUs, TypeConfig, decode_membership, log_id, to_vlog_entry};

/// A snapshot is a promise, not a file: what it stands for is streamed from the store when asked for.
#[derive(Clone, Debug)]
pub(crate) struct VirtualSnapshot;

/// The state as openraft sees it.
#[derive(Clone, Debug)]
pub(crate) struct StateMachine {
    store: Arc<Store>,
}

impl StateMachine {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    fn state(&self) -> io::Result<(Option<LogIdOfUs>, StoredMembershipOfUs)> {
        let applied = self.store.applied().map(log_id);
        let membership = match self.store.membership() {
            Some((at, blob)) => StoredMembership::new(Some(log_id(at)), decode_membership(&blob)?),
            None => StoredMembership::default(),
        };
        Ok((applied, membership))
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = VirtualSnapshot;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogIdOfUs>, StoredMembershipOfUs)> {
        self.state()
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let entry = to_vlog_entry(entry)?;
            let applied = match self.store.try_apply(&entry) {
                Ok(Some(applied)) => applied,
                // It would wait for a flush or read from disk: not on the reactor.
                Ok(None) => {
                    let store = self.store.clone();
                    let applying = crate::blocking::run(move || store.apply(&entry));
                    applying.await.map_err(io::Error::other)?.map_err(to_io)?
                }
                Err(error) => return Err(to_io(error)),
            };
            if let Some(responder) = responder {
                responder.send(applied);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMetaOf<TypeConfig>,
        _snapshot: VirtualSnapshot,
    ) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this version runs one node and takes no snapshots"))
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, VirtualSnapshot>>> {
        Ok(None)
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = VirtualSnapshot;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, VirtualSnapshot>> {
        let (last_log_id, last_membership) = self.state()?;
        let meta = SnapshotMeta { last_log_id, last_membership };
        Ok(Snapshot { meta, snapshot: VirtualSnapshot })
    }
}

fn to_io(error: StoreError) -> io::Error {
    io::Error::other(error)
}
