//! The network: connections with latency, cuts, resets and machines that vanish.

mod connection;
mod pipe;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kv_api::transport::{Acceptor, BoxIo, Dialer};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::rng::Rng;
use crate::trace::note;
use connection::Connection;
use pipe::Pipe;

/// A machine: 1 to 3 are nodes, others are clients.
pub type Host = u64;

/// How often somebody who dials across a cut tries again.
const DIAL_PAUSE: Duration = Duration::from_millis(20);

/// See the module; clones share it.
#[derive(Clone)]
pub struct Net(Arc<Inner>);

struct Inner {
    rng: Rng,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    listeners: BTreeMap<String, (Host, mpsc::UnboundedSender<(BoxIo, String)>)>,
    /// Directions in which nothing passes.
    cut: BTreeSet<(Host, Host)>,
    /// Machines that say nothing at all, not even that a port is closed.
    silent: BTreeSet<Host>,
    /// How often a machine has been started: what an earlier start holds is dead.
    starts: BTreeMap<Host, u64>,
    pipes: Vec<Arc<Pipe>>,
    /// The longest way of a packet, in microseconds.
    latency_us_max: u64,
}

impl Net {
    /// A network without machines.
    pub fn new(rng: Rng) -> Self {
        let state = State { latency_us_max: 1_000, ..State::default() };
        Self(Arc::new(Inner { rng, state: Mutex::new(state) }))
    }

    /// The machine begins anew: connections from before are reset, its dialler is the one returned.
    pub fn start(&self, host: Host) -> NetDialer {
        let mut state = self.0.state.lock();
        state.silent.remove(&host);
        let start = state.starts.entry(host).or_default();
        *start += 1;
        let start = *start;
        state.pipes.iter().filter(|pipe| pipe.touches(host)).for_each(|pipe| pipe.reset());
        state.tidy();
        NetDialer { net: self.clone(), host, start }
    }

    /// Accepts connections to `address` on the machine.
    pub fn listen(&self, host: Host, address: &str) -> NetAcceptor {
        let (sender, incoming) = mpsc::unbounded_channel();
        self.0.state.lock().listeners.insert(address.into(), (host, sender));
        NetAcceptor { incoming }
    }

    /// The machine is gone from one moment to the next. With `silent` nobody hears of that; otherwise, as when
    /// a process dies, its connections are reset.
    pub fn kill(&self, host: Host, silent: bool) {
        let mut state = self.0.state.lock();
        *state.starts.entry(host).or_default() += 1;
        state.listeners.retain(|_, (of, _)| *of != host);
        for pipe in state.pipes.iter().filter(|pipe| pipe.touches(host)) {
            if silent { pipe.lose(host) } else { pipe.reset() }
        }
        if silent {
            state.silent.insert(host);
        }
        state.tidy();
    }

    /// Nothing passes from one machine to the other any more; what is under way waits.
    pub fn cut(&self, from: Host, to: Host) {
        let mut state = self.0.state.lock();
        state.cut.insert((from, to));
        state.pipes.iter().filter(|pipe| pipe.runs(from, to)).for_each(|pipe| pipe.set_cut(true));
    }

    /// Everything passes again.
    pub fn heal(&self) {
        let mut state = self.0.state.lock();
        state.cut.clear();
        state.pipes.iter().for_each(|pipe| pipe.set_cut(false));
    }

    /// Resets about every second connection of a machine.
    pub fn reset_some(&self, host: Host) {
        let state = self.0.state.lock();
        let pipes = state.pipes.iter().filter(|pipe| pipe.touches(host));
        pipes.filter(|_| self.0.rng.one_in(2)).for_each(|pipe| pipe.reset());
    }

    /// From now on a packet takes up to `longest`.
    pub fn set_latency(&self, longest: Duration) {
        self.0.state.lock().latency_us_max = longest.as_micros() as u64;
    }

    fn latency(&self) -> Duration {
        let longest = self.0.state.lock().latency_us_max;
        Duration::from_micros(self.0.rng.range(50..longest.max(51)))
    }

    /// Whether the machine still is the one that was started then.
    fn is_up(&self, host: Host, start: u64) -> bool {
        self.0.state.lock().starts.get(&host) == Some(&start)
    }

    /// Both ways between two machines, each at one end.
    fn connect(&self, from: Host, to: Host) -> (Connection, Connection) {
        let mut state = self.0.state.lock();
        let mut way = |from, to| {
            let pipe = Arc::new(Pipe::new(from, to));
            state.pipes.push(pipe.clone());
            pipe
        };
        let (there, back) = (way(from, to), way(to, from));
        state.tidy();
        let end = |reads, writes| Connection::new(self.clone(), reads, writes);
        (end(back.clone(), there.clone()), end(there, back))
    }
}

impl State {
    fn tidy(&mut self) {
        self.pipes.retain(|pipe| !pipe.is_over());
    }

    fn is_cut(&self, a: Host, b: Host) -> bool {
        let silent = self.silent.contains(&a) || self.silent.contains(&b);
        silent || self.cut.contains(&(a, b)) || self.cut.contains(&(b, a))
    }
}

/// Connections that a machine makes, until it is killed.
#[derive(Clone)]
pub struct NetDialer {
    net: Net,
    host: Host,
    start: u64,
}

impl NetDialer {
    /// Kills the machine, unless it has been started again meanwhile.
    pub fn kill(&self) {
        if self.net.is_up(self.host, self.start) {
            self.net.kill(self.host, false);
        }
    }

    async fn connect(&self, address: &str) -> io::Result<BoxIo> {
        loop {
            sleep(self.net.latency()).await;
            if !self.net.is_up(self.host, self.start) {
                return Err(io::ErrorKind::NetworkDown.into());
            }
            let Some(listener) = self.listener(address)? else {
                sleep(DIAL_PAUSE).await;
                continue;
            };
            let (to, incoming) = listener;
            let (near, far) = self.net.connect(self.host, to);
            note!("net {} connects to {to}", self.host);
            let peer = format!("host{}", self.host);
            incoming.send((Box::new(far), peer)).map_err(|_| io::ErrorKind::ConnectionRefused)?;
            return Ok(Box::new(near));
        }
    }

    /// Who listens there; `None` while nothing comes through to it.
    #[expect(clippy::type_complexity, reason = "a pair that is taken apart at once")]
    fn listener(&self, address: &str) -> io::Result<Option<(Host, mpsc::UnboundedSender<(BoxIo, String)>)>> {
        let state = self.net.0.state.lock();
        let Some((host, sender)) = state.listeners.get(address) else {
            // Which machine it would have been is not known; the cut that matters is that of a silent one.
            return if state.silent.is_empty() {
                Err(io::ErrorKind::ConnectionRefused.into())
            } else {
                Ok(None)
            };
        };
        Ok((!state.is_cut(self.host, *host)).then(|| (*host, sender.clone())))
    }
}

impl Dialer for NetDialer {
    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxIo>> {
        Box::pin(self.connect(address))
    }
}

/// Connections that come to an address.
pub struct NetAcceptor {
    incoming: mpsc::UnboundedReceiver<(BoxIo, String)>,
}

impl Acceptor for NetAcceptor {
    async fn accept(&mut self) -> io::Result<(BoxIo, String)> {
        match self.incoming.recv().await {
            Some(connection) => Ok(connection),
            // The machine is gone: whoever accepts is about to be dropped.
            None => std::future::pending().await,
        }
    }
}
