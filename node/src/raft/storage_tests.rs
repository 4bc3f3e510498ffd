//! openraft's own tests of a log and a state machine, on ours.
//!
//! Left out are those that ask for what the engine refuses, because a log that is the only place of values
//! must not do it: purging entries that are in no table (`purge_logs_*`, `get_log_state`, `append_to_log` and
//! others begin so), applying an entry that does not follow the last one (`last_applied_state`), and a log
//! that begins above its floor without one (`last_membership_in_log*`). The engine's tests cover these.

use std::io;
use std::path::Path;
use std::sync::Arc;

use kv_lsm::{Environment, NewStore, Options, Store};
use kv_vfs::{MemVfs, SystemClock, ThreadExecutor, Vfs as _};
use openraft::testing::log::Suite;

use super::log_store::LogStore;
use super::state_machine::StateMachine;
use super::types::TypeConfig;

/// Stopped when dropped, so that its threads end; not closed, which waits for entries that a test only applies.
struct Closing(Arc<Store>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// An empty store on a disk of its own.
pub(super) fn new_store() -> Arc<Store> {
    let vfs = MemVfs::new();
    vfs.create_dir_all(Path::new("/data")).unwrap();
    let environment = Environment {
        vfs: Arc::new(vfs),
        clock: Arc::new(SystemClock::default()),
        executor: Arc::new(ThreadExecutor),
    };
    let new = NewStore { cluster_id: [7; 16], node_id: 1, incarnation: 1 };
    Store::open(&environment, Path::new("/data"), Options::default(), Some(new)).unwrap()
}

struct Builder;

impl openraft::testing::log::StoreBuilder<TypeConfig, LogStore, StateMachine, Closing> for Builder {
    async fn build(&self) -> Result<(Closing, LogStore, StateMachine), openraft::StorageError<TypeConfig>> {
        let store = new_store();
        Ok((Closing(store.clone()), LogStore::new(store.clone()), StateMachine::new(store)))
    }
}

type Tests = Suite<TypeConfig, LogStore, StateMachine, Builder, Closing>;

macro_rules! suite {
    ($($name:ident),+ $(,)?) => { $(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> io::Result<()> {
            let (closing, log, machine) =
                openraft::testing::log::StoreBuilder::build(&Builder).await.unwrap();
            let tested = Tests::$name(log, machine).await;
            drop(closing);
            tested
        }
    )+ };
}

suite!(
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
