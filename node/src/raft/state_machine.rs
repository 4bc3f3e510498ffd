//! openraft's state machine on kv-lsm: entries with pointers in, outcomes out.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use kv_lsm::{Export, LogTime, Receiver, Store, StoreError};
use kv_vlog::Position;
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::{OptionalSend, RaftSnapshotBuilder, StoredMembership};

use super::types::{
    LogIdOfUs, StoredMembershipOfUs, TypeConfig, decode_stored_membership, encode_stored_membership, log_id,
    position, to_vlog_entry,
};

/// A snapshot is no file. To be sent, it is the state pinned as it was, read while it is sent; received,
/// it stands beside the live state and becomes it.
pub(crate) enum SnapshotData {
    Sent(Arc<Export>),
    Received(Box<Receiver>, LogTime),
}

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
        Ok((self.store.applied().map(log_id), stored_membership(self.store.membership())?))
    }

    /// O(1): nothing is written or copied.
    async fn snapshot(&self) -> io::Result<SnapshotOf<TypeConfig, SnapshotData>> {
        let store = self.store.clone();
        let export = crate::blocking::run(move || store.export()).await.map_err(io::Error::other)?;
        let meta = SnapshotMeta {
            last_log_id: export.at().map(log_id),
            last_membership: stored_membership(export.membership())?,
        };
        Ok(Snapshot { meta, snapshot: SnapshotData::Sent(Arc::new(export)) })
    }
}

fn stored_membership(stored: Option<(Position, Bytes)>) -> io::Result<StoredMembershipOfUs> {
    stored.map_or_else(
        || Ok(StoredMembership::default()),
        |(at, blob)| decode_stored_membership(Some(at), &blob),
    )
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
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

    /// By one change-set: a crash leaves the old state or the new one.
    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let (Some(at), SnapshotData::Received(received, time)) = (&meta.last_log_id, snapshot) else {
            return Err(io::Error::other("only a snapshot that was received is installed"));
        };
        let (at, store) = (position(at), self.store.clone());
        let (decided, blob) = encode_stored_membership(&meta.last_membership)?;
        let membership = decided.map(|decided| (decided, blob));
        let installing = crate::blocking::run(move || store.install(*received, at, time, membership));
        installing.await.map_err(io::Error::other)?.map(drop).map_err(to_io)
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, SnapshotData>>> {
        match self.store.applied() {
            Some(_) => self.snapshot().await.map(Some),
            None => Ok(None),
        }
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, SnapshotData>> {
        self.snapshot().await
    }
}

fn to_io(error: StoreError) -> io::Error {
    io::Error::other(error)
}
