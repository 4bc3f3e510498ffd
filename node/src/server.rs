//! Ties the node together: data directory, engine, consensus, listeners.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kv_api::transport::{Acceptor, Dialer, ListenOptions, ServeOptions, TcpDialer, Welcome, listen};
use kv_lsm::gc::GcOptions;
use kv_lsm::{Environment, NewStore, Options, Store, StoreError};
use kv_manifest::ManifestError;
use kv_vfs::{RealVfs, SystemClock, ThreadExecutor, Vfs};
use kv_vlog::{Compression, OnFatal, VlogError};
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::blocking;
use crate::config::{Address, Cluster, Settings};
use crate::datadir::{self, DataDir};
use crate::exit::{Code, Failure};
use crate::http::{self, Health};
use crate::metrics::Metrics;
use crate::raft::{NodeConfig, RaftNode, peer};
use crate::service::{self, Serving, Shared};
use crate::shutdown::Shutdown;

/// Is a node until shutdown is asked for.
pub async fn run(settings: Settings, shutdown: Shutdown) -> Result<(), Failure> {
    run_in(World::real(Arc::new(RealVfs)), settings, shutdown).await
}

/// As [`run`], in this world: tests hand in a disk that fails and connections that break.
pub async fn run_in(world: World, settings: Settings, shutdown: Shutdown) -> Result<(), Failure> {
    // Before the listeners: a second node in the same directory shall hear of that, not of a port in use.
    let dir = datadir::open(&world.environment.vfs, &settings.data_dir, &settings.listen)?;
    let (listener, address) = bind("listen", &settings.listen, &settings).await?;
    let (http_listener, http_address) = bind("http", &settings.http, &settings).await?;
    let node = RunningNode::start(world, dir, &settings, &address.to_string(), listener).await?;
    announce(&format!("ready node={} listen={address} http={http_address}", settings.node_id));
    let health: Arc<dyn Health> = Arc::new(NodeHealth(node.shared.clone()));
    let serving_http = tokio::spawn(http::serve(http_listener, health, shutdown.clone()));
    shutdown.wait().await;
    let stopped = node.stop().await;
    warn_of(serving_http.await);
    stopped
}

/// What a node reaches the world through. A simulation puts its own in the place of the real one.
#[derive(Clone)]
pub struct World {
    /// Files, time and background work of the engine.
    pub environment: Environment,
    /// Connections to the other nodes.
    pub dialer: Arc<dyn Dialer>,
    /// Told that a write has failed: the node must not say another word to anybody.
    pub on_fatal: OnFatal,
    /// See [`NodeConfig::resume_term`]; false.
    pub resume_term: bool,
}

impl World {
    /// This file system, the machine's clock, threads and TCP; a failed write ends the process.
    #[must_use]
    pub fn real(vfs: Arc<dyn Vfs>) -> Self {
        let (clock, executor) = (Arc::new(SystemClock::default()), Arc::new(ThreadExecutor));
        Self {
            environment: Environment { vfs, clock, executor },
            dialer: Arc::new(TcpDialer),
            on_fatal: Arc::new(end_process),
            resume_term: false,
        }
    }
}

/// A node that has recovered and answers.
#[derive(Debug)]
pub struct RunningNode {
    shared: Arc<Shared>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    housekeeping: JoinHandle<()>,
    _dir: DataDir,
}

impl RunningNode {
    /// Recovers what is in `dir` and answers those who come through `acceptor`. Others reach the sole
    /// member of a new cluster by `address`.
    ///
    /// # Errors
    /// Damage, a directory of another node, a failed write.
    pub async fn start(
        world: World,
        dir: DataDir,
        settings: &Settings,
        address: &str,
        acceptor: impl Acceptor,
    ) -> Result<Self, Failure> {
        let store = open_store(&world, &dir, settings).await?;
        let config = NodeConfig {
            node_id: settings.node_id,
            members: members(settings, address),
            cluster_id: store.state().identity.cluster_id,
            dialer: world.dialer,
            clock: world.environment.clock.clone(),
            heartbeat_ms: settings.raft.heartbeat_ms,
            election_timeout_ms: settings.raft.election_timeout_ms_min..settings.raft.election_timeout_ms_max,
            retained_log_bytes: settings.raft.retained_log_bytes,
            on_fatal: world.on_fatal,
            resume_term: world.resume_term,
        };
        let raft = RaftNode::start(&config, store.clone())
            .await
            .map_err(|error| Failure::refused(format!("cannot start consensus: {error}")))?;
        let shared = Shared::new(raft, store, settings.limits.wire());
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(acceptor, settings, shared.clone(), stop.clone()));
        let housekeeping = tokio::spawn(shared.clone().housekeeping());
        Ok(Self { shared, stop, serving, housekeeping, _dir: dir })
    }

    /// The member of the group and its engine.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Another node leads, requests under way are finished, consensus stops, everything is flushed and
    /// sealed.
    ///
    /// # Errors
    /// A failed write; what was acknowledged is there nevertheless.
    pub async fn stop(self) -> Result<(), Failure> {
        self.shared.raft.hand_over().await;
        self.stop.cancel();
        warn_of(self.serving.await);
        self.housekeeping.abort();
        self.shared.raft.shutdown().await;
        let store = self.shared.store.clone();
        let closed = blocking::run(move || store.close()).await;
        match closed.map_err(|error| Failure::refused(format!("could not close: {error}")))? {
            Ok(()) => Ok(()),
            Err(error) => Err(to_failure(&error)),
        }
    }

    /// Ends what runs, as far as it can be, and finishes nothing: for a simulated crash.
    pub async fn abandon(self) {
        self.serving.abort();
        self.housekeeping.abort();
        self.shared.raft.shutdown().await;
        let store = self.shared.store.clone();
        let stopped = blocking::run(move || store.stop()).await;
        warn_of(stopped);
    }
}

