//! The accepting side: bounded connections, preambles with a time limit, an orderly end.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    io::{Acceptor, BoxIo},
    preamble::{self, Refusal, Service, Welcome},
    server::Connection,
};

/// Connections beyond the limit that are told so at a time; others are closed without a word.
const REFUSALS_MAX: usize = 64;
/// Pause after a failed accept: most often no file handle is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a node accepts connections.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// What it tells its clients.
    pub welcome: Welcome,
    /// The services it has.
    pub services: Vec<Service>,
    /// Connections at once. Default 1024.
    pub connections_max: usize,
    /// How long requests in work may take to finish after the stop. Default 10 s.
    pub drain: Duration,
}

impl ListenOptions {
    /// Defaults with these services.
    pub fn new(welcome: Welcome, services: impl Into<Vec<Service>>) -> Self {
        Self { welcome, services: services.into(), connections_max: 1024, drain: Duration::from_secs(10) }
    }
}

/// Accepts connections and runs `handler` on each (most often [`serve`](super::serve)) until `stop` is cancelled.
///
/// After the stop no connection is accepted and no request read; what is in work has `drain` to finish.
/// When this returns, no connection is left. Dropping it ends all connections at once.
pub async fn listen<A, F, Fut>(mut acceptor: A, options: ListenOptions, stop: CancellationToken, handler: F)
where
    A: Acceptor,
    F: Fn(Connection) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let drain = options.drain;
    let slots = Arc::new(Semaphore::new(options.connections_max));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let options = Arc::new(options);
    let mut tasks = JoinSet::new();
    while let Some(accepted) = stop.run_until_cancelled(acceptor.accept()).await {
        let (io, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (slot, busy) = match Arc::clone(&slots).try_acquire_owned() {
            Ok(slot) => (slot, false),
            Err(_) => match Arc::clone(&refusals).try_acquire_owned() {
                Ok(slot) => (slot, true),
                Err(_) => continue,
            },
        };
        let guest = Guest { io, peer, slot, busy };
        tasks.spawn(receive(guest, Arc::clone(&options), stop.clone(), handler.clone()));
        while tasks.try_join_next().is_some() {}
    }
    drop(acceptor);
    let _ = timeout(drain, async { while tasks.join_next().await.is_some() {} }).await;
    tasks.shutdown().await;
}

/// A connection before its preamble.
struct Guest {
    io: BoxIo,
    peer: String,
    slot: OwnedSemaphorePermit,
    busy: bool,
}

async fn receive<F, Fut>(guest: Guest, options: Arc<ListenOptions>, stop: CancellationToken, handler: F)
where
    F: Fn(Connection) -> Fut,
    Fut: Future<Output = ()>,
{
    let Guest { mut io, peer, slot, busy } = guest;
    let judge = |service| {
        if stop.is_cancelled() {
            Err(Refusal::Stopping)
        } else if busy {
            Err(Refusal::Busy)
        } else if !options.services.contains(&service) {
            Err(Refusal::UnknownService)
        } else {
            Ok(&options.welcome)
        }
    };
    match preamble::answer(&mut io, judge).await {
        Ok(Some(service)) => handler(Connection { service, peer, io, stop }).await,
        Ok(None) => tracing::debug!(peer, "connection refused"),
        Err(error) => tracing::debug!(peer, %error, "no preamble"),
    }
    drop(slot);
}
