//! Ties the node together: data directory, engine, consensus, listeners.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use kv_api::transport::{ListenOptions, ServeOptions, TcpDialer, Welcome, listen};
use kv_lsm::{Environment, NewStore, Options, Store, StoreError};
use kv_manifest::ManifestError;
use kv_vfs::{RealVfs, SystemClock, ThreadExecutor, Vfs};
use kv_vlog::{Compression, VlogError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{Address, Cluster, Settings};
use crate::datadir::{self, DataDir};
use crate::exit::{Code, Failure};
use crate::http::{self, Health};
use crate::raft::{NodeConfig, RaftNode};
use crate::service::{self, DiskGuard, Shared};
use crate::shutdown::Shutdown;

/// Is a node until shutdown is asked for.
pub async fn run(settings: Settings, shutdown: Shutdown) -> Result<(), Failure> {
    run_on(Arc::new(RealVfs), settings, shutdown).await
}

/// As [`run`], with the data directory on this file system: tests hand in one that fails.
pub async fn run_on(vfs: Arc<dyn Vfs>, settings: Settings, shutdown: Shutdown) -> Result<(), Failure> {
    // Before the listeners: a second node in the same directory shall hear of that, not of a port in use.
    let dir = datadir::open(&vfs, &settings.data_dir, &settings.listen)?;
    let (listener, address) = bind("listen", &settings.listen, &settings).await?;
    let (http_listener, http_address) = bind("http", &settings.http, &settings).await?;
    let store = open_store(&vfs, &dir, &settings).await?;
    let config = NodeConfig {
        node_id: settings.node_id,
        members: members(&settings, address),
        cluster_id: store.state().identity.cluster_id,
        dialer: Arc::new(TcpDialer),
        heartbeat_ms: settings.raft.heartbeat_ms,
        election_timeout_ms: settings.raft.election_timeout_ms_min..settings.raft.election_timeout_ms_max,
    };
    let raft = RaftNode::start(&config, store.clone())
        .await
        .map_err(|error| Failure::refused(format!("cannot start consensus: {error}")))?;
    let disk = DiskGuard::new(vfs, dir.path().into(), reserve_bytes(&settings));
    let shared = Shared::new(raft.clone(), store.clone(), settings.limits.wire(), disk);
    let housekeeping = tokio::spawn(shared.clone().housekeeping());
    announce(&format!("ready node={} listen={address} http={http_address}", settings.node_id));

    let stop = CancellationToken::new();
    let health: Arc<dyn Health> = Arc::new(NodeHealth(shared.clone()));
    let serving_http = tokio::spawn(http::serve(http_listener, health, shutdown.clone()));
    let serving = tokio::spawn(serve(listener, &settings, &store, shared, stop.clone()));
    shutdown.wait().await;
    // Another node leads, requests under way are finished, consensus stops, everything is flushed and
    // sealed.
    raft.hand_over().await;
    stop.cancel();
    for task in [serving, serving_http] {
        if let Err(error) = task.await {
            tracing::warn!(%error, "a listener did not stop cleanly");
        }
    }
    housekeeping.abort();
    raft.shutdown().await;
    let closed = tokio::task::spawn_blocking(move || store.close()).await;
    match closed.map_err(|error| Failure::refused(format!("could not close: {error}")))? {
        Ok(()) => Ok(()),
        Err(error) => Err(to_failure(&error)),
    }
}

/// The members of a new cluster: those of the list, or this node alone.
fn members(settings: &Settings, address: SocketAddr) -> BTreeMap<u64, String> {
    match &settings.initial_cluster {
        Some(cluster) => {
            cluster.members().iter().map(|member| (member.id, member.address.to_string())).collect()
        }
        None => BTreeMap::from([(settings.node_id, address.to_string())]),
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
fn serve(
    listener: TcpListener,
    settings: &Settings,
    store: &Store,
    shared: Arc<Shared>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let welcome = Welcome {
        cluster_id: store.state().identity.cluster_id,
        node_id: settings.node_id,
        limits: settings.limits.wire(),
    };
    let mut listening = ListenOptions::new(welcome, service::services());
    listening.connections_max = settings.limits.connections_max as usize;
    let budget = u32::try_from(settings.limits.in_flight_bytes_max).unwrap_or(u32::MAX);
    let options = ServeOptions::new(settings.limits.wire().frame_bytes_max, budget);
    listen(listener, listening, stop, move |connection| {
        service::answer(connection, options.clone(), shared.clone())
    })
}

async fn open_store(vfs: &Arc<dyn Vfs>, dir: &DataDir, settings: &Settings) -> Result<Arc<Store>, Failure> {
    let environment = Environment {
        vfs: vfs.clone(),
        clock: Arc::new(SystemClock::default()),
        executor: Arc::new(ThreadExecutor),
    };
    let cluster_id = settings.initial_cluster.as_ref().map_or_else(rand::random, cluster_id);
    let new = NewStore { cluster_id, node_id: settings.node_id, incarnation: rand::random() };
    let (path, options) = (dir.path().to_path_buf(), engine_options(settings));
    let opened = tokio::task::spawn_blocking(move || Store::open(&environment, &path, options, Some(new)))
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

fn engine_options(settings: &Settings) -> Options {
    let engine = &settings.engine;
    let compression = Compression::default();
    Options {
        on_fatal: Arc::new(end_process),
        separate_bytes_min: engine.separate_values_from_bytes,
        compression: Compression { level: compression.level.filter(|_| engine.compression), ..compression },
        memtable_bytes_max: engine.memtable_flush_bytes,
        memtable_entries_max: engine.memtable_flush_entries,
        log_flush_bytes_max: engine.log_flush_bytes,
        segment_bytes: engine.segment_bytes_min..=engine.segment_bytes_max,
        group_bytes_max: u32::try_from(engine.group_bytes_max).unwrap_or(u32::MAX),
        tail_cache_bytes: usize::try_from(engine.tail_cache_bytes).unwrap_or(usize::MAX),
        table_compression: engine.compression,
        ..Options::default()
    }
}

/// A write or a sync has failed. What is on disk is not known, so nothing is retried and nobody is told
/// anything more: the next start reads what is really there.
fn end_process(why: &str) {
    let message = format!(
        "kvnode: cannot write: {why}; ending, nothing was acknowledged since; start again once the disk works\n"
    );
    let _ = io::stderr().write_all(message.as_bytes());
    std::process::exit(i32::from(Code::Refused as u8));
}

/// Room for the segments under way, for tables and for the manifest.
fn reserve_bytes(settings: &Settings) -> u64 {
    2 * settings.engine.segment_bytes_max + (64 << 20)
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
        let gauges = [
            ("kvnode_raft_term", "Current term.", status.term),
            ("kvnode_raft_last_log_index", "Last entry of the log.", status.last_log),
            ("kvnode_applied_index", "Last entry applied.", self.0.store.applied().map_or(0, |at| at.index)),
            ("kvnode_log_waiting_bytes", "Appended and not yet durable.", self.0.store.log().waiting_bytes()),
            ("kvnode_tables", "Tables of the LSM.", self.0.store.tables().len() as u64),
        ];
        for (name, help, value) in gauges {
            out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"));
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
