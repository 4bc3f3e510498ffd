//! Ties the node together: data directory, engine, consensus, listeners.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use kv_vfs::{RealVfs, Vfs};
use tokio::net::TcpListener;

use crate::config::{Address, Settings};
use crate::datadir;
use crate::exit::Failure;
use crate::http::{self, Health};
use crate::shutdown::Shutdown;

/// Is a node until shutdown is asked for.
pub async fn run(settings: Settings, shutdown: Shutdown) -> Result<(), Failure> {
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    // Before the listeners: a second node in the same directory shall hear of that, not of a port in use.
    let dir = datadir::open(&vfs, &settings.data_dir, &settings.listen)?;
    let (_listener, listen) = bind("listen", &settings.listen, &settings).await?;
    let (http_listener, http) = bind("http", &settings.http, &settings).await?;
    tracing::info!("data directory {}", dir.path().display());
    announce(&format!("ready node={} listen={listen} http={http}", settings.node_id));
    http::serve(http_listener, Arc::new(Unready), shutdown).await;
    Ok(())
}

#[derive(Debug)]
struct Unready;

impl Health for Unready {
    fn ready(&self) -> Result<(), String> {
        Err("there is no leader".into())
    }

    fn metrics(&self, _out: &mut String) {}
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
