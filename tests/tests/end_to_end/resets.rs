//! Connections that break all the time, between nodes and between clients and nodes: nobody notices.

use std::path::Path;
use std::time::Duration;

use kv_client::Client;
use kv_tests::{Cluster, Detour, Link, number_from_env, seed};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::Instant;

const CLIENTS: usize = 8;
/// How often connections are reset, and how many of them in percent; one at least.
const RESET_INTERVAL: Duration = Duration::from_millis(50);
const RESET_PERCENT: u32 = 5;

/// Broken by: a call that is not repeated although nothing happened or the caller allowed it, a node that
/// takes a broken connection for a dead peer, an entry lost or doubled between two connections.
///
/// `KV_RESET_SECONDS`: how long.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_reset_of_a_connection_reaches_a_client() {
    let time = Duration::from_secs(number_from_env("KV_RESET_SECONDS", 5));
    let mut rng = StdRng::seed_from_u64(seed());
    let dir = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_faulty_node"));
    let mut cluster = Cluster::linked(dir.path(), program).start();
    cluster.leader().await;
    let (client_links, detour) = cluster.client_links();
    let (stop, stopped) = watch::channel(false);
    let mut writers = JoinSet::new();
    for number in 0..CLIENTS {
        writers.spawn(write(client(&cluster, &detour), number, stopped.clone()));
    }
    let node_links: Vec<Link> = cluster.links().cloned().collect();
    let resets = reset(&[&node_links, &client_links], time, &mut rng).await;
    stop.send_replace(true);
    let written = writers.join_all().await;
    eprintln!("{resets:?} resets between nodes and of clients, keys by client: {written:?}");
    assert!(resets.iter().all(|resets| *resets > 0), "{resets:?}");

    let client = client(&cluster, &detour);
    for (number, count) in written {
        for round in 0..count {
            check(&client, number, round).await;
        }
    }
    cluster.assert_sound();
    block_in_place(|| cluster.terminate());
}

/// Writes each of its keys once, so that a repetition changes nothing; returns its number and how many.
async fn write(client: Client, number: usize, stop: watch::Receiver<bool>) -> (usize, usize) {
    let mut round = 0;
    while !*stop.borrow() {
        let done = client.put(key(number, round), value(number, round)).await;
        assert!(done.is_ok(), "{}: {done:?}", key(number, round));
        check(&client, number, round / 2).await;
        round += 1;
    }
    (number, round)
}

async fn check(client: &Client, number: usize, round: usize) {
    let found = client.get(key(number, round)).await;
    let right =
        found.as_ref().map(|found| found.as_ref().is_some_and(|found| found.bytes == value(number, round)));
    assert_eq!(right, Ok(true), "{}", key(number, round));
}

fn client(cluster: &Cluster, detour: &Detour) -> Client {
    let client = Client::builder().endpoints(cluster.addresses.values()).dialer(detour.clone());
    client.retry_unknown_writes(true).build().unwrap()
}

fn key(number: usize, round: usize) -> String {
    format!("client{number}/{round}")
}

fn value(number: usize, round: usize) -> Vec<u8> {
    vec![(number + round) as u8; [20, 2_000, 20_000, 200_000][round % 4]]
}

/// Returns how many connections of each kind were reset.
async fn reset<const KINDS: usize>(
    links: &[&Vec<Link>; KINDS],
    time: Duration,
    rng: &mut StdRng,
) -> [usize; KINDS] {
    let mut resets = [0; KINDS];
    let (until, mut ticks) = (Instant::now() + time, tokio::time::interval(RESET_INTERVAL));
    while ticks.tick().await < until {
        for (links, resets) in links.iter().zip(&mut resets) {
            let some: usize = links.iter().map(|link| link.reset_some(RESET_PERCENT, rng)).sum();
            *resets += match some {
                0 => {
                    let first = rng.random_range(0..links.len());
                    let mut from_first = links.iter().cycle().skip(first).take(links.len());
                    from_first.any(|link| link.reset_one(rng)).into()
                }
                some => some,
            };
        }
    }
    resets
}
