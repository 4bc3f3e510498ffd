//! How much log is kept for followers: by bytes, whoever still wants to read it. A follower that is slow or
//! gone must not fill the disk of the others; it gets a snapshot when it comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_lsm::Store;
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::Fatal;

use super::peer::Receiving;
use super::state_machine::StateMachine;
use super::types::TypeConfig;

/// How often the log is looked at. Between two looks it can grow by what is written meanwhile.
const INTERVAL: Duration = Duration::from_millis(250);

/// The entries that are about to be purged. openraft waits with a purge while a stream to a follower still
/// reads such entries, so that streams look here and end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Floor(Arc<AtomicU64>);

impl Floor {
    /// Entries below this index are wanted no more.
    pub(crate) fn next_kept(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn raise(&self, next_kept: u64) {
        self.0.fetch_max(next_kept, Ordering::AcqRel);
    }
}

/// Purges what is beyond `keep_bytes`, until consensus stops.
pub(super) struct Retention {
    pub raft: Raft<TypeConfig, StateMachine>,
    pub store: Arc<Store>,
    pub floor: Floor,
    pub receiving: Receiving,
    pub keep_bytes: u64,
}

impl Retention {
    pub(super) async fn run(self) {
        let mut interval = tokio::time::interval(INTERVAL);
        loop {
            interval.tick().await;
            self.receiving.prune().await;
            // A node that is alone has nobody to keep it for.
            let keep_bytes = if self.is_alone() { 0 } else { self.keep_bytes };
            let Some(at) = self.store.purge_candidate(keep_bytes) else { continue };
            self.floor.raise(at.index + 1);
            if let Err(error) = self.purge(at.index).await {
                tracing::debug!(%error, "consensus has stopped: the log is purged no more");
                return;
            }
        }
    }

    fn is_alone(&self) -> bool {
        let metrics = self.raft.metrics();
        let members = metrics.borrow_watched().membership_config.clone();
        members.membership().nodes().count() == 1
    }

    /// The snapshot is a promise and costs nothing; openraft purges no more than one includes. Where it is
    /// not made yet when the purge is asked for, the next round purges.
    async fn purge(&self, upto: u64) -> Result<(), Fatal<TypeConfig>> {
        self.raft.trigger().snapshot().await?;
        self.raft.trigger().purge_log(upto).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kv_api::transport::TcpDialer;
    use kv_vlog::Op;

    use crate::raft::storage_tests::new_store;
    use crate::raft::{NodeConfig, RaftNode};

    use super::*;

    /// Broken by: openraft's own policy, which purges all but the last 1,000 entries behind a snapshot, whether
    /// they are in tables or not.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_snapshot_purges_nothing_by_itself() {
        let store = new_store();
        let config = NodeConfig {
            node_id: 1,
            members: BTreeMap::from([(1, "127.0.0.1:1".into())]),
            cluster_id: [7; 16],
            dialer: Arc::new(TcpDialer),
            heartbeat_ms: 100,
            election_timeout_ms: 500..1_000,
            retained_log_bytes: u64::MAX,
            on_fatal: Arc::new(|_| {}),
            resume_term: false,
        };
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
