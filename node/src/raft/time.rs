//! What time it is in the log: that of the leader's clock, which comes with entries.
//!
//! Who begins to lead believes its clock, unless log time is beyond it; while it leads, the clock's leaps are not
//! believed ([`Stamper`]). Where nothing is written that says how late it is, and something may expire, an entry without
//! operations does. In a group where nothing expires there are none.

use std::sync::Arc;
use std::time::Duration;

use kv_api::KvError;
use kv_lsm::{LogTime, Stamper, Store};
use kv_vfs::Clock;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{RaftMetrics, ServerState};
use parking_lot::Mutex;

use super::node::RaftNode;
use super::types::TypeConfig;

/// How often is looked whether something has expired that nobody reads.
const RECLAIM_INTERVAL: Duration = Duration::from_secs(10);
/// How long a read waits for the entry that says what time it is. A leader that is cut off from the others cannot have one,
/// and does not know that yet.
const TICK_DEADLINE: Duration = Duration::from_secs(1);
/// How long a new leader may take to apply what the ones before it have left.
const READY_DEADLINE: Duration = Duration::from_secs(5);

/// Makes the time of entries. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct LeaderTime {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    leading: Arc<Mutex<Leading>>,
    /// Held while an entry is under way that only says what time it is.
    tick: Arc<tokio::sync::Mutex<()>>,
}

/// A node leads once in a term at most.
#[derive(Debug, Default)]
struct Leading {
    term: u64,
    stamper: Stamper,
}

impl LeaderTime {
    pub(super) fn new(store: Arc<Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, leading: Arc::default(), tick: Arc::default() }
    }

    /// What time it is for an entry that the leader of this term makes now.
    pub(super) fn stamp(&self, term: u64) -> LogTime {
        let applied = self.store.time();
        let mut leading = self.leading.lock();
        if term > leading.term {
            *leading = Leading { term, stamper: Stamper::new(applied) };
        }
        // What another leader has left may be applied only after this one has begun.
        leading.stamper.stamp(self.clock.unix_ms(), self.clock.monotonic()).max(applied)
    }
}

impl RaftNode {
    /// What time it is for a write that is to be replicated now, from which times to live count.
    ///
    /// # Errors
    /// Only the leader knows, once it has applied what the ones before it have left: the time in that may be beyond the
    /// one of its own clock.
    pub async fn log_time(&self) -> Result<LogTime, KvError> {
        let term = self.leading_term().ok_or_else(|| self.not_leading())?;
        if self.store().applied().is_none_or(|at| at.term < term) {
            let wait = self.raft().wait(Some(READY_DEADLINE));
            let is_ready = |now: &RaftMetrics<TypeConfig>| {
                let applied = now.last_applied.as_ref();
                applied.is_some_and(|id| id.committed_leader_id().term >= term) || now.current_term > term
            };
            let waited = wait.metrics(is_ready, "a new leader is ready").await;
            waited.map_err(|error| KvError::Unavailable(error.to_string()))?;
        }
        match self.leading_term() {
            Some(now) if now == term => Ok(self.time().stamp(term)),
            _ => Err(self.not_leading()),
        }
    }

    /// Has what has expired be gone, if anything may expire and the clock is ahead of the log. Does nothing where another
    /// node leads. Of several who come at once one waits; a read that does not goes on with the time that there is.
    pub(super) async fn keep_time(&self) {
        if !self.store().may_expire() {
            return;
        }
        let Some(term) = self.leading_term() else { return };
        if self.time().stamp(term) <= self.store().time() {
            return;
        }
        if let Some(ticking) = self.tick() {
            // It goes on if it takes longer: there is never more than one under way.
            let _ = tokio::time::timeout(TICK_DEADLINE, ticking).await;
        }
    }

    /// Has an entry say what time it is, unless one is under way.
    fn tick(&self) -> Option<tokio::task::JoinHandle<()>> {
        let one = self.time().tick.clone().try_lock_owned().ok()?;
        let node = self.clone();
        Some(tokio::spawn(async move {
            let _one = one;
            if let Err(error) = node.write(Vec::new()).await {
                tracing::debug!(%error, "could not write down what time it is");
            }
        }))
    }

    /// Writes down what time it is when a part of a table has expired, so that compaction sees it; until aborted.
    pub(super) async fn reclaim(self) {
        loop {
            tokio::time::sleep(RECLAIM_INTERVAL).await;
            let Some(term) = self.leading_term() else { continue };
            let now = self.time().stamp(term);
            if self.store().next_expiry().is_some_and(|next| next <= now) {
                self.keep_time().await;
            }
        }
    }

