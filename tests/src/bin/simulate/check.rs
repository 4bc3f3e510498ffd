//! What must hold at every moment, and what must hold when all is well again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kv_api::admin::Role;
use kv_lsm::offline;
use kv_vfs::Vfs;
use tokio::time::{Instant, sleep};

use crate::cluster::{DATA_DIR, Running};
use crate::net::Host;
use crate::trace::note;

/// How often somebody looks.
const LOOK: Duration = Duration::from_millis(10);
/// How long healed nodes may take to reach the same entry.
const CONVERGENCE: Duration = Duration::from_secs(60);

/// Two nodes never lead in one term; no node applies what is not committed, or un-applies anything.
pub async fn watch(running: Running) {
    let mut leaders: BTreeMap<u64, Host> = BTreeMap::new();
    loop {
        for (id, shared) in &*running.lock() {
            let status = shared.raft.own_status();
            if status.role == Role::Leader {
                let leader = *leaders.entry(status.term).or_insert(*id);
                assert_eq!(leader, *id, "two leaders in term {}", status.term);
            }
            assert!(
                status.applied <= status.committed,
                "node {id} has applied {} and {} is committed",
                status.applied,
                status.committed
            );
        }
        sleep(LOOK).await;
    }
}

/// All nodes come to the same entry.
pub async fn converge(running: &Running) {
    let until = Instant::now() + CONVERGENCE;
    loop {
        let at: Vec<_> = running.lock().values().map(|shared| shared.store.applied()).collect();
        if at.windows(2).all(|pair| pair.first() == pair.last()) {
            return;
        }
        assert!(Instant::now() < until, "the nodes have applied different entries: {at:?}");
        sleep(LOOK).await;
    }
}

/// All disks hold the same.
pub fn same_contents(disks: BTreeMap<Host, Arc<dyn Vfs>>) {
    let contents = contents(disks);
    assert!(!differ(&contents), "the nodes hold different contents: {contents:?}");
}

/// Whether these are not all the same.
pub fn differ(contents: &BTreeMap<Host, Option<String>>) -> bool {
    let first = contents.values().next();
    contents.values().any(|hash| Some(hash) != first)
}

/// A hash of what each disk holds; nothing on them is damaged.
#[expect(clippy::panic, reason = "damage is what this is about")]
pub fn contents(disks: BTreeMap<Host, Arc<dyn Vfs>>) -> BTreeMap<Host, Option<String>> {
    let hash = |(id, vfs)| {
        let report = offline::check(&vfs, Path::new(DATA_DIR), &|_| {})
            .unwrap_or_else(|error| panic!("node {id} cannot be checked: {error}"));
        assert!(report.problems.is_empty(), "node {id} is damaged: {:?}", report.problems);
        note!("node {id} holds {report:?}");
        // Not the entry applied last: those who stop last have elected another leader meanwhile.
        (id, report.content_hash)
    };
    disks.into_iter().map(hash).collect()
}
