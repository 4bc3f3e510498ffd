//! Does one slow disk slow everyone down?

use std::time::{Duration, Instant};

use kv_client::Client;
use kv_tests::{Cluster, IDS};
use tokio::task::JoinSet;

use crate::sibling;
use crate::summary::Times;

const CLIENTS: usize = 16;
const VALUE_BYTES: usize = 4 << 10;
const DELAY_MS: u64 = 200;
/// Each of the two is measured so often, in turns.
const ROUNDS: usize = 3;
const ROUND_TIME: Duration = Duration::from_secs(5);

/// Prints what came of it.
pub async fn measure() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::new(dir.path(), &sibling("faulty_node")).start();
    let follower = cluster.leader().await % *IDS.end() + 1;
    println!(
        "puts of {VALUE_BYTES} bytes, {CLIENTS} clients, {DELAY_MS} ms more for each sync of one follower"
    );
    let client = cluster.client();
    puts(&client).await;
    let (mut usual, mut slowed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        usual.push(puts(&client).await);
        delay(&mut cluster, follower, DELAY_MS);
        slowed.push(puts(&client).await);
        delay(&mut cluster, follower, 0);
    }
    for (usual, slowed) in usual.iter().zip(&slowed) {
        println!("  usual: {usual}\n  slow:  {slowed}");
    }
    for percent in [50, 99] {
        let median = |of: &[Times]| Times::new(of.iter().map(|times| times.percentile(percent)).collect());
        let ratio = median(&slowed).percentile(50).div_duration_f64(median(&usual).percentile(50));
        println!("p{percent}: {ratio:.2} times as long (median of {ROUNDS} rounds)");
    }
}

fn delay(cluster: &mut Cluster, id: u64, ms: u64) {
    let node = cluster.nodes.get_mut(&id).unwrap();
    assert_eq!(node.process.ask(&format!("slow {ms} .seg")), "slow");
}

async fn puts(client: &Client) -> Times {
    let until = Instant::now() + ROUND_TIME;
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(put_until(client.clone(), number, until));
    }
    Times::new(clients.join_all().await.concat())
}

async fn put_until(client: Client, number: usize, until: Instant) -> Vec<Duration> {
    let mut times = Vec::new();
    // Not compressible: all of it goes to the disk.
    let value: Vec<u8> = (0..VALUE_BYTES).map(|_| rand::random()).collect();
    while Instant::now() < until {
        let began = Instant::now();
        client.put(format!("client{number}/{}", times.len()), value.clone()).await.unwrap();
        times.push(began.elapsed());
    }
    times
}
