//! One direction of a connection.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes};
use parking_lot::Mutex;
use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::Host;

/// Bytes under way before a writer waits.
const WINDOW_BYTES: usize = 256 << 10;

/// See the module.
pub(super) struct Pipe {
    from: Host,
    to: Host,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    packets: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    /// When the last packet, or the end, arrives: none overtakes another.
    last: Option<Instant>,
    ended: bool,
    cut: bool,
    reader: End,
    writer: End,
}

#[derive(Default)]
struct End {
    waker: Option<Waker>,
    fails: bool,
    dropped: bool,
}

/// What a reader finds.
pub(super) enum Arrival {
    /// Something, now in the buffer; or the end.
    Here,
    /// Nothing before this time.
    At(Instant),
    /// Nothing before something changes.
    Unknown,
}

impl Pipe {
    pub(super) fn new(from: Host, to: Host) -> Self {
        Self { from, to, state: Mutex::default() }
    }

    pub(super) fn runs(&self, from: Host, to: Host) -> bool {
        (self.from, self.to) == (from, to)
    }

    pub(super) fn touches(&self, host: Host) -> bool {
        self.from == host || self.to == host
    }

    pub(super) fn ends(&self) -> (Host, Host) {
        (self.from, self.to)
    }

    pub(super) fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.reader.dropped && state.writer.dropped
    }

    /// Both ends fail from now on.
    pub(super) fn reset(&self) {
        let mut state = self.state.lock();
        state.reader.fails = true;
        state.writer.fails = true;
        state.wake();
    }

    /// The end at this host fails, the other one hears nothing any more.
    pub(super) fn lose(&self, host: Host) {
        let mut state = self.state.lock();
        state.cut = true;
        let end = if self.from == host { &mut state.writer } else { &mut state.reader };
        end.fails = true;
        state.wake();
    }

    pub(super) fn set_cut(&self, cut: bool) {
        let mut state = self.state.lock();
        // One whose other end is lost stays cut.
        state.cut = cut || state.reader.fails || state.writer.fails;
        state.wake();
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> io::Result<Arrival> {
        let mut state = self.state.lock();
        if state.reader.fails {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        state.reader.waker = Some(cx.waker().clone());
        if state.cut {
            return Ok(Arrival::Unknown);
        }
        let now = Instant::now();
        let Some((due, packet)) = state.packets.front_mut() else {
            return Ok(match state.last {
                Some(last) if state.ended && last > now => Arrival::At(last),
                _ if state.ended => Arrival::Here,
                _ => Arrival::Unknown,
            });
        };
        if *due > now {
            return Ok(Arrival::At(*due));
        }
        let taken = packet.split_to(packet.len().min(buf.remaining()));
        buf.put_slice(&taken);
        if !packet.has_remaining() {
            state.packets.pop_front();
        }
        state.bytes -= taken.len();
        state.writer.wake();
        Ok(Arrival::Here)
    }

    /// Sends a packet that arrives at `due` at the earliest; of how many bytes, there may be no room for all.
    pub(super) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        due: Instant,
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state.lock();
        if state.writer.fails || state.reader.dropped {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let sent = bytes.len().min(WINDOW_BYTES.saturating_sub(state.bytes));
        if sent == 0 {
            state.writer.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let due = state.last.map_or(due, |last| last.max(due));
        state.last = Some(due);
        state.bytes += sent;
        state.packets.push_back((due, Bytes::copy_from_slice(bytes.get(..sent).unwrap_or_default())));
        state.reader.wake();
        Poll::Ready(Ok(sent))
    }

    /// Nothing more is sent; the reader hears of it at `due`.
    pub(super) fn end(&self, due: Instant) {
        let mut state = self.state.lock();
        if !state.ended {
            state.ended = true;
            state.last = Some(state.last.map_or(due, |last| last.max(due)));
            state.reader.wake();
        }
    }

    pub(super) fn drop_reader(&self) {
        let mut state = self.state.lock();
        state.reader.dropped = true;
        state.writer.wake();
    }

    pub(super) fn drop_writer(&self) {
        self.state.lock().writer.dropped = true;
    }
}

impl State {
    fn wake(&mut self) {
        self.reader.wake();
        self.writer.wake();
    }
}

impl End {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
