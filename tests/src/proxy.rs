//! TCP links that can be frozen, cut and reset.
//!
//! A link stands for one way of dialling: connections that a node (or a client) makes to another. Frozen, it
//! takes bytes and connections and passes nothing on, so that what was under way arrives late, after the
//! thaw: the network of a partition. Reset, connections end with RST and new ones are made at once.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::Rng;
use rustix::net::sockopt::set_socket_linger;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};

/// Which bytes pass a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// All.
    All,
    /// None, either way.
    Nothing,
    /// Only those from who dialled: requests arrive, answers do not.
    Requests,
    /// Only those to who dialled.
    Answers,
}

#[derive(Clone, Copy, Debug)]
enum Direction {
    Request,
    Answer,
}

impl Passing {
    fn lets(self, direction: Direction) -> bool {
        match direction {
            Direction::Request => matches!(self, Self::All | Self::Requests),
            Direction::Answer => matches!(self, Self::All | Self::Answers),
        }
    }
}

/// Runs links; they end with it. Has a thread of its own, so that a test that blocks does not hold them up.
#[derive(Debug)]
pub struct Proxy {
    runtime: Option<Runtime>,
}

impl Default for Proxy {
    fn default() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { runtime: Some(runtime.unwrap()) }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // May be dropped inside another runtime, where waiting for this one is not allowed.
            runtime.shutdown_background();
        }
    }
}

impl Proxy {
    /// A link to this address, on an address of its own.
    #[must_use]
    pub fn link(&self, to: &str) -> Link {
        // Bound on this thread: the link can be dialled on return.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            to: to.to_owned(),
            passing: watch::Sender::new(Passing::All),
            next: AtomicU64::new(0),
            live: Mutex::default(),
        });
        let runtime = self.runtime.as_ref().unwrap();
        runtime.spawn(accept(listener, shared.clone()));
        Link { address, shared }
    }
}

/// One link. Clones are the same link.
#[derive(Clone, Debug)]
pub struct Link {
    /// What is dialled instead of the real address.
    pub address: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    to: String,
    passing: watch::Sender<Passing>,
    next: AtomicU64,
    /// Resets a connection, by its number.
    live: Mutex<BTreeMap<u64, oneshot::Sender<()>>>,
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, BTreeMap<u64, oneshot::Sender<()>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Lets only these bytes pass from now on. What is held back passes when the link lets it.
    pub fn pass(&self, passing: Passing) {
        self.shared.passing.send_replace(passing);
    }

    /// Resets every connection.
    pub fn reset(&self) {
        self.shared.live().clear();
    }

    /// Resets each connection with this probability in percent; returns how many.
    pub fn reset_some(&self, percent: u32, rng: &mut impl Rng) -> usize {
        let mut live = self.shared.live();
        let before = live.len();
        live.retain(|_, _| !rng.random_ratio(percent.min(100), 100));
        before - live.len()
    }

    /// Resets one connection, whichever; `false`: there is none.
    pub fn reset_one(&self, rng: &mut impl Rng) -> bool {
        let mut live = self.shared.live();
        let Some(number) = live.keys().nth(rng.random_range(0..live.len().max(1))).copied() else {
            return false;
        };
        live.remove(&number);
        true
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let Ok((dialled, _)) = listener.accept().await else { continue };
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let (kept, reset) = oneshot::channel();
        shared.live().insert(number, kept);
        let shared = shared.clone();
        tokio::spawn(async move {
            forward(dialled, &shared, reset).await;
            shared.live().remove(&number);
        });
    }
}

/// Passes bytes on until both sides have ended, or one has failed, or the connection is reset.
async fn forward(dialled: TcpStream, shared: &Shared, reset: oneshot::Receiver<()>) {
    // Whichever way it ends, the other side shall see an end that is not an orderly one; after both sides
    // have closed in order nothing is left to be reset.
    reset_when_dropped(&dialled);
    tokio::select! {
        // The sender is dropped, never used.
        _ = reset => {}
        _ = both_ways(dialled, shared) => {}
    }
}

async fn both_ways(dialled: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut passing = shared.passing.subscribe();
    wait(&mut passing, Direction::Request).await;
    let reached = TcpStream::connect(&shared.to).await?;
    reset_when_dropped(&reached);
    for stream in [&dialled, &reached] {
        stream.set_nodelay(true)?;
    }
    let (from_dialler, to_dialler) = dialled.into_split();
    let (from_reached, to_reached) = reached.into_split();
    let requests = pump(from_dialler, to_reached, passing.clone(), Direction::Request);
    let answers = pump(from_reached, to_dialler, passing, Direction::Answer);
    tokio::try_join!(requests, answers).map(drop)
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut passing: watch::Receiver<Passing>,
    direction: Direction,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let got = from.read(&mut buffer).await?;
        // Also the end is only seen once the link lets it pass.
        wait(&mut passing, direction).await;
        match buffer.get(..got) {
            None | Some([]) => return to.shutdown().await,
            Some(bytes) => to.write_all(bytes).await?,
        }
    }
}

async fn wait(passing: &mut watch::Receiver<Passing>, direction: Direction) {
    if passing.wait_for(|passing| passing.lets(direction)).await.is_err() {
        // The link is gone and lets nothing pass any more.
        std::future::pending::<()>().await;
    }
}

fn reset_when_dropped(stream: &TcpStream) {
    // Fails only on a socket that has been reset already.
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
}
