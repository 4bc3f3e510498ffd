//! What clients ask: the handlers behind the listener.

mod admin;
mod disk;
mod gc;
mod kv;
mod scans;
mod stats;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use kv_api::admin::Admin as _;
use kv_api::kv::Kv as _;
use kv_api::stats::Stats;
use kv_api::transport::{Connection, ServeOptions, Service, serve};
use kv_api::{KvError, Limits};
use kv_lsm::{Store, StoreError};
use parking_lot::Mutex;

pub use admin::AdminService;
pub use disk::DiskGuard;
pub use kv::KvService;

use crate::raft::RaftNode;
use crate::raft::peer::{self, Peer as _, PeerService};
use scans::OpenScans;

/// How often [`Shared::housekeeping`] looks.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_millis(250);

/// After how many looks it also asks the store what it holds.
const STATS_ROUNDS: u64 = 20;

/// What all handlers share.
#[derive(Debug)]
pub struct Shared {
    /// The member of the group.
    pub raft: RaftNode,
    /// Its engine.
    pub store: Arc<Store>,
    /// What a client may ask for.
    pub limits: Limits,
    /// Room on the disk.
    pub disk: DiskGuard,
    scans: OpenScans,
    upkeep: upkeep::Places,
    /// What the store said of itself last.
    looked: Mutex<Option<Stats>>,
}

impl Shared {
    /// Handlers on this member.
    #[must_use]
    pub fn new(raft: RaftNode, store: Arc<Store>, limits: Limits) -> Arc<Self> {
        let disk = DiskGuard::default();
        disk.look(&store);
        let (scans, upkeep, looked) = (OpenScans::default(), upkeep::Places::default(), Mutex::default());
        Arc::new(Self { raft, store, limits, disk, scans, upkeep, looked })
    }

    /// Looks after what time changes, room on the disk and forgotten scans, until dropped.
    pub async fn housekeeping(self: Arc<Self>) {
        let mut interval = tokio::time::interval(HOUSEKEEPING_INTERVAL);
        for round in 0u64.. {
            interval.tick().await;
            // A disk that hangs must not hang the reactor.
            let shared = self.clone();
            let looked = crate::blocking::run(move || {
                shared.disk.look(&shared.store);
                shared.scans.prune();
                if round.is_multiple_of(STATS_ROUNDS) {
                    shared.look_at_store();
                }
            });
            if looked.await.is_err() {
                return;
            }
        }
    }

    fn look_at_store(&self) {
        match self.store.stats() {
            Ok(stats) => *self.looked.lock() = Some(stats::of(self.raft.id(), &stats)),
            Err(error) => tracing::warn!(%error, "cannot tell what the store holds"),
        }
    }

    /// What the store said of itself at most some seconds ago; not asked for now, so that nobody has to wait for a disk that
    /// hangs.
    #[must_use]
    pub fn stats(&self) -> Option<Stats> {
        self.looked.lock().clone()
    }

    /// Runs what reads from disk where it does not hold up the reactor.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, KvError> {
        let shared = self.clone();
        match crate::blocking::run(move || work(&shared)).await {
            Ok(result) => result.map_err(|error| to_wire(&error)),
            Err(error) => Err(KvError::Unavailable(format!("the read ended early: {error}"))),
        }
    }
}

/// The services a node has.
#[must_use]
pub fn services() -> Vec<Service> {
    vec![Service::KV, Service::ADMIN, peer::CONTROL, peer::ENTRIES, peer::SNAPSHOTS]
}

/// How connections are served.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Those of clients.
    pub clients: ServeOptions,
    /// Those of other nodes.
    pub peers: ServeOptions,
}

/// Answers one connection until it ends.
pub async fn answer(connection: Connection, serving: Serving, shared: Arc<Shared>) {
    let Serving { clients, peers } = serving;
    if connection.service == Service::KV {
        let service = KvService(shared);
        serve(connection, clients, move |context, request| {
            tarpc::server::Serve::serve(service.clone().serve(), context, request)
        })
        .await;
    } else if connection.service == Service::ADMIN {
        let service = AdminService(shared);
        serve(connection, clients, move |context, request| {
            tarpc::server::Serve::serve(service.clone().serve(), context, request)
        })
        .await;
    } else {
        let service = PeerService::new(shared.raft.clone());
        serve(connection, peers, move |context, request| {
            tarpc::server::Serve::serve(service.clone().serve(), context, request)
        })
        .await;
    }
}

fn to_wire(error: &StoreError) -> KvError {
    match error {
        StoreError::Invalid(why) => KvError::Invalid(why.clone()),
        StoreError::Compacted { oldest, .. } => KvError::Compacted { oldest: *oldest },
        damage if damage.is_damage() => KvError::Corrupt(damage.to_string()),
        other => KvError::Unavailable(other.to_string()),
    }
}
