//! Servers as child processes, and what the system says of them.

use std::fs;
use std::net::TcpListener;
use std::process::Child;
use std::time::Duration;

use anyhow::Context as _;

use crate::Load;

/// One run of one load.
pub struct Outcome {
    pub ops_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub written_per_user_byte: f64,
    pub peak_mb: f64,
}

/// Servers that end with this value.
pub struct Nodes(pub Vec<Child>);

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Nodes {
    /// Bytes given to the disk per byte of user data and the peak of resident memory: of the worst node.
    pub fn costs(&self, load: Load) -> anyhow::Result<(f64, f64)> {
        let user_bytes = (load.value_bytes * load.ops) as f64;
        let (mut written, mut memory) = (0.0_f64, 0.0_f64);
        for child in &self.0 {
            written = written.max(number(child.id(), "io", "write_bytes:")? / user_bytes);
            memory = memory.max(number(child.id(), "status", "VmHWM:")? / 1024.0);
        }
        Ok((written, memory))
    }
}

fn number(pid: u32, file: &str, field: &str) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).context("field")?;
    Ok(line.split_whitespace().next().context("number")?.parse()?)
}

/// Ports that are free now.
pub fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let listeners: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// Tries until it works, for 20 s.
pub async fn retry<T>(mut attempt: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let mut last = None;
    for _ in 0..200 {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(last.context("never tried")?)
}
