//! Frames: a length (u32, little endian) and that many bytes.
//!
//! The length is checked before anything is allocated, and the budget drawn on before the body is read.
//! Whoever receives a longer frame than allowed closes the connection, since it cannot find the next one
//! without reading this one; so each side checks before it sends ([`TooLong`]) and a caller gets an error
//! that names the limit while the connection lives on.

use std::{
    collections::VecDeque,
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, BufReader},
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::budget::{ByteBudget, Permit};

/// Bytes of the length before each frame.
pub const LENGTH_BYTES: usize = 4;
/// Slowest a frame may pass, in bytes a second, after [`PASS_TIME_MIN`]. Slower: the connection is closed,
/// since its bytes count against the budget all the time.
pub const PASS_RATE_MIN: u64 = 256 << 10;
/// Time every frame has, however short.
pub const PASS_TIME_MIN: Duration = Duration::from_secs(10);
/// Bytes read ahead: a system call brings several small frames, while a long one is read into its place.
const READ_BYTES: usize = 16 << 10;
/// Pieces given to one vectored write.
const SLICES: usize = 32;
/// Queued bytes beyond which the sink asks to be flushed first.
const QUEUE_BYTES: usize = 256 << 10;

/// A frame that is longer than the other side accepts. Nothing of it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {actual} bytes is over the limit of {max}")]
pub struct TooLong {
    /// Longest allowed.
    pub max: u64,
    /// Length it would have.
    pub actual: u64,
}

/// Checks a body against the limit, before it is sent.
///
/// # Errors
/// [`TooLong`].
pub fn check_length(bytes: usize, max: u32) -> Result<u32, TooLong> {
    let too_long = TooLong { max: u64::from(max), actual: bytes as u64 };
    u32::try_from(bytes).ok().filter(|bytes| *bytes <= max).ok_or(too_long)
}

/// A frame that arrived.
#[derive(Debug)]
pub struct Frame {
    /// Its bytes, without the length.
    pub body: Bytes,
    /// When its length was read: its deadline counts from here.
    pub began: std::time::Instant,
    /// Its share of the budget.
    pub permit: Permit,
}

/// Reads one frame; `None`: the other side closed between two frames.
///
/// # Errors
/// A length over `bytes_max`, a frame that does not pass in time, an end in the middle, or the connection's own.
pub async fn read_frame<R: AsyncRead + Unpin>(
    io: &mut R,
    bytes_max: u32,
    budget: Option<&ByteBudget>,
) -> io::Result<Option<Frame>> {
    let mut head = [0; LENGTH_BYTES];
    let (first, rest) = head.split_at_mut(1);
    if io.read(first).await? == 0 {
        return Ok(None);
    }
    timeout(PASS_TIME_MIN, io.read_exact(rest)).await??;
    let began = std::time::Instant::now();
    let length = u32::from_le_bytes(head);
    check_length(length as usize, bytes_max).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    let permit = match budget {
        Some(budget) => budget.take(length).await,
        None => Permit::default(),
    };
    let body = timeout(pass_time(u64::from(length)), read_body(io, length as usize)).await??;
    Ok(Some(Frame { body, began, permit }))
}

async fn read_body<R: AsyncRead + Unpin>(io: &mut R, length: usize) -> io::Result<Bytes> {
    let mut body = BytesMut::with_capacity(length);
    while body.len() < length {
        let left = (length - body.len()) as u64;
        if (&mut *io).take(left).read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(body.freeze())
}

fn pass_time(bytes: u64) -> Duration {
    PASS_TIME_MIN + Duration::from_millis(bytes.saturating_mul(1000) / PASS_RATE_MIN)
}

/// A frame to send: its first piece begins with the length; the others are values where they lie.
#[derive(Debug, Default)]
pub struct OutFrame {
    /// Length, head and message.
    pub head: Bytes,
    /// What follows, in order.
    pub beside: Vec<Bytes>,
    /// Released when the last byte is written.
    pub permit: Permit,
}

/// Sends frames without copying them together: pieces are queued and written by vectored writes.
pub struct FrameSink<W> {
    io: W,
    queue: VecDeque<Piece>,
    queued_bytes: usize,
    /// When the queue must be empty; runs while the other side does not read.
    overdue: Option<Pin<Box<Sleep>>>,
}

struct Piece {
    bytes: Bytes,
    _permit: Option<Permit>,
}

impl<W: AsyncWrite + Unpin> FrameSink<W> {
    /// Sends over `io`.
    pub fn new(io: W) -> Self {
        Self { io, queue: VecDeque::new(), queued_bytes: 0, overdue: None }
    }

    /// Queues a frame.
    pub fn push(&mut self, frame: OutFrame) {
        let pieces = std::iter::once(frame.head).chain(frame.beside).filter(|bytes| !bytes.is_empty());
        let before = self.queued_bytes;
        for bytes in pieces {
            self.queued_bytes += bytes.len();
            self.queue.push_back(Piece { bytes, _permit: None });
        }
        if let Some(last) = self.queue.back_mut() {
            last._permit = Some(frame.permit);
        }
        if let Some(overdue) = &mut self.overdue {
            let until = overdue.deadline() + pass_time((self.queued_bytes - before) as u64);
            overdue.as_mut().reset(until);
        }
    }

    /// Ready when there is room for another frame.
    ///
    /// # Errors
    /// The connection's own; `TimedOut`: the other side reads too slowly.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.queued_bytes >= QUEUE_BYTES {
            ready!(self.poll_write_queue(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when everything is written.
    ///
    /// # Errors
    /// As [`poll_ready`](Self::poll_ready).
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_queue(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Ready when everything is written and this direction closed.
    ///
    /// # Errors
    /// As [`poll_ready`](Self::poll_ready).
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_queue(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_queue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            for (slice, piece) in slices.iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(&piece.bytes);
            }
            let used = slices.get(..self.queue.len().min(SLICES)).unwrap_or(&slices);
            match Pin::new(&mut self.io).poll_write_vectored(cx, used) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.advance(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    ready!(self.poll_overdue(cx));
                    let why = "the other side reads too slowly";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
                }
            }
        }
        self.overdue = None;
        Poll::Ready(Ok(()))
    }

    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = Instant::now() + pass_time(self.queued_bytes as u64);
        let overdue = self.overdue.get_or_insert_with(|| Box::pin(sleep_until(until)));
        overdue.as_mut().poll(cx)
    }

    /// Takes written bytes off the queue.
    fn advance(&mut self, mut written: usize) {
        self.queued_bytes = self.queued_bytes.saturating_sub(written);
        while let Some(piece) = self.queue.front_mut() {
            if piece.bytes.len() > written {
                piece.bytes.advance(written);
                return;
            }
            written -= piece.bytes.len();
            self.queue.pop_front();
        }
    }
}

/// All frames of a connection, until the other side closes or `stop` is cancelled.
pub(crate) fn frames<R: AsyncRead + Send + Unpin + 'static>(
    io: R,
    bytes_max: u32,
    budget: Option<ByteBudget>,
    stop: CancellationToken,
) -> BoxStream<'static, io::Result<Frame>> {
    let io = BufReader::with_capacity(READ_BYTES, io);
    stream::unfold(Some((io, budget, stop)), move |state| async move {
        let (mut io, budget, stop) = state?;
        let read = read_frame(&mut io, bytes_max, budget.as_ref());
        let frame = stop.run_until_cancelled(read).await.unwrap_or(Ok(None)).transpose()?;
        // After an error it is unknown where the next frame begins.
        let next = frame.is_ok().then_some((io, budget, stop));
        Some((frame, next))
    })
    .boxed()
}
