//! How much log is kept for followers: what the one that is furthest behind still needs, but never more than
//! the setting says. A follower that is slow or gone must not fill the disk of the others; it gets a snapshot
//! when it comes back. Where all are level, next to nothing is kept: garbage in it could not be collected.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_lsm::Store;
use kv_vlog::Position;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::Fatal;
use openraft::{Raft, ServerState};

use super::peer::Receiving;
use super::state_machine::StateMachine;
use super::types::TypeConfig;

/// How often the log is looked at. Between two looks it can grow by what is written meanwhile.
const INTERVAL: Duration = Duration::from_millis(250);

/// Kept where nobody lacks anything: this much, or a 20th of the live values where that is more. A follower
/// that is a moment behind when the leader changes must not need the whole state.
const SPARE_BYTES: u64 = 32 << 20;
const SPARE_SHARE: u64 = 20;

/// First entry that the leader's log holds, as it says with each request: what it keeps for another follower
/// this node keeps, too, since it may be the next leader. 0, everything, before it has said anything.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeaderFloor(Arc<AtomicU64>);

impl LeaderFloor {
    /// The leader says so. A new one may hold more than the one before.
    pub(super) fn hear(&self, first: u64) {
        self.0.store(first, Ordering::Release);
    }
}

/// The entries that are about to be purged. openraft waits with a purge while a stream to a follower still
/// reads such entries, so that streams look here and end.
#[derive(Clone, Debug)]
pub(crate) struct Floor(Arc<AtomicU64>);

impl Floor {
    /// The floor of a log as it was found.
    pub(super) fn of(store: &Store) -> Self {
        Self(Arc::new(store.log().state().purged.map_or(0, |at| at.index + 1).into()))
    }

    /// Entries below this index are wanted no more.
    pub(crate) fn next_kept(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn raise(&self, next_kept: u64) {
        self.0.fetch_max(next_kept, Ordering::AcqRel);
    }
}

/// Purges what is needed no more, until consensus stops.
pub(super) struct Retention {
    pub raft: Raft<TypeConfig, StateMachine>,
    pub store: Arc<Store>,
    pub floor: Floor,
    pub leader_floor: LeaderFloor,
    pub receiving: Receiving,
    /// Kept at most for followers that lag behind.
    pub keep_bytes_max: u64,
}

impl Retention {
    pub(super) async fn run(self) {
        let mut interval = tokio::time::interval(INTERVAL);
        loop {
            interval.tick().await;
            self.receiving.prune().await;
            let Some(at) = candidate(&self.store, self.needed(), self.keep_bytes_max) else { continue };
            self.floor.raise(at.index + 1);
            if let Err(error) = self.purge(at.index).await {
                tracing::debug!(%error, "consensus has stopped: the log is purged no more");
                return;
            }
        }
    }

    /// The leader knows what its followers have; the others know what the leader keeps.
    fn needed(&self) -> Needed {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.membership_config.membership().nodes().count() == 1 {
            return Needed::ByNobody;
        }
        match (&metrics.replication, metrics.state) {
            (Some(replication), ServerState::Leader) => {
                let lacking = replication.values().map(|has| has.as_ref().map_or(0, |id| id.index() + 1));
                Needed::From(lacking.min().unwrap_or_default())
            }
            _ => Needed::From(self.leader_floor.0.load(Ordering::Acquire)),
        }
    }

    /// The snapshot is a promise and costs nothing; openraft purges no more than one includes. Where it is
    /// not made yet when the purge is asked for, the next round purges.
    async fn purge(&self, upto: u64) -> Result<(), Fatal<TypeConfig>> {
        self.raft.trigger().snapshot().await?;
        self.raft.trigger().purge_log(upto).await
    }
}

/// What others may still ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needed {
    /// A node that is alone has nobody to keep anything for.
    ByNobody,
    /// This entry, and all that follow.
    From(u64),
}

/// The entry up to which the log may go.
fn candidate(store: &Store, needed: Needed, keep_bytes_max: u64) -> Option<Position> {
    let from = match needed {
        Needed::ByNobody => return store.purge_candidate(0),
        Needed::From(from) => from,
    };
    let spare = SPARE_BYTES.max(store.live_bytes() / SPARE_SHARE).min(keep_bytes_max);
    // Whichever gives up more: what nobody lacks, or what is beyond the bound.
    store.purge_candidate_below(from, spare).max(store.purge_candidate(keep_bytes_max))
}

#[cfg(test)]
mod tests {
    use kv_vlog::Op;

    use crate::raft::RaftNode;
    use crate::raft::storage_tests::{alone, new_store};

    use super::*;

    /// Broken by: openraft's own policy, which purges all but the last 1,000 entries behind a snapshot, whether
    /// they are in tables or not.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_snapshot_purges_nothing_by_itself() {
        let store = new_store();
        let config = alone(Arc::new(kv_vfs::SystemClock::default()));
        let node = RaftNode::start(&config, store.clone()).await.unwrap();
        node.raft().wait(None).current_leader(1, "it is alone").await.unwrap();
        let write = async |number: u32| {
            let key = bytes::Bytes::copy_from_slice(&number.to_be_bytes());
            node.write(vec![Op::Delete { key }]).await
        };
        let written = futures::future::join_all((0..2_000).map(write)).await;
        assert!(written.iter().all(Result::is_ok));
        node.raft().trigger().snapshot().await.unwrap();
        node.raft().wait(None).metrics(|now| now.snapshot.is_some(), "a snapshot").await.unwrap();
        write(2_000).await.unwrap();
        assert_eq!(store.log().state().purged, None);
        node.shutdown().await;
        store.close().unwrap();
    }
}
