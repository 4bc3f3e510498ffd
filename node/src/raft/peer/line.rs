//! A connection to a peer that is made when needed, and again when it is lost.

use std::sync::{Arc, Weak};
use std::time::Duration;

use kv_api::transport::client::connect;
use kv_api::transport::{ClientTransport, Dialer, Service, context};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::wire::{PeerClient, PeerRequest, PeerResponse};

/// How long a connection may owe every answer before another one is made. Who sends heartbeats gives up on
/// each long before its deadline, and would never notice a connection that is dead without having ended.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// How long dialling and the preamble may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A peer and what it must be.
#[derive(Clone)]
pub(crate) struct Target {
    pub node_id: u64,
    pub address: String,
    pub cluster_id: [u8; 16],
    pub dialer: Arc<dyn Dialer>,
}

/// One connection of one kind of traffic; clones share it.
#[derive(Clone)]
pub(crate) struct Line {
    target: Target,
    service: Service,
    live: Arc<Mutex<Option<Arc<Live>>>>,
}

struct Live {
    client: PeerClient,
    dispatch: JoinHandle<()>,
    /// Since when a call waits with no answer to any.
    waiting_since: parking_lot::Mutex<Option<Instant>>,
}

impl Live {
    fn asked(&self) {
        self.waiting_since.lock().get_or_insert_with(Instant::now);
    }

    fn answered(&self) {
        *self.waiting_since.lock() = None;
    }

    /// Whether calls may go over it: it has not ended, and not become silent.
    fn is_usable(&self) -> bool {
        let silent = self.waiting_since.lock().is_some_and(|since| since.elapsed() > SILENCE_MAX);
        !self.dispatch.is_finished() && !silent
    }
}

/// A client of this connection, if it can be used.
fn usable(live: &Option<Arc<Live>>) -> Option<(PeerClient, Weak<Live>)> {
    let live = live.as_ref().filter(|live| live.is_usable())?;
    Some((live.client.clone(), Arc::downgrade(live)))
}

impl Drop for Live {
    fn drop(&mut self) {
        self.dispatch.abort();
    }
}

impl Line {
    pub(crate) fn new(target: Target, service: Service) -> Self {
        Self { target, service, live: Arc::default() }
    }

    /// One call; `call` gets the client and the context. After a failure the next call dials anew.
    pub(crate) async fn call<T, F>(
        &self,
        deadline: Duration,
        call: impl FnOnce(PeerClient, tarpc::context::Context) -> F,
    ) -> Result<T, String>
    where
        F: Future<Output = Result<T, tarpc::client::RpcError>>,
    {
        self.connect().await?.call(deadline, call).await
    }

    /// Drops the connection that failed, not a newer one: of many calls that fail with one connection, the
    /// first may have been repeated on the next before the last has failed.
    async fn forget(&self, failed: &Weak<Live>) {
        let mut live = self.live.lock().await;
        if live.as_ref().is_some_and(|live| Weak::ptr_eq(&Arc::downgrade(live), failed)) {
            *live = None;
        }
    }

    /// The connection, made where there is none.
    pub(crate) async fn connect(&self) -> Result<Connected, String> {
        let (client, live) = self.client().await?;
        Ok(Connected { line: self.clone(), client, live })
    }

    /// A client, and the connection that it uses.
    async fn client(&self) -> Result<(PeerClient, Weak<Live>), String> {
        if let Some(live) = usable(&*self.live.lock().await) {
            return Ok(live);
        }
        // In a task of its own: who sends heartbeats gives up sooner than a distant peer can be dialled, and
        // the next one is to find the connection.
        let line = self.clone();
        let dialling = tokio::spawn(async move {
            let mut live = line.live.lock().await;
            if let Some(live) = usable(&live) {
                return Ok(live);
            }
            *live = None;
            let made = line.dial().await.map_err(|why| format!("{}: {why}", line.target.address))?;
            let made = live.insert(Arc::new(made));
            Ok((made.client.clone(), Arc::downgrade(made)))
        });
        dialling.await.map_err(|error| error.to_string())?
    }

