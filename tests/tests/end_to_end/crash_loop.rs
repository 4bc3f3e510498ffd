//! Kill, restart, look: again and again, under load.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kv_client::Client;
use kv_manifest::{Edit, Recorded};
use kv_tests::{Launch, Node, number_from_env, seed};
use kv_vfs::RealVfs;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::model::Model;

const WRITERS: u64 = 8;
const KEYS_PER_WRITER: usize = 25;

/// So small that every round flushes, rolls segments and compacts.
pub fn small(launch: Launch) -> Launch {
    launch
        .setting("engine.memtable_flush_bytes", "4KiB")
        .setting("engine.log_flush_bytes", "1MiB")
        .setting("engine.segment_bytes_min", "256KiB")
        .setting("engine.segment_bytes_max", "1MiB")
}

/// Broken by: an acknowledgement before its sync, a flush that records more than is in its table, a recovery
/// that skips or cuts what was acknowledged, a replay or a compaction that brings a deleted key back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_kill_loses_an_acknowledged_write_or_brings_a_deleted_key_back() {
    let rounds = number_from_env("KV_CRASH_ROUNDS", 10);
    let mut rng = StdRng::seed_from_u64(seed());
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut models: Vec<_> = (0..WRITERS)
        .map(|n| Model::new(&format!("writer{n}/"), KEYS_PER_WRITER, StdRng::from_rng(&mut rng)))
        .collect();
    let mut work = Work::default();
    for round in 0..rounds {
        if rng.random_ratio(1, 3) {
            // Kills a recovery. The time only chooses the moment; nothing waits for anything.
            let recovering = small(Launch::new(&data)).spawn();
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..60))).await;
            recovering.kill();
        }
        let node = small(Launch::new(&data)).start();
        models = check(&node.client(), models).await;
        let acknowledged = rng.random_range(20..150);
        eprintln!("round {round}: killed after {acknowledged} writes");
        models = write_until_killed(node, models, acknowledged).await;
        work.note(&data);
    }
    let node = small(Launch::new(&data)).start();
    models = check(&node.client(), models).await;
    node.kvadmin(["vlog", "verify"]).expect(0);
    node.terminate().expect(0);
    let node = small(Launch::new(&data)).start();
    check(&node.client(), models).await;
    node.terminate().expect(0);
    work.was_enough_for(rounds);
}

/// All writers look at their keys at once.
async fn check(client: &Client, models: Vec<Model>) -> Vec<Model> {
    let mut checks = JoinSet::new();
    for mut model in models {
        let client = client.clone();
        checks.spawn(async move {
            model.check(&client).await;
            model
        });
    }
    checks.join_all().await
}

/// All writers write until the node is killed, which it is when so many writes have been acknowledged.
async fn write_until_killed(node: Node, models: Vec<Model>, acknowledged: usize) -> Vec<Model> {
    let killing = Arc::new(AtomicBool::new(false));
    let (dead, is_dead) = watch::channel(());
    let (ack, mut acks) = mpsc::unbounded_channel();
    let mut writers = JoinSet::new();
    for mut model in models {
        let (client, killing, ack, mut is_dead) =
            (node.client(), killing.clone(), ack.clone(), is_dead.clone());
        writers.spawn(async move {
            loop {
                // A write that is dropped here has an unknown outcome, as one without an answer has.
                let done = tokio::select! {
                    biased;
                    done = model.write(&client) => done,
                    _ = is_dead.changed() => return model,
                };
                match done {
                    Ok(()) => drop(ack.send(())),
                    Err(error) => {
                        assert!(killing.load(Ordering::SeqCst), "a write failed on a living node: {error}");
                        return model;
                    }
                }
            }
        });
    }
    drop(ack);
    for _ in 0..acknowledged {
        if acks.recv().await.is_none() {
            break; // every writer has failed, and says why when it is joined
        }
    }
    killing.store(true, Ordering::SeqCst);
    let ended = node.kill();
    assert_eq!(ended.code, None, "it ended before it was killed: {}", ended.stderr);
    drop(dead);
    writers.join_all().await
}

/// Guards the test itself: rounds without flushes, rolls and compactions would prove little.
#[derive(Debug, Default)]
struct Work {
    newest_change_set: u64,
    flushes: u64,
    compactions: u64,
    sealed: u64,
}

impl Work {
    /// Counts what the manifest has recorded since the last time.
    fn note(&mut self, data: &Path) {
        for Recorded { change_set, .. } in kv_manifest::read(&RealVfs, data).unwrap().change_sets {
            if change_set.number <= self.newest_change_set {
                continue;
            }
            self.newest_change_set = change_set.number;
            self.flushes += u64::from(change_set.cause.starts_with("flush"));
            self.compactions += u64::from(change_set.cause.starts_with("compact"));
            let seals = |edit: &&Edit| matches!(edit, Edit::SealSegment { .. });
            self.sealed += change_set.edits.iter().filter(seals).count() as u64;
        }
    }

    fn was_enough_for(&self, rounds: u64) {
        eprintln!("{rounds} rounds: {self:?}");
        let enough = self.flushes >= rounds && self.compactions >= rounds / 2 && self.sealed >= 2 * rounds;
        assert!(enough, "too little happened");
    }
}
