//! The calling side of a connection, as tarpc wants it.

use std::{
    io,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{Sink, Stream, StreamExt, stream::BoxStream};
use serde::{Serialize, de::DeserializeOwned};
use tarpc::{ClientMessage, Response, ServerError};
use tokio::io::WriteHalf;
use tokio_util::sync::CancellationToken;

use super::{
    frame::{Frame, FrameSink, frames},
    io::{BoxIo, Dialer},
    message,
    preamble::{PreambleError, Service, Welcome, greet},
};

/// A context whose calls end after `deadline`. tarpc's own default is 10 s, and its servers drop a handler
/// at the deadline.
pub fn context(deadline: Duration) -> tarpc::context::Context {
    let mut context = tarpc::context::current();
    let now = Instant::now();
    // Far enough, and far from where the timers under tarpc end.
    context.deadline = now.checked_add(deadline.min(Duration::from_secs(86_400 * 365))).unwrap_or(now);
    context
}

/// Dials a node and greets it. The caller sets the time limit.
///
/// # Errors
/// [`PreambleError`]; where dialling failed, its `Io`.
pub async fn connect(
    dialer: &dyn Dialer,
    address: &str,
    service: Service,
) -> Result<(BoxIo, Welcome), PreambleError> {
    let mut io = dialer.dial(address).await?;
    let welcome = greet(&mut io, service).await?;
    Ok((io, welcome))
}

/// What `tarpc::client::new` (or the `new` of a generated client) takes, after the preamble.
///
/// How a call fails without an answer of its service: `RpcError::Server`, whose kind is `WouldBlock` (too many
/// requests in flight) or `InvalidData` (the node could not decode the request): nothing happened;
/// `FileTooLarge` (the reply did not fit), `InvalidInput` (this side could not decode the reply) or `Other`
/// (the handler panicked): something may have.
///
/// A request longer than the node accepts fails alone, with `RpcError::Send` around [`TooLong`]; see [`too_long`].
///
/// [`TooLong`]: super::frame::TooLong
pub struct ClientTransport<Req, Resp> {
    frames: BoxStream<'static, io::Result<Frame>>,
    sink: FrameSink<WriteHalf<BoxIo>>,
    frame_bytes_max: u32,
    types: PhantomData<fn(Req) -> Resp>,
}

impl<Req, Resp> ClientTransport<Req, Resp> {
    /// Over a connection whose preamble is done; `frame_bytes_max` as the node's [`Welcome`] says.
    pub fn new(io: BoxIo, frame_bytes_max: u32) -> Self {
        let (reader, writer) = tokio::io::split(io);
        let frames = frames(reader, frame_bytes_max, None, CancellationToken::new());
        Self { frames, sink: FrameSink::new(writer), frame_bytes_max, types: PhantomData }
    }
}

/// Finds the [`TooLong`](super::frame::TooLong) in a call's error: nothing was sent, the connection lives on.
pub fn too_long(error: &tarpc::client::RpcError) -> Option<super::frame::TooLong> {
    let tarpc::client::RpcError::Send(error) = error else { return None };
    let error = error.downcast_ref::<io::Error>()?.get_ref()?;
    match error.downcast_ref::<message::EncodeError>()? {
        message::EncodeError::TooLong(too_long) => Some(*too_long),
        message::EncodeError::Serialize(_) => None,
    }
}

impl<Req, Resp: DeserializeOwned> Stream for ClientTransport<Req, Resp> {
    type Item = io::Result<Response<Resp>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.frames
            .poll_next_unpin(cx)
            .map_ok(|frame| {
                let reply = message::decode_to_client(frame.body)?;
                let message = reply.outcome.and_then(|body| {
                    // The caller gets it; the connection is in step and lives on.
                    body.decode()
                        .map_err(|e| ServerError::new(io::ErrorKind::InvalidInput, format!("reply: {e}")))
                });
                Ok(Response { request_id: reply.id, message })
            })
            .map(|item| item.map(|item| item.and_then(|reply| reply)))
    }
}

impl<Req: Serialize, Resp> Sink<ClientMessage<Req>> for ClientTransport<Req, Resp> {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sink.poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: ClientMessage<Req>) -> io::Result<()> {
        let frame = match message {
            ClientMessage::Request(request) => {
                let deadline = request.context.deadline.saturating_duration_since(Instant::now());
                message::request(request.id, deadline, &request.message, self.frame_bytes_max)?
            }
            ClientMessage::Cancel { request_id, .. } => message::cancel(request_id),
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        self.sink.push(frame);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sink.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sink.poll_close(cx)
    }
}
