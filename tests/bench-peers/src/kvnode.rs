//! Three nodes of kvnode, loaded by `kvadmin bench`.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::Load;
use crate::nodes::{Nodes, Outcome, free_ports, retry};

pub async fn fill(programs: &Path, load: Load) -> anyhow::Result<Outcome> {
    let dir = tempfile::tempdir()?;
    let ports: [u16; 6] = free_ports()?;
    let addresses: Vec<String> = ports[..3].iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let list: Vec<String> = (1..).zip(&addresses).map(|(id, address)| format!("{id}={address}")).collect();
    let mut nodes = Nodes(Vec::new());
    for (id, address) in (1..).zip(&addresses) {
        let child = Command::new(programs.join("kvnode"))
            .arg("--data-dir")
            .arg(dir.path().join(format!("n{id}")))
            .args(["--node-id", &id.to_string(), "--listen", address])
            .args(["--http", &format!("127.0.0.1:{}", ports[id + 2])])
            .args(["--initial-cluster", &list.join(",")])
            .env("RUST_LOG", "off")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("kvnode")?;
        nodes.0.push(child);
    }
    let endpoints = addresses.join(",");
    let admin = |args: &[&str]| {
        let output =
            Command::new(programs.join("kvadmin")).args(["--endpoints", &endpoints]).args(args).output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    };
    retry(async || admin(&["put", "warm", "up"])).await?;
    let (value, clients, ops) =
        (load.value_bytes.to_string(), load.clients.to_string(), load.ops.to_string());
    let args = [
        "-o",
        "json",
        "bench",
        "--workload",
        "fill",
        "--value-size",
        &value,
        "--clients",
        &clients,
        "--ops",
        &ops,
    ];
    let report: serde_json::Value = serde_json::from_slice(&admin(&args)?)?;
    anyhow::ensure!(report["errors"] == 0, "errors: {report}");
    let number = |value: &serde_json::Value| value.as_f64().context("number in the report");
    let (written_per_user_byte, peak_mb) = nodes.costs(load)?;
    Ok(Outcome {
        ops_per_second: number(&report["ops_per_second"])?,
        p50_ms: number(&report["latency_us"]["p50"])? / 1000.0,
        p99_ms: number(&report["latency_us"]["p99"])? / 1000.0,
        written_per_user_byte,
        peak_mb,
    })
}
