//! How long is there no leader?

use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kv_client::Client;
use kv_tests::{Cluster, Signal};
use tokio::task::{JoinHandle, block_in_place};

use crate::sibling;
use crate::summary::{Times, ms};

const ROUNDS: usize = 10;
const CLIENTS: usize = 4;
/// Short, so that a client tries often.
const DEADLINE: Duration = Duration::from_millis(100);
/// Between two tries of a client that fail at once.
const PAUSE: Duration = Duration::from_millis(2);
/// A node that was started again gives no vote for a while, and catches up.
const SETTLE_TIME: Duration = Duration::from_secs(3);
/// Defaults of the settings `raft.election_timeout_ms_*`.
const ELECTION_TIMEOUT_MS: std::ops::RangeInclusive<u64> = 500..=1_000;

/// Prints what came of it.
pub async fn measure() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::new(dir.path(), &sibling("kvnode")).start();
    let (least, most) = ELECTION_TIMEOUT_MS.into_inner();
    println!(
        "longest pause between two acknowledged writes around a signal to the leader, {ROUNDS} times each;"
    );
    println!("election timeout {least} to {most} ms");
    for (name, signal) in [("SIGKILL", Signal::KILL), ("SIGTERM", Signal::TERM)] {
        let mut pauses = Vec::new();
        for _ in 0..ROUNDS {
            pauses.push(pause_after(&mut cluster, signal).await);
        }
        let pauses = Times::new(pauses);
        let median = ms(pauses.percentile(50));
        println!("{name}: {pauses}");
        println!("{name}: {:.2} of the longest election timeout (median)", median / most as f64);
    }
}

async fn pause_after(cluster: &mut Cluster, signal: Signal) -> Duration {
    tokio::time::sleep(SETTLE_TIME).await;
    let leader = cluster.leader().await;
    let acknowledged = Acknowledged::default();
    let writers: Vec<_> = (0..CLIENTS).map(|number| acknowledged.writer(cluster.client(), number)).collect();
    acknowledged.wait_for_some(Instant::now()).await;
    let signalled = Instant::now();
    let node = cluster.nodes.remove(&leader).unwrap();
    node.process.signal(signal);
    block_in_place(|| node.process.wait());
    let gone = Instant::now();
    acknowledged.wait_for_some(gone).await;
    writers.iter().for_each(JoinHandle::abort);
    block_in_place(|| cluster.launch(leader));
    acknowledged.longest_pause(signalled)
}

/// When writes were acknowledged.
#[derive(Clone, Default)]
struct Acknowledged(Arc<Mutex<Vec<Instant>>>);

impl Acknowledged {
    fn writer(&self, client: Client, number: usize) -> JoinHandle<()> {
        let (own, client) = (self.clone(), client.with_deadline(DEADLINE));
        tokio::spawn(async move {
            loop {
                match client.put(format!("client{number}"), "value").await {
                    Ok(_) => own.0.lock().unwrap().push(Instant::now()),
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        })
    }

    async fn wait_for_some(&self, after: Instant) {
        while !self.0.lock().unwrap().iter().any(|at| *at > after) {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The longest time between two acknowledgements of which the second came after this instant.
    fn longest_pause(&self, after: Instant) -> Duration {
        let mut times = self.0.lock().unwrap().clone();
        times.sort_unstable();
        let pairs = times.windows(2).filter_map(|pair| <&[Instant; 2]>::try_from(pair).ok());
        let after = pairs.filter(|[_, second]| *second > after);
        after.map(|[first, second]| *second - *first).max().unwrap_or_default()
    }
}
