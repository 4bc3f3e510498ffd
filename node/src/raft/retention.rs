//! How much log is kept for followers: by bytes, whoever still wants to read it. A follower that is slow or
//! gone must not fill the disk of the others; it gets a snapshot when it comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::node::RaftNode;

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

/// Purges what is beyond `keep_bytes`, until the node stops.
pub(super) async fn run(node: RaftNode, keep_bytes: u64) {
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        node.receiving().prune().await;
        let Some(at) = node.store().purge_candidate(keep_bytes) else { continue };
        node.floor().raise(at.index + 1);
        let trigger = node.raft().trigger();
        // The snapshot is a promise and costs nothing; openraft purges no more than one includes. Where it
        // is not made yet when the purge is asked for, the next round purges.
        let purged = async {
            trigger.snapshot().await?;
            trigger.purge_log(at.index).await
        };
        if let Err(error) = purged.await {
            tracing::debug!(%error, "consensus has stopped: the log is purged no more");
            return;
        }
    }
}
