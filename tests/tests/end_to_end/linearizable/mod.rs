//! Linearizability of a cluster of real processes, while everything goes wrong.

mod clients;
mod history;
mod known;
mod model;
mod nemesis;

use std::path::{Path, PathBuf};

use kv_tests::{Cluster, IDS, files, kvadmin, number_from_env, seed};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::task::{JoinSet, block_in_place};

use clients::{Shared, Worker};
use history::{Call, Outcome, Record};

const CLIENTS: u32 = 8;

/// Broken by: a follower or a deposed leader that answers reads from an old state, an acknowledged write
/// that a new leader does not have, a write that is applied twice, a refused write that happens, a node that
/// forgets its vote or its log in a kill.
///
/// `KV_LIN_OPS`: so many answered calls at least; every fault happens at least once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_answer_fits_one_order_of_all_calls() {
    let calls = number_from_env("KV_LIN_OPS", 2_000);
    let seed = seed();
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = small(dir.path());
    let shared = Shared::new();
    let (stop, stopped) = watch::channel(false);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let rng = StdRng::from_rng(&mut rng);
        let worker = Worker::new(number, &cluster.addresses, rng, shared.clone());
        clients.spawn(worker.run(stopped.clone()));
    }
    loop {
        nemesis::round(&mut cluster, &shared, &mut rng).await;
        if shared.answered() >= calls {
            break;
        }
    }
    stop.send_replace(true);
    let mut history = clients.join_all().await.concat();
    let reader = Worker::new(CLIENTS, &cluster.addresses, StdRng::from_rng(&mut rng), shared.clone());
    history.extend(reader.read_all().await);
    block_in_place(|| cluster.terminate());
    says_something(&history);
    if let Err(why) = model::check(&history) {
        let kept = keep(&history, seed);
        let data = dir.keep();
        panic!(
            "{why}\nhistory: {}, data: {}\nrepeat with: KV_SEED={seed} cargo test -p kv-tests --test end_to_end \
             every_answer_fits",
            kept.display(),
            data.display()
        );
    }
    block_in_place(|| replicas_are_equal(&cluster));
}

/// Three nodes that flush and roll segments all the time.
fn small(dir: &Path) -> Cluster {
    Cluster::linked(dir, Path::new(env!("CARGO_BIN_EXE_faulty_node")))
        .setting("engine.memtable_flush_bytes", "64KiB")
        .setting("engine.log_flush_bytes", "4MiB")
        .setting("engine.segment_bytes_min", "1MiB")
        .setting("engine.segment_bytes_max", "4MiB")
        .start()
}

/// A history of failures only would pass.
fn says_something(history: &[Record]) {
    let count = |holds: &dyn Fn(&Record) -> bool| history.iter().filter(|record| holds(record)).count();
    let unknown = count(&|record| record.outcome == Outcome::Unknown);
    eprintln!("{} calls recorded, {unknown} of unknown outcome", history.len());
    let swap = |record: &Record| matches!(record.call, Call::CompareAndSet { .. });
    assert!(count(&|record| matches!(record.outcome, Outcome::Found(Some(_)))) > 0);
    assert!(count(&|record| matches!(record.outcome, Outcome::Found(None))) > 0);
    assert!(count(&|record| record.call == Call::Delete) > 0);
    assert!(count(&|record| swap(record) && record.written().is_some()) > 0);
    assert!(count(&|record| matches!(record.outcome, Outcome::Conflict(_))) > 0);
}

fn keep(history: &[Record], seed: u64) -> PathBuf {
    let path = std::env::temp_dir().join(format!("kv-not-linearizable-{seed}.txt"));
    files::write(&path, history::to_text(history).as_bytes());
    path
}

/// Everyone has read everything, so that all have applied the same.
fn replicas_are_equal(cluster: &Cluster) {
    let mut reports = IDS.map(|id| {
        let dir = cluster.data_dir(id);
        let report = kvadmin(
            &cluster.addresses[&id],
            ["check".as_ref(), "-o".as_ref(), "json".as_ref(), "--data-dir".as_ref(), dir.as_os_str()],
        );
        report.json(0)["content_hash"].to_string()
    });
    let first = reports.next().unwrap();
    assert!(reports.all(|other| other == first));
}
