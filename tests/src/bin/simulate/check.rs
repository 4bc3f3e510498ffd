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
use kvnode::service::Shared;

/// How often somebody looks, in ms.
pub const LOOK_MS: u64 = 10;
/// How long healed nodes may take to reach the same entry.
const CONVERGENCE: Duration = Duration::from_secs(60);

/// Looks at the nodes until dropped.
pub async fn watch(running: Running) {
    let mut seen = Seen::default();
    loop {
        for (id, node) in &*running.lock() {
            seen.look(*id, node);
        }
        seen.check_votes();
        sleep(Duration::from_millis(LOOK_MS)).await;
    }
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    /// Who leads or led in a term.
    leaders: BTreeMap<u64, Host>,
    /// The term of each node's vote when it was last seen; after a restart, what it remembers.
    votes: BTreeMap<Host, u64>,
}

impl Seen {
    /// Two nodes never lead in one term; nobody applies what is not committed.
    fn look(&mut self, id: Host, node: &Shared) {
        let status = node.raft.own_status();
        if status.role == Role::Leader {
            let leader = *self.leaders.entry(status.term).or_insert(id);
            assert_eq!(leader, id, "two leaders in term {}", status.term);
        }
        let (applied, committed) = (status.applied, status.committed);
        assert!(applied <= committed, "node {id} has applied {applied} and {committed} is committed");
        self.votes.insert(id, node.store.log().vote().map_or(0, |vote| vote.term));
    }

    /// Who led was voted for by a majority, which must remember that whatever happens to it.
    fn check_votes(&self) {
        let Some((term, leader)) = self.leaders.last_key_value() else { return };
        let remember = self.votes.values().filter(|vote| *vote >= term).count();
        let votes = &self.votes;
        assert!(
            remember >= 2,
            "node {leader} led in term {term}, which is forgotten: the votes are of {votes:?}"
        );
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
        sleep(Duration::from_millis(LOOK_MS)).await;
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