    async fn dial(&self) -> Result<Live, String> {
        let Target { node_id, address, cluster_id, dialer } = &self.target;
        let connecting = connect(&**dialer, address, self.service);
        let (io, welcome) = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| "no connection in time".to_string())?
            .map_err(|error| error.to_string())?;
        // A node that was wiped, or another one at its address, must not be taken for it.
        if welcome.cluster_id != *cluster_id {
            return Err("belongs to another cluster".into());
        }
        if welcome.node_id != *node_id {
            return Err(format!("is node {}, not node {node_id}", welcome.node_id));
        }
        let transport = ClientTransport::<PeerRequest, PeerResponse>::new(io, super::FRAME_BYTES_MAX);
        let new = PeerClient::new(tarpc::client::Config::default(), transport);
        let dispatch = tokio::spawn(async move {
            if let Err(error) = new.dispatch.await {
                tracing::debug!(%error, "connection to a peer ended");
            }
        });
        Ok(Live { client: new.client, dispatch, waiting_since: parking_lot::Mutex::default() })
    }
}

/// One connection, and no other after it is lost: for requests that must not overtake each other.
#[derive(Clone)]
pub(crate) struct Connected {
    line: Line,
    client: PeerClient,
    live: Weak<Live>,
}

impl Connected {
    /// As [`Line::call`], without dialling. The request is queued by the first poll.
    pub(crate) async fn call<T, F>(
        &self,
        deadline: Duration,
        call: impl FnOnce(PeerClient, tarpc::context::Context) -> F,
    ) -> Result<T, String>
    where
        F: Future<Output = Result<T, tarpc::client::RpcError>>,
    {
        self.note(Live::asked);
        match tokio::time::timeout(deadline, call(self.client.clone(), context(deadline))).await {
            Ok(Ok(answer)) => {
                self.note(Live::answered);
                Ok(answer)
            }
            Ok(Err(tarpc::client::RpcError::Server(error))) => {
                self.note(Live::answered);
                Err(error.to_string())
            }
            Ok(Err(error)) => {
                self.line.forget(&self.live).await;
                Err(error.to_string())
            }
            Err(_) => {
                self.line.forget(&self.live).await;
                Err(format!("no answer within {} ms", deadline.as_millis()))
            }
        }
    }

    fn note(&self, what: fn(&Live)) {
        if let Some(live) = self.live.upgrade() {
            what(&live);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::BoxFuture;
    use kv_api::transport::{BoxIo, Welcome, preamble};

    use super::*;
    use crate::raft::peer::ENTRIES;

    /// Reaches a peer that greets and then says nothing; counts the connections.
    #[derive(Default)]
    struct Silent(AtomicUsize);

    impl Dialer for Silent {
        fn dial<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<BoxIo>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let (ours, mut theirs) = tokio::io::duplex(1 << 16);
            tokio::spawn(async move {
                let welcome = Welcome { node_id: 2, ..Welcome::default() };
                preamble::answer(&mut theirs, |_| Ok(&welcome)).await.unwrap();
                std::future::pending::<()>().await;
            });
            Box::pin(async { Ok(Box::new(ours) as BoxIo) })
        }
    }

    /// Broken by: a connection that is dead without having ended, kept because each heartbeat gives up on it
    /// before its own deadline.
    #[tokio::test(start_paused = true)]
    async fn a_connection_that_owes_every_answer_is_made_anew() {
        let dialer = Arc::new(Silent::default());
        let target = Target {
            node_id: 2,
            address: "peer".into(),
            cluster_id: [0; 16],
            dialer: dialer.clone() as Arc<dyn Dialer>,
        };
        let line = Line::new(target, ENTRIES);
        let ask = async || {
            let call = line.call(Duration::from_secs(10), async |peer, context| peer.status(context).await);
            tokio::time::timeout(Duration::from_millis(100), call).await
        };
        let began = Instant::now();
        while began.elapsed() < SILENCE_MAX {
            assert!(ask().await.is_err(), "it said nothing");
            assert_eq!(dialer.0.load(Ordering::Relaxed), 1, "it may still answer");
        }
        assert!(ask().await.is_err());
        assert!(ask().await.is_err());
        assert_eq!(dialer.0.load(Ordering::Relaxed), 2);
    }
}