    /// The term that this node leads in, as far as it knows.
    fn leading_term(&self) -> Option<u64> {
        let metrics = self.raft().metrics();
        let now = metrics.borrow_watched();
        (now.state == ServerState::Leader).then_some(now.current_term)
    }

    fn not_leading(&self) -> KvError {
        let metrics = self.raft().metrics();
        let now = metrics.borrow_watched();
        let member = |id: u64| Some((id, now.membership_config.membership().get_node(&id)?.addr.clone()));
        let leader = now.current_leader.filter(|id| *id != now.id);
        KvError::NotLeader { leader: leader.and_then(member) }
    }
}

#[cfg(test)]
mod tests {
    use kv_vfs::{ManualClock, SystemClock};
    use kv_vlog::{Compression, Expiry, Op, OpValue, StoredValue};

    use crate::raft::storage_tests::{alone, new_store};

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn clock() -> Arc<ManualClock> {
        let clock = Arc::new(ManualClock::default());
        clock.advance(Duration::from_secs(NOW));
        clock
    }

    /// A wall clock that is set, beside one that goes by itself.
    #[derive(Debug, Default)]
    struct Wall(std::sync::atomic::AtomicU64);

    impl Clock for Wall {
        fn unix_ms(&self) -> u64 {
            self.0.load(std::sync::atomic::Ordering::Relaxed)
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[test]
    fn a_leap_of_the_clock_is_believed_by_the_next_leader_only() {
        let (store, wall) = (new_store(), Arc::new(Wall::default()));
        let time = LeaderTime::new(store.clone(), wall.clone());
        let at = |term, seconds: u64| {
            wall.0.store(seconds * 1000, std::sync::atomic::Ordering::Relaxed);
            time.stamp(term)
        };
        assert_eq!([at(1, 500), at(1, 501), at(1, 90_000)], [500, 501, 502]);
        assert_eq!([at(3, 90_000), at(2, 200_000), at(3, 20)], [90_000, 90_002, 90_002]);
        assert_eq!(at(4, 20), 20);
        store.stop();
    }

    async fn start(clock: Arc<dyn Clock>) -> (RaftNode, Arc<Store>) {
        let store = new_store();
        let node = RaftNode::start(&alone(clock), store.clone()).await.unwrap();
        node.raft().wait(None).current_leader(1, "it is alone").await.unwrap();
        (node, store)
    }

    fn put(expires: Expiry) -> Vec<Op> {
        let value = StoredValue::expiring(b"k", "v".into(), &Compression::default(), expires);
        vec![Op::Put { key: "k".into(), value: OpValue::Full(value) }]
    }

    /// Broken by: reads that say what time it is though nothing expires, or again and again.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_read_says_what_time_it_is_only_where_that_may_change_what_it_finds() {
        let clock = clock();
        let (node, store) = start(clock.clone()).await;
        node.write(put(Expiry::NEVER)).await.unwrap();
        let applied = store.applied().unwrap().index;
        clock.advance(Duration::from_secs(100));
        node.read_barrier().await.unwrap();
        assert_eq!((store.applied().unwrap().index, u64::from(store.time())), (applied, NOW));

        let now = node.log_time().await.unwrap();
        node.write(put(Expiry::after(now, Duration::from_secs(3)))).await.unwrap();
        assert_eq!(u64::from(store.time()), NOW + 100);
        clock.advance(Duration::from_secs(3));
        node.read_barrier().await.unwrap();
        assert!(store.get(b"k", None).unwrap().is_some(), "it was to stay for 3 s");
        clock.advance(Duration::from_secs(1));
        for _ in 0..5 {
            node.read_barrier().await.unwrap();
        }
        assert_eq!(store.get(b"k", None).unwrap(), None);
        assert_eq!((store.applied().unwrap().index, u64::from(store.time())), (applied + 3, NOW + 104));
        node.shutdown().await;
        store.close().unwrap();
    }

    #[tokio::test]
    async fn who_does_not_lead_knows_no_time() {
        let (store, mut config) = (new_store(), alone(Arc::new(SystemClock::default())));
        config.members.insert(2, "127.0.0.1:2".into());
        let node = RaftNode::start(&config, store.clone()).await.unwrap();
        assert_eq!(node.log_time().await, Err(KvError::NotLeader { leader: None }));
        node.shutdown().await;
        store.stop();
    }
}
