//! One connection that is made when needed and made again when it is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use kv_api::{
    Limit, Limits,
    admin::{AdminRequest, AdminResponse},
    kv::{KvRequest, KvResponse},
    transport::{
        ClientTransport, Dialer, PreambleError, Refusal, Service, Welcome,
        client::{connect, too_long},
        context,
    },
};
use serde::{Serialize, Serializer, de::DeserializeOwned, ser};
use tarpc::{RequestName, client::RpcError};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

use crate::{Error, retry::Failure};

/// Calls in flight per connection; more wait here, below the node's own limit.
const IN_FLIGHT_MAX: usize = 256;

/// A service a line can be for.
pub(crate) trait Rpc: 'static {
    type Request: Serialize + RequestName + Send + 'static;
    type Response: DeserializeOwned + Send + 'static;
    const SERVICE: Service;
}

pub(crate) struct KvRpc;

impl Rpc for KvRpc {
    type Request = KvRequest;
    type Response = KvResponse;
    const SERVICE: Service = Service::KV;
}

pub(crate) struct AdminRpc;

impl Rpc for AdminRpc {
    type Request = AdminRequest;
    type Response = AdminResponse;
    const SERVICE: Service = Service::ADMIN;
}

/// Why there is no connection. No request was sent.
#[derive(Clone, Debug)]
pub(crate) enum ConnectFailure {
    /// Worth another try.
    Passing(String),
    /// The other side closed without a word.
    Closed,
    /// No use to try again there.
    Hopeless(Error),
}

/// Whether a request left this process. Decided once: sent, or never to be sent.
#[derive(Debug, Default)]
struct Fate(AtomicU8);

impl Fate {
    const SENT: u8 = 1;
    const GIVEN_UP: u8 = 2;

    /// `false`: the caller has given up, it must not be sent.
    fn send(&self) -> bool {
        self.decide(Self::SENT) == Self::SENT
    }

    /// `false`: too late, it was sent.
    fn give_up(&self) -> bool {
        self.decide(Self::GIVEN_UP) == Self::GIVEN_UP
    }

    fn decide(&self, fate: u8) -> u8 {
        match self.0.compare_exchange(0, fate, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => fate,
            Err(decided) => decided,
        }
    }
}

/// A request that knows whether it was sent: the connection sends what it serialises, at once.
#[derive(Debug)]
pub(crate) struct Outgoing<R> {
    request: R,
    fate: Arc<Fate>,
}

impl<R: Serialize> Serialize for Outgoing<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.fate.send() {
            return Err(ser::Error::custom("given up"));
        }
        self.request.serialize(serializer)
    }
}

impl<R: RequestName> RequestName for Outgoing<R> {
    fn name(&self) -> &str {
        self.request.name()
    }
}

/// A connection that was made.
pub(crate) struct Live<R: Rpc> {
    channel: tarpc::client::Channel<Outgoing<R::Request>, R::Response>,
    dispatch: JoinHandle<()>,
    pub(crate) endpoint: String,
    pub(crate) limits: Limits,
}

impl<R: Rpc> Live<R> {
    /// One try of a call.
    pub(crate) async fn call(&self, request: R::Request, until: Instant) -> Result<R::Response, Failure> {
        let fate = Arc::new(Fate::default());
        let outgoing = Outgoing { request, fate: Arc::clone(&fate) };
        let context = context(until.saturating_duration_since(Instant::now()));
        let error = match timeout_at(until, self.channel.call(context, outgoing)).await {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(error)) => error,
            Err(_) => RpcError::DeadlineExceeded,
        };
        if let Some(error) = too_long(&error) {
            let (limit, max, actual) = (Limit::Frame, error.max, error.actual);
            return Err(Failure::Final(Error::TooLarge { limit, max, actual }));
        }
        let sent = !fate.give_up();
        Err(match error {
            RpcError::DeadlineExceeded => Failure::Late { sent },
            RpcError::Server(error) => self.refused(&error),
            error if sent => Failure::Lost(format!("{}: {}", self.endpoint, chain(&error))),
            error => Failure::NotSent(format!("{}: {}", self.endpoint, chain(&error))),
        })
    }

    /// The node could not even call the service.
    fn refused(&self, error: &tarpc::ServerError) -> Failure {
        let what = error.detail.clone();
        match error.kind {
            std::io::ErrorKind::WouldBlock => Failure::Throttled,
            // The node could not decode the request.
            std::io::ErrorKind::InvalidData => {
                Failure::Final(Error::Protocol { endpoint: self.endpoint.clone(), what })
            }
            // The service ran; its reply does not fit into a frame, or does not decode here.
            std::io::ErrorKind::FileTooLarge | std::io::ErrorKind::InvalidInput => {
                Failure::Unreadable { endpoint: self.endpoint.clone(), what }
            }
            _ => Failure::Lost(format!("{}: {what}", self.endpoint)),
        }
    }
}

type Dialling<R> = Shared<BoxFuture<'static, Result<Arc<Live<R>>, ConnectFailure>>>;

/// A place for a connection. All who want it at the same time share one try, also when it fails.
pub(crate) struct Line<R: Rpc> {
    current: std::sync::Mutex<Option<Dialling<R>>>,
    in_use: AtomicUsize,
}

