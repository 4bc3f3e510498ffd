//! Three nodes of etcd, loaded by the same number of clients.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use etcd_client::Client;
use hdrhistogram::Histogram;
use rand::seq::SliceRandom;
use rand::{Rng, RngCore};

use crate::Load;
use crate::nodes::{Nodes, Outcome, free_ports, retry};

/// Clients that share a connection.
const CLIENTS_A_CONNECTION: usize = 8;

pub async fn fill(program: &Path, load: Load) -> anyhow::Result<Outcome> {
    let dir = tempfile::tempdir()?;
    let ports: [u16; 6] = free_ports()?;
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let cluster: Vec<String> = (0..3).map(|id| format!("n{id}={}", url(ports[id + 3]))).collect();
    let mut nodes = Nodes(Vec::new());
    for id in 0..3 {
        let (client, peer) = (url(ports[id]), url(ports[id + 3]));
        let child = Command::new(program)
            .args(["--name", &format!("n{id}"), "--data-dir"])
            .arg(dir.path().join(format!("n{id}")))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &cluster.join(","), "--initial-cluster-state", "new"])
            .args(["--quota-backend-bytes", "8589934592", "--max-request-bytes", "10485760"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("etcd")?;
        nodes.0.push(child);
    }
    let endpoints: Vec<String> = ports[..3].iter().map(|port| url(*port)).collect();
    retry(async || {
        let mut client = Client::connect(&endpoints, None).await?;
        Ok(client.put("warm", "up", None).await.map(drop)?)
    })
    .await?;

    let mut order: Vec<usize> = (0..load.ops).collect();
    order.shuffle(&mut rand::rng());
    let leader = leader(&endpoints).await?;
    let (order, next) = (Arc::new(order), Arc::new(AtomicUsize::new(0)));
    let mut connections = Vec::new();
    for _ in 0..load.clients.div_ceil(CLIENTS_A_CONNECTION) {
        connections.push(Client::connect([&leader], None).await?);
    }
    let began = Instant::now();
    let tasks: Vec<_> = (0..load.clients)
        .map(|client| {
            let connection = connections[client / CLIENTS_A_CONNECTION].clone();
            tokio::spawn(write(connection, load, order.clone(), next.clone()))
        })
        .collect();
    let mut latencies = Histogram::<u64>::new(3)?;
    for task in tasks {
        latencies.add(task.await??)?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let (written_per_user_byte, peak_mb) = nodes.costs(load)?;
    Ok(Outcome {
        ops_per_second: load.ops as f64 / seconds,
        p50_ms: latencies.value_at_quantile(0.5) as f64 / 1000.0,
        p99_ms: latencies.value_at_quantile(0.99) as f64 / 1000.0,
        written_per_user_byte,
        peak_mb,
    })
}

/// Clients of kvnode speak to the leader, too.
async fn leader(endpoints: &[String]) -> anyhow::Result<String> {
    for endpoint in endpoints {
        let status = Client::connect([endpoint], None).await?.status().await?;
        if status.header().context("header")?.member_id() == status.leader() {
            return Ok(endpoint.clone());
        }
    }
    anyhow::bail!("etcd has no leader")
}

async fn write(
    mut connection: Client,
    load: Load,
    order: Arc<Vec<usize>>,
    next: Arc<AtomicUsize>,
) -> anyhow::Result<Histogram<u64>> {
    let mut latencies = Histogram::<u64>::new(3)?;
    // Twice as long as a value: each value is another part of it.
    let mut bytes = vec![0; 2 * load.value_bytes];
    rand::rng().fill_bytes(&mut bytes);
    while let Some(key) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
        let from = rand::rng().random_range(0..=load.value_bytes);
        let value = bytes[from..from + load.value_bytes].to_vec();
        let began = Instant::now();
        connection.put(format!("bench/{key:010}"), value, None).await?;
        latencies.record(began.elapsed().as_micros() as u64)?;
    }
    Ok(latencies)
}
