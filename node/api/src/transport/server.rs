//! The answering side of a connection.

use std::{
    future::{Future, poll_fn},
    io,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt, Sink, Stream, StreamExt, stream::BoxStream};
use serde::{Serialize, de::DeserializeOwned};
use tarpc::{
    ClientMessage, Request, RequestName, Response, ServerError,
    server::{BaseChannel, Channel, Config},
};
use tokio::io::WriteHalf;
use tokio_util::sync::CancellationToken;

use super::{
    budget::{ByteBudget, Permit},
    client::context,
    frame::{Frame, FrameSink, frames},
    io::BoxIo,
    message::{self, Body, EncodeError, Prepared, ToServer},
    preamble::Service,
};
use crate::KvError;

tokio::task_local! {
    /// The request's share of the budget, for [`run_to_end`].
    static HELD: Arc<Permit>;
}

/// A connection whose preamble is done.
pub struct Connection {
    /// What it is for.
    pub service: Service,
    /// The other end's address, for messages.
    pub peer: String,
    /// The bytes.
    pub io: BoxIo,
    /// Ends it: no further request is read, those read are answered.
    pub stop: CancellationToken,
}

/// How a connection is served. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Requests worked on at once, per connection; those beyond are refused, a client sees `Busy`. Default 512.
    pub in_flight_max: usize,
    /// Longest frame either way: `Limits::frame_bytes_max`.
    pub frame_bytes_max: u32,
    /// Bytes of requests, from before the body is read until the handler is done. Shared by all connections.
    pub requests: ByteBudget,
    /// Bytes of replies, until they are written. Another budget than the requests': a request in work waits
    /// for it while it holds the other. Shared by all connections.
    pub replies: ByteBudget,
    /// Poll each handler once, in the order of arrival, before it may run beside others. For pipelined
    /// requests that are queued by their first poll. Default false.
    pub in_order: bool,
}

impl ServeOptions {
    /// Defaults with two budgets of `budget_bytes` (64 MiB is a good start).
    pub fn new(frame_bytes_max: u32, budget_bytes: u32) -> Self {
        Self {
            in_flight_max: 512,
            frame_bytes_max,
            requests: ByteBudget::new(budget_bytes),
            replies: ByteBudget::new(budget_bytes),
            in_order: false,
        }
    }
}

/// Answers the requests of one connection until either side closes it; each in a task of its own.
///
/// `handler` gets the context (deadline) and the request. A tarpc service goes in like this (a closure,
/// since a generic `Serve` does not say that its future is `Send`):
///
/// ```ignore
/// serve(connection, options, move |context, request| {
///     tarpc::server::Serve::serve(service.clone().serve(), context, request)
/// })
/// ```
///
/// The handler is dropped when the caller's deadline passes, when it cancels, or when its connection ends:
/// what must finish goes through [`run_to_end`]. A request that does not decode, a reply that does not fit
/// into a frame and a handler that panics fail that one call. A frame that is too long or no message ends
/// the connection.
pub async fn serve<Req, Resp, F, Fut>(connection: Connection, options: ServeOptions, handler: F)
where
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + 'static,
    F: Fn(tarpc::context::Context, Req) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<Resp, ServerError>> + Send + 'static,
{
    let peer = connection.peer.clone();
    let transport = ServerTransport::new(connection, &options);
    let channel = BaseChannel::new(Config::default(), transport);
    let mut requests = pin!(channel.max_concurrent_requests(options.in_flight_max).requests());
    while let Some(request) = requests.next().await {
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                tracing::debug!(peer, error = error_chain(&error), "connection ended");
                break;
            }
        };
        let handler = handler.clone();
        let options_ = options.clone();
        let work = request.execute(tarpc::server::serve(move |context, incoming: Incoming| async move {
            respond(context, incoming, &options_, handler).await
        }));
        if options.in_order {
            let mut work = Box::pin(work);
            // Unconstrained: once this task has used up its budget, tokio has the first poll return before
            // the request is queued, and the next request overtakes it.
            let mut first = tokio::task::unconstrained(work.as_mut());
            if poll_fn(|cx| Poll::Ready(Pin::new(&mut first).poll(cx).is_pending())).await {
                tokio::spawn(work);
            }
        } else {
            tokio::spawn(work);
        }
    }
}

