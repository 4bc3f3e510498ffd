//! A whole cluster, its network and its disks in one process, one thread and simulated time: the seed decides
//! everything that happens.
//!
//! `simulate SEED` runs one seed and ends with 0 if everything that clients were told was true; with `--show` it
//! prints every event. `--kill-leader` and `--kill-leader-and-resume` run the one scenario of [`resume`] instead.
//!
//! In reading order: [`machine`] (time), [`net`], [`disk`], [`exec`] (how long it takes), [`cluster`], [`workload`] and [`history`]
//! (what clients may see), [`faults`], [`check`] (what must hold at the end).

mod check;
mod cluster;
mod disk;
mod exec;
mod faults;
mod history;
mod machine;
mod net;
mod resume;
mod rng;
mod trace;
mod values;
mod workload;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use cluster::Cluster;
use net::Net;
use rng::Rng;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use trace::note;
use workload::{MORTAL_MAX, Notes, USERS, User};

/// Real time after which a run has failed; it takes a few seconds.
const REAL_TIME_MAX: Duration = Duration::from_secs(900);
/// Times that something goes wrong in a run.
const ROUNDS: u64 = 5;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(Ok(seed)) = args.first().map(|seed| seed.parse::<u64>()) else {
        eprintln!("usage: simulate SEED [--kill-leader | --kill-leader-and-resume] [--show]");
        return ExitCode::from(2);
    };
    let given = |flag: &str| args.iter().any(|arg| arg == flag);
    if given("--show") {
        trace::show();
    }
    machine::seed(seed);
    machine::end_after(REAL_TIME_MAX);
    end_on_panic();
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("simulate: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    if given("--kill-leader") || given("--kill-leader-and-resume") {
        let resume = given("--kill-leader-and-resume");
        let disks = runtime.block_on(resume::kill_a_leader_before_its_write(seed, resume));
        println!("contents={}", if check::differ(&check::contents(disks)) { "different" } else { "same" });
    } else {
        runtime.block_on(run(seed));
    }
    let (events, hash) = trace::digest();
    println!("seed={seed} simulated_s={:.1} events={events} trace={hash:016x}", machine::now().as_secs_f64());
    // What is left of crashed nodes has nothing to finish.
    runtime.shutdown_background();
    ExitCode::SUCCESS
}

fn runtime() -> std::io::Result<Runtime> {
    let no_threads = || {
        eprintln!("simulate: a second thread was started: what blocks must go through kvnode's `blocking`");
        std::process::abort();
    };
    Builder::new_current_thread().enable_all().on_thread_start(no_threads).build()
}

/// A panic anywhere, in a task of a node too, is a failure.
fn end_on_panic() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        say(info);
        let (events, hash) = trace::digest();
        eprintln!("simulate: failed at {:?} after {events} events, trace {hash:016x}", machine::now());
        std::process::exit(1);
    }));
}

async fn run(seed: u64) {
    let net = Net::new(Rng::new(seed, "net"));
    let mut cluster = Cluster::new(seed, net.clone());
    let rng = Rng::new(seed, "faults");
    cluster.start_all().await;
    let watching = tokio::spawn(check::watch(cluster.running().clone()));
    let notes = Notes::default();
    let users = USERS.map(|host| Arc::new(User::new(seed, &net, host, notes.clone())));
    let users: Vec<_> = users.collect();
    for round in faults::plan(&rng, ROUNDS) {
        let stop = CancellationToken::new();
        let working: Vec<_> =
            users.iter().map(|user| tokio::spawn(user.clone().work(stop.clone()))).collect();
        faults::strike(&mut cluster, &rng, &round).await;
        stop.cancel();
        futures::future::join_all(working).await;
        cluster.start_all().await;
        if let Some(user) = users.first() {
            user.write_through().await;
            user.read_all().await;
        }
    }
    // Those who stop last may come to a later time: nothing is left by then that time changes.
    tokio::time::sleep(MORTAL_MAX).await;
    if let Some(user) = users.first() {
        user.read_all().await;
    }
    check::converge(cluster.running()).await;
    watching.abort();
    note!("everything is read and the same everywhere");
    let disks = cluster.stop().await;
    let snapshots: usize = disks.values().map(check::installs).sum();
    check::same_contents(disks);
    let notes = notes.lock();
    let (acknowledged, unknown, reads) = (notes.acknowledged, notes.unknown, notes.reads);
    println!("acknowledged={acknowledged} unknown={unknown} reads={reads} snapshots={snapshots}");
}
