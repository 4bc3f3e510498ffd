//! A connection to a peer that is made when needed, and again when it is lost.

use std::sync::Arc;
use std::time::Duration;

use kv_api::transport::client::connect;
use kv_api::transport::{ClientTransport, Dialer, Service, context};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::wire::{PeerClient, PeerRequest, PeerResponse};

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
    live: Arc<Mutex<Option<Live>>>,
}

struct Live {
    client: PeerClient,
    dispatch: JoinHandle<()>,
}

fn usable(live: &Option<Live>) -> Option<PeerClient> {
    live.as_ref().filter(|live| !live.dispatch.is_finished()).map(|live| live.client.clone())
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
        let client = self.client().await?;
        match tokio::time::timeout(deadline, call(client, context(deadline))).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(tarpc::client::RpcError::Server(error))) => Err(error.to_string()),
            Ok(Err(error)) => {
                self.live.lock().await.take();
                Err(error.to_string())
            }
            Err(_) => {
                self.live.lock().await.take();
                Err(format!("no answer within {} ms", deadline.as_millis()))
            }
        }
    }

    /// Makes sure that there is a connection.
    pub(crate) async fn connect(&self) -> Result<(), String> {
        self.client().await.map(drop)
    }

    async fn client(&self) -> Result<PeerClient, String> {
        if let Some(client) = usable(&*self.live.lock().await) {
            return Ok(client);
        }
        // In a task of its own: who sends heartbeats gives up sooner than a distant peer can be dialled, and
        // the next one is to find the connection.
        let line = self.clone();
        let dialling = tokio::spawn(async move {
            let mut live = line.live.lock().await;
            if let Some(client) = usable(&live) {
                return Ok(client);
            }
            *live = None;
            let made = line.dial().await.map_err(|why| format!("{}: {why}", line.target.address))?;
            Ok(live.insert(made).client.clone())
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
        Ok(Live { client: new.client, dispatch })
    }
}