/// Decodes, works, encodes.
async fn respond<Req, Resp, F, Fut>(
    context: tarpc::context::Context,
    incoming: Incoming,
    options: &ServeOptions,
    handler: F,
) -> Result<Prepared, ServerError>
where
    Req: DeserializeOwned,
    Resp: Serialize,
    F: Fn(tarpc::context::Context, Req) -> Fut,
    Fut: Future<Output = Result<Resp, ServerError>>,
{
    let refuse = |kind, why: String| ServerError::new(kind, why);
    let request =
        incoming.body.decode().map_err(|e| refuse(io::ErrorKind::InvalidData, format!("request: {e}")))?;
    drop(incoming.body);
    let work = HELD.scope(Arc::new(incoming.permit), async move { handler(context, request).await });
    let reply = AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(refuse(io::ErrorKind::Other, "the handler panicked".into())))?;
    let mut prepared = Prepared::reply(&reply, options.frame_bytes_max).map_err(|error| match error {
        EncodeError::TooLong(error) => refuse(io::ErrorKind::FileTooLarge, format!("reply: {error}")),
        EncodeError::Serialize(error) => refuse(io::ErrorKind::Other, format!("reply: {error}")),
    })?;
    prepared.hold(options.replies.take(prepared.frame_bytes()).await);
    Ok(prepared)
}

/// Runs `work` to its end even if the handler that waits for it is dropped (deadline, cancellation, lost
/// connection). The request's bytes stay counted until then. For writes: half a write must not be abandoned.
///
/// # Errors
/// What `work` says; [`KvError::Unknown`] if it panicked.
pub async fn run_to_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, KvError>> + Send + 'static,
) -> Result<T, KvError> {
    let held = HELD.try_with(Arc::clone).ok();
    let task = tokio::spawn(async move {
        let _held = held;
        work.await
    });
    task.await.unwrap_or_else(|error| Err(KvError::Unknown(format!("the work ended early: {error}"))))
}

/// A request that is not decoded yet: that happens in its own task, and fails alone.
#[derive(Debug)]
struct Incoming {
    body: Body,
    permit: Permit,
}

impl RequestName for Incoming {
    fn name(&self) -> &str {
        "request"
    }
}

struct ServerTransport {
    frames: BoxStream<'static, io::Result<Frame>>,
    sink: FrameSink<WriteHalf<BoxIo>>,
}

impl ServerTransport {
    fn new(connection: Connection, options: &ServeOptions) -> Self {
        let (reader, writer) = tokio::io::split(connection.io);
        let budget = Some(options.requests.clone());
        let frames = frames(reader, options.frame_bytes_max, budget, connection.stop);
        Self { frames, sink: FrameSink::new(writer) }
    }
}

fn receive(frame: Frame) -> io::Result<ClientMessage<Incoming>> {
    Ok(match message::decode_to_server(frame.body)? {
        ToServer::Request { id, deadline, body } => {
            let mut context = context(deadline);
            context.deadline -= frame.began.elapsed().min(deadline);
            let message = Incoming { body, permit: frame.permit };
            ClientMessage::Request(Request { context, id, message })
        }
        ToServer::Cancel { id } => {
            ClientMessage::Cancel { trace_context: tarpc::trace::Context::default(), request_id: id }
        }
    })
}

impl Stream for ServerTransport {
    type Item = io::Result<ClientMessage<Incoming>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.frames.poll_next_unpin(cx).map(|frame| frame.map(|frame| frame.and_then(receive)))
    }
}

impl Sink<Response<Prepared>> for ServerTransport {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sink.poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, response: Response<Prepared>) -> io::Result<()> {
        self.sink.push(message::reply(response.request_id, response.message));
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sink.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sink.poll_close(cx)
    }
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
