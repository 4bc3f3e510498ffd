//! openraft's own tests of a log and a state machine, on ours.
//!
//! Of its 45 tests 26 run on one store, and the same ones and 7 more with a loss of power and an open after each
//! call that changes something ([`reopened`]). The other 12 ask for what the engine refuses, because a log that
//! is the only place of values must not do it:
//!
//! - a log that does not begin with entry 0, and was not purged either: `last_membership_in_log`,
//!   `last_membership_in_log_multi_step`, `get_membership_from_log_and_empty_sm`,
//!   `get_initial_state_re_apply_committed`;
//! - purging entries that were applied but never were in the log; tables wait for the log to be durable up to
//!   what they hold: `get_initial_state_membership_from_empty_log_and_sm`,
//!   `get_initial_state_membership_from_sm_inlog_is_smaller`,
//!   `get_initial_state_membership_from_log_insm_is_smaller`, `get_initial_state_last_log_lt_sm`,
//!   `last_id_in_log`;
//! - purging beyond the last entry: `get_log_state`, `purge_logs_upto_20`;
//! - applying an entry that does not follow the last one: `last_applied_state`.
mod reopened;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use kv_api::transport::TcpDialer;
use kv_lsm::{Environment, NewStore, Options, Store};
use kv_vfs::{Clock, MemVfs, SystemClock, ThreadExecutor};
use openraft::testing::log::{StoreBuilder, Suite};

use self::reopened::Lives;
use super::log_store::LogStore;
use super::node::NodeConfig;
use super::state_machine::StateMachine;
use super::types::TypeConfig;

/// Stopped when dropped, so that its threads end; not closed, which waits for entries that a test only applies.
struct Closing(Arc<Store>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Whose data it is.
const OURS: NewStore = NewStore { cluster_id: [7; 16], node_id: 1, incarnation: 1 };

fn dir() -> &'static Path {
    Path::new("/data")
}

/// A disk with an empty data directory, whose name survives.
fn with_directory() -> MemVfs {
    let disk = MemVfs::new();
    kv_vfs::create_dir(&disk, dir()).unwrap();
    disk
}

/// How the only member of a group takes part.
pub(super) fn alone(clock: Arc<dyn Clock>) -> NodeConfig {
    NodeConfig {
        node_id: 1,
        members: BTreeMap::from([(1, "127.0.0.1:1".into())]),
        cluster_id: OURS.cluster_id,
        dialer: Arc::new(TcpDialer),
        clock,
        heartbeat_ms: 100,
        election_timeout_ms: 500..1_000,
        retained_log_bytes: u64::MAX,
        on_fatal: Arc::new(|_| {}),
        resume_term: false,
    }
}

/// An empty store on a disk of its own.
pub(super) fn new_store() -> Arc<Store> {
    let environment = Environment {
        vfs: Arc::new(with_directory()),
        clock: Arc::new(SystemClock::default()),
        executor: Arc::new(ThreadExecutor),
    };
    Store::open(&environment, dir(), Options::default(), Some(OURS)).unwrap()
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, Closing> for Builder {
    async fn build(&self) -> Result<(Closing, LogStore, StateMachine), openraft::StorageError<TypeConfig>> {
        let store = new_store();
        Ok((Closing(store.clone()), LogStore::new(store.clone()), StateMachine::new(store)))
    }
}

type Tests = Suite<TypeConfig, LogStore, StateMachine, Builder, Closing>;

struct BuilderOfLives;

impl StoreBuilder<TypeConfig, Lives, Lives> for BuilderOfLives {
    async fn build(&self) -> Result<((), Lives, Lives), openraft::StorageError<TypeConfig>> {
        let lives = Lives::new();
        Ok(((), lives.clone(), lives))
    }
}

type TestsOfLives = Suite<TypeConfig, Lives, Lives, BuilderOfLives, ()>;

/// On one store, as threads run it.
macro_rules! suite {
    ($($name:ident),+ $(,)?) => { $(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> io::Result<()> {
            let (closing, log, machine) = Builder.build().await.unwrap();
            let tested = Tests::$name(log, machine).await;
            drop(closing);
            tested
        }
    )+ };
}

/// With a loss of power and an open after each call that changes something.
macro_rules! suite_of_lives {
    ($($name:ident),+ $(,)?) => { mod with_loss_of_power { $(
        #[tokio::test]
        async fn $name() -> std::io::Result<()> {
            let lives = super::Lives::new();
            super::TestsOfLives::$name(lives.clone(), lives).await
        }
    )+ } };
}

macro_rules! both {
    ($($name:ident),+ $(,)?) => {
        suite!($($name),+);
        suite_of_lives!($($name),+,
            // These purge: here what is purged is applied and in tables before.
            get_initial_state_log_ids,
            try_get_log_entry,
            get_log_id,
            purge_logs_upto_0,
            purge_logs_upto_5,
            append_to_log,
        );
    };
}

both!(
    last_membership_in_log_initial,
    get_membership_initial,
    get_membership_from_empty_log_and_sm,
    get_membership_from_log_le_sm_last_applied,
    get_membership_from_log_gt_sm_last_applied_1,
    get_membership_from_log_gt_sm_last_applied_2,
    get_initial_state_without_init,
    get_initial_state_with_state,
    get_initial_state_last_log_gt_sm,
    get_initial_state_inverted_log_order,
    get_initial_state_conflict_at_same_index,
    save_vote,
    get_log_entries,
    limited_get_log_entries,
    leader_bounded_stream,
    entries_stream,
    log_reader_reads_new_entries,
    initial_logs,
    delete_logs_after_11,
    delete_logs_after_5,
    delete_logs_after_0,
    delete_logs_after_none,
    snapshot_meta,
    snapshot_meta_optional,
    apply_single,
    apply_multiple,
);

#[tokio::test]
async fn a_snapshot_is_transferred_with_loss_of_power() -> io::Result<()> {
    TestsOfLives::transfer_snapshot(&BuilderOfLives).await
}