impl<R: Rpc> Default for Line<R> {
    fn default() -> Self {
        Self { current: std::sync::Mutex::new(None), in_use: AtomicUsize::new(0) }
    }
}

/// What dialling needs.
pub(crate) struct Dial {
    pub(crate) dialer: Arc<dyn Dialer>,
    pub(crate) endpoint: String,
    pub(crate) timeout: Duration,
}

impl<R: Rpc> Line<R> {
    /// The connection; makes it if there is none.
    pub(crate) async fn get(
        &self,
        dial: Dial,
        admit: impl FnOnce(&Welcome) -> Result<(), Error> + Send + 'static,
    ) -> Result<Arc<Live<R>>, ConnectFailure> {
        let dialling = {
            let mut current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match current.as_ref().filter(|dialling| usable(dialling)) {
                Some(dialling) => dialling.clone(),
                None => current.insert(start(dial, admit)).clone(),
            }
        };
        dialling.await
    }

    /// Counts a call until the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> InUse<R> {
        self.in_use.fetch_add(1, Ordering::Relaxed);
        InUse(Arc::clone(self))
    }

    /// Calls that use it now.
    pub(crate) fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }
}

/// See [`Line::enter`].
pub(crate) struct InUse<R: Rpc>(Arc<Line<R>>);

impl<R: Rpc> std::ops::Deref for InUse<R> {
    type Target = Line<R>;

    fn deref(&self) -> &Line<R> {
        &self.0
    }
}

impl<R: Rpc> Drop for InUse<R> {
    fn drop(&mut self) {
        self.0.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection in use by one call: its line counts the call until this is dropped.
pub(crate) struct Taken<R: Rpc> {
    pub(crate) live: Arc<Live<R>>,
    pub(crate) _in_use: InUse<R>,
}

impl<R: Rpc> std::ops::Deref for Taken<R> {
    type Target = Live<R>;

    fn deref(&self) -> &Live<R> {
        &self.live
    }
}

fn usable<R: Rpc>(dialling: &Dialling<R>) -> bool {
    match dialling.peek() {
        None => true,
        Some(Ok(live)) => !live.dispatch.is_finished(),
        Some(Err(_)) => false,
    }
}

/// Dials in a task: it must not stop half way because the caller that began it has given up.
fn start<R: Rpc>(
    dial: Dial,
    admit: impl FnOnce(&Welcome) -> Result<(), Error> + Send + 'static,
) -> Dialling<R> {
    let task = tokio::spawn(async move {
        let connected = timeout(dial.timeout, connect(&*dial.dialer, &dial.endpoint, R::SERVICE)).await;
        let (io, welcome) =
            connected.unwrap_or(Err(PreambleError::Timeout)).map_err(|error| failure(error, &dial))?;
        admit(&welcome).map_err(ConnectFailure::Hopeless)?;
        let mut config = tarpc::client::Config::default();
        config.max_in_flight_requests = IN_FLIGHT_MAX;
        let transport = ClientTransport::new(io, welcome.limits.frame_bytes_max);
        let client = tarpc::client::new(config, transport);
        let endpoint = dial.endpoint.clone();
        let dispatch = tokio::spawn(async move {
            if let Err(error) = client.dispatch.await {
                tracing::debug!(endpoint, error = chain(&error), "connection lost");
            }
        });
        let (channel, endpoint, limits) = (client.client, dial.endpoint, welcome.limits);
        Ok(Arc::new(Live { channel, dispatch, endpoint, limits }))
    });
    let gone = |error| Err(ConnectFailure::Passing(format!("dialling ended early: {error}")));
    task.map(move |result| result.unwrap_or_else(gone)).boxed().shared()
}

fn failure(error: PreambleError, dial: &Dial) -> ConnectFailure {
    let endpoint = dial.endpoint.clone();
    match error {
        PreambleError::NotKvnode(reason) => ConnectFailure::Hopeless(Error::NotKvnode { endpoint, reason }),
        PreambleError::Version { ours, theirs } => {
            ConnectFailure::Hopeless(Error::VersionMismatch { endpoint, ours, theirs })
        }
        PreambleError::Refused(refusal @ (Refusal::UnknownService | Refusal::Version)) => {
            ConnectFailure::Hopeless(Error::Protocol { endpoint, what: refusal.to_string() })
        }
        PreambleError::Closed => ConnectFailure::Closed,
        PreambleError::Timeout => {
            ConnectFailure::Passing(format!("{endpoint}: no connection within {:?}", dial.timeout))
        }
        error @ (PreambleError::Refused(_) | PreambleError::Io(_)) => {
            ConnectFailure::Passing(format!("{endpoint}: {error}"))
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_given_up_is_never_sent_and_one_sent_cannot_be_given_up() {
        let serialise = |fate: &Arc<Fate>| {
            let outgoing = Outgoing { request: "request", fate: Arc::clone(fate) };
            kv_api::transport::message::request(1, Duration::ZERO, &outgoing, 1000).is_ok()
        };
        let fate = Arc::new(Fate::default());
        assert!(fate.give_up());
        assert!(!serialise(&fate));
        let fate = Arc::new(Fate::default());
        assert!(serialise(&fate));
        assert!(!fate.give_up());
    }
}