fn warn_of(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::warn!(%error, "a part of the node did not stop cleanly");
    }
}

/// The members of a new cluster: those of the list, or this node alone.
fn members(settings: &Settings, address: &str) -> BTreeMap<u64, String> {
    match &settings.initial_cluster {
        Some(cluster) => {
            cluster.members().iter().map(|member| (member.id, member.address.to_string())).collect()
        }
        None => BTreeMap::from([(settings.node_id, address.into())]),
    }
}

/// All nodes that are started with the same list have the same identity, without having spoken yet.
fn cluster_id(cluster: &Cluster) -> [u8; 16] {
    let mut members: Vec<String> =
        cluster.members().iter().map(|member| format!("{}={}", member.id, member.address)).collect();
    members.sort();
    xxhash_rust::xxh3::xxh3_128(members.join(",").as_bytes()).to_le_bytes()
}

/// Accepts and answers until told to stop; requests under way are finished first.
fn serve<A: Acceptor>(
    acceptor: A,
    settings: &Settings,
    shared: Arc<Shared>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<A> {
    let welcome = Welcome {
        cluster_id: shared.store.state().identity.cluster_id,
        node_id: settings.node_id,
        limits: settings.limits.wire(),
    };
    let mut listening = ListenOptions::new(welcome, service::services());
    listening.connections_max = settings.limits.connections_max as usize;
    let budget = u32::try_from(settings.limits.in_flight_bytes_max).unwrap_or(u32::MAX);
    let serving = Serving {
        clients: ServeOptions::new(settings.limits.wire().frame_bytes_max, budget),
        peers: peer::serve_options(),
    };
    listen(acceptor, listening, stop, move |connection| {
        service::answer(connection, serving.clone(), shared.clone())
    })
}

async fn open_store(world: &World, dir: &DataDir, settings: &Settings) -> Result<Arc<Store>, Failure> {
    let environment = world.environment.clone();
    let cluster_id = settings.initial_cluster.as_ref().map_or_else(rand::random, cluster_id);
    let new = NewStore { cluster_id, node_id: settings.node_id, incarnation: rand::random() };
    let (path, options) = (dir.path().to_path_buf(), engine_options(settings, world.on_fatal.clone()));
    let opened = blocking::run(move || Store::open(&environment, &path, options, Some(new)))
        .await
        .map_err(|error| Failure::refused(format!("recovery ended early: {error}")))?;
    let store = opened.map_err(|error| to_failure(&error))?;
    let node_id = store.state().identity.node_id;
    if node_id != settings.node_id {
        return Err(Failure::refused(format!(
            "data directory {} belongs to node {node_id}, not to node {}: start it with --node-id {node_id}, \
             or name another directory with --data-dir",
            dir.path().display(),
            settings.node_id
        )));
    }
    Ok(store)
}

fn engine_options(settings: &Settings, on_fatal: OnFatal) -> Options {
    let engine = &settings.engine;
    let Options { compression, table_compression_level, .. } = Options::default();
    let gc = GcOptions {
        automatic: engine.gc,
        garbage_ratio_min: engine.gc_garbage_percent_min as f64 / 100.0,
        age_min: Duration::from_millis(engine.gc_age_ms),
        bytes_per_second_max: engine.gc_bytes_per_second_max,
        ..GcOptions::default()
    };
    Options {
        gc,
        on_fatal,
        separate_bytes_min: engine.separate_values_from_bytes,
        compression: Compression { level: compression.level.filter(|_| engine.compression), ..compression },
        memtable_bytes_max: engine.memtable_flush_bytes,
        memtable_entries_max: engine.memtable_flush_entries,
        log_flush_bytes_max: engine.log_flush_bytes,
        segment_bytes: engine.segment_bytes_min..=engine.segment_bytes_max,
        recycled_bytes_max: engine.recycled_bytes_max,
        group_bytes_max: u32::try_from(engine.group_bytes_max).unwrap_or(u32::MAX),
        tail_cache_bytes: usize::try_from(engine.tail_cache_bytes).unwrap_or(usize::MAX),
        table_compression_level: table_compression_level.filter(|_| engine.compression),
        block_cache_bytes: engine.block_cache_bytes,
        value_cache_bytes: engine.value_cache_bytes,
        open_tables_max: usize::try_from(engine.open_tables_max).unwrap_or(usize::MAX),
        keep_versions: engine.keep_versions,
        keep_age: (engine.keep_age_ms > 0).then(|| Duration::from_secs(engine.keep_age_ms.div_ceil(1000))),
        compactions_max: usize::try_from(engine.compactions_max).unwrap_or(usize::MAX),
        base_bytes: engine.base_bytes,
        level_multiplier: engine.level_multiplier,
        accept_level_options: engine.accept_level_options,
        ..Options::default()
    }
}

/// A write or a sync has failed. What is on disk is not known, so nothing is retried and nobody is told
/// anything more: the next start reads what is really there.
fn end_process(why: &str) {
    let message = format!(
        "kvnode: cannot write: {why}; ending, nothing was acknowledged since; mend the cause and start again\n"
    );
    let _ = io::stderr().write_all(message.as_bytes());
    std::process::exit(i32::from(Code::Refused as u8));
}

fn to_failure(error: &StoreError) -> Failure {
    let newer = matches!(error, StoreError::Manifest(ManifestError::Newer { .. }))
        || matches!(error, StoreError::Vlog(VlogError::Unsupported { .. }));
    if error.is_damage() {
        Failure::damaged(format!("the data directory is damaged, nothing was changed: {error}"))
    } else if newer {
        Failure::refused(error)
    } else {
        Failure::refused(format!("cannot open the data directory: {error}"))
    }
}

#[derive(Debug)]
struct NodeHealth(Arc<Shared>);

impl Health for NodeHealth {
    fn ready(&self) -> Result<(), String> {
        match self.0.raft.leader() {
            Some(_) => Ok(()),
            None => Err("there is no leader".into()),
        }
    }

    fn metrics(&self, out: &mut String) {
        let status = self.0.raft.own_status();
        let mut metrics = Metrics::new(out);
        metrics.gauge("kvnode_raft_term", "Current term.", status.term);
        metrics.gauge(
            "kvnode_raft_first_log_index",
            "First entry that the log still holds.",
            status.first_log,
        );
        metrics.gauge("kvnode_raft_last_log_index", "Last entry of the log.", status.last_log);
        let applied = self.0.store.applied().map_or(0, |at| at.index);
        metrics.gauge("kvnode_applied_index", "Last entry applied.", applied);
        let help = "What time it is to the last entry applied, since 1970.";
        metrics.gauge("kvnode_log_time_seconds", help, status.log_time);
        let waiting = self.0.store.log().waiting_bytes();
        metrics.gauge("kvnode_log_waiting_bytes", "Appended and not yet durable.", waiting);
        metrics.gauge("kvnode_tables", "Tables of the LSM.", self.0.store.tables().len() as u64);
        if let Some(stats) = self.0.stats() {
            metrics.store(&stats);
        }
    }
}

/// Listens on the address of the setting `name`; says which one it became, the port being chosen where it
/// is 0.
///
/// # Errors
/// Where the address is taken or not this machine's, or where a name that ought to be loopback is not.
pub async fn bind(
    name: &str,
    address: &Address,
    settings: &Settings,
) -> Result<(TcpListener, SocketAddr), Failure> {
    let cannot = |e: io::Error| {
        Failure::refused(format!("cannot listen on {address}: {e}; choose another address with --{name}"))
    };
    let listener = TcpListener::bind((address.host(), address.port())).await.map_err(cannot)?;
    let bound = listener.local_addr().map_err(cannot)?;
    if !settings.insecure_plaintext && !bound.ip().to_canonical().is_loopback() {
        let why = format!("{name}: {address} means {bound}, which can be reached from other machines");
        return Err(Failure::config(format!("{why}; bind to 127.0.0.1, or pass --insecure-plaintext")));
    }
    Ok((listener, bound))
}

/// The one line on standard output. Whoever started us may have closed it: that is no reason to stop.
pub fn announce(line: &str) {
    let mut out = io::stdout().lock();
    if let Err(e) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        tracing::warn!("cannot write to standard output: {e}");
    }
}
