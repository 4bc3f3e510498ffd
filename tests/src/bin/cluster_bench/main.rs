//! Measures a group of three nodes on this machine. Timings depend on it and fail nothing; compare ratios.
//!
//! ```text
//! cargo build --release -p kvnode -p kv-tests && target/release/cluster_bench slow-follower
//! ```
//! - `slow-follower`: puts of 4 KiB by 16 clients, without and with 200 ms added to every sync of a follower;
//! - `leader-loss`: how long no write is acknowledged after SIGKILL and after SIGTERM to the leader.
//!
//! The data goes to the directory for temporary files (`TMPDIR`); each node syncs as it does in production.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "this is what it is for")]

mod leader_loss;
mod slow_follower;
mod summary;

use std::path::PathBuf;

use anyhow::{Context as _, bail};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let what = std::env::args().nth(1);
    match what.as_deref() {
        Some("slow-follower") => {
            preface()?;
            slow_follower::measure().await;
        }
        Some("leader-loss") => {
            preface()?;
            leader_loss::measure().await;
        }
        _ => bail!("say what to measure: slow-follower or leader-loss"),
    }
    Ok(())
}

/// A program that was built together with this one.
fn sibling(name: &str) -> PathBuf {
    let path = std::env::current_exe().unwrap().with_file_name(name);
    assert!(path.exists(), "{} is not there: build kvnode and kv-tests first", path.display());
    path
}

/// What the figures were measured on.
fn preface() -> anyhow::Result<()> {
    let dir = std::env::temp_dir();
    let kind = rustix::fs::statfs(&dir).with_context(|| dir.display().to_string())?.f_type;
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let cores = std::thread::available_parallelism()?;
    println!(
        "{build} build, {cores} cores, three nodes on one disk: {} (file system {kind:#x})",
        dir.display()
    );
    println!("fsync: on; a write is acknowledged after its group is synced on two nodes");
    Ok(())
}
