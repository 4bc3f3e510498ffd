//! One end of a connection, as a byte stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use xxhash_rust::xxh3::xxh3_64;

use super::Net;
use super::pipe::{Arrival, Pipe};
use crate::trace::note;

/// See the module.
pub(super) struct Connection {
    net: Net,
    reads: Arc<Pipe>,
    writes: Arc<Pipe>,
    /// Until the next packet arrives.
    arrival: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    pub(super) fn new(net: Net, reads: Arc<Pipe>, writes: Arc<Pipe>) -> Self {
        Self { net, reads, writes, arrival: None }
    }

    fn due(&self) -> Instant {
        Instant::now() + self.net.latency()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.reads.poll_read(cx, buf)? {
                Arrival::Here => return Poll::Ready(Ok(())),
                Arrival::Unknown => return Poll::Pending,
                Arrival::At(due) => {
                    let mut arrival = Box::pin(sleep_until(due));
                    if arrival.as_mut().poll(cx).is_pending() {
                        self.arrival = Some(arrival);
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.writes.poll_write(cx, bytes, self.due());
        if let Poll::Ready(Ok(sent)) = polled {
            let (from, to) = self.writes.ends();
            let hash = xxh3_64(bytes.get(..sent).unwrap_or_default());
            note!("net {from} -> {to}: {sent} bytes {hash:016x}");
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writes.end(self.due());
        Poll::Ready(Ok(()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.writes.end(self.due());
        self.writes.drop_writer();
        self.reads.drop_reader();
    }
}
