//! A node whose disk fails on command: kvnode on `FaultVfs`, steered through standard input. It reaches its
//! peers the way that `KV_TESTS_DETOUR` names (see `Detour`), and logs what `KV_TESTS_LOG` asks for.
//!
//! Takes the flags and the environment of kvnode. Commands, each answered by a line:
//!
//! - `block PART`: syncs of files whose path contains this block from now on (`blocking`);
//! - `wait`: answers once a sync is blocked (`blocked`);
//! - `release`: blocked syncs go on (`released`);
//! - `slow MS PART`: syncs of files whose path contains this take so much longer (`slow`);
//! - `fail sync|write N PART`: the Nth such operation from now, and all later ones, fail with EIO (`failing`).

use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kv_tests::Detour;
use kv_vfs::fault::{BlockedSync, Fault, Rule, Times};
use kv_vfs::{FaultVfs, OpKind, RealVfs};
use kvnode::config::{Args, load};
use kvnode::server::{World, run_in};
use kvnode::shutdown::Shutdown;

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse(std::env::args_os())?;
    let loaded = load(&args, std::env::vars_os())?;
    let log = tracing_subscriber::EnvFilter::new(std::env::var("KV_TESTS_LOG").unwrap_or("off".into()));
    tracing_subscriber::fmt().with_env_filter(log).with_writer(std::io::stderr).init();
    let detour = std::env::var(Detour::VARIABLE).unwrap_or_default();
    let detour = Detour::parse(&detour).with_context(|| format!("{}={detour}", Detour::VARIABLE))?;
    let vfs = FaultVfs::new(Arc::new(RealVfs));
    let steered = vfs.clone();
    std::thread::spawn(move || {
        if let Err(error) = steer(&steered) {
            let _ = writeln!(std::io::stderr(), "faulty-node: {error:#}");
            std::process::exit(2);
        }
    });
    let ended = tokio::runtime::Runtime::new()?.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.on_signals()?;
        let world = World { dialer: Arc::new(detour), ..World::real(Arc::new(vfs)) };
        anyhow::Ok(run_in(world, loaded.settings, shutdown).await)
    })?;
    Ok(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "faulty-node: {failure}");
            failure.code.into()
        }
    })
}

fn steer(vfs: &FaultVfs) -> anyhow::Result<()> {
    let mut blocked = None;
    for line in std::io::stdin().lock().lines() {
        let answer = obey(vfs, &mut blocked, &line?)?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}").and_then(|()| out.flush())?;
    }
    Ok(())
}

fn obey(vfs: &FaultVfs, blocked: &mut Option<BlockedSync>, line: &str) -> anyhow::Result<&'static str> {
    let words: Vec<&str> = line.split(' ').collect();
    Ok(match words[..] {
        ["block", part] => {
            *blocked = Some(vfs.block_sync(part));
            "blocking"
        }
        ["wait"] => {
            blocked.as_ref().context("nothing is blocked")?.wait_until_blocked();
            "blocked"
        }
        ["release"] => {
            blocked.take().context("nothing is blocked")?.release();
            "released"
        }
        ["slow", ms, part] => {
            vfs.delay_sync(part, Duration::from_millis(ms.parse()?));
            "slow"
        }
        ["fail", op, nth, part] => {
            let op = match op {
                "sync" => OpKind::Sync,
                "write" => OpKind::Write,
                other => bail!("no such operation: {other}"),
            };
            let (path_contains, nth) = (part.to_owned(), nth.parse()?);
            vfs.fail(Rule { op, path_contains, nth, times: Times::Forever, error: Fault::Eio });
            "failing"
        }
        _ => bail!("no such command: {line}"),
    })
}
