//! Clients that write and read a few keys and remember what they were answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kv_client::{CasOutcome, Client, Error, Expect};
use parking_lot::Mutex;
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::sync::watch;

use super::history::{Call, Outcome, Record, Seen};

/// So few that they meet on each.
pub const KEYS: usize = 5;

const WRITE_DEADLINE: Duration = Duration::from_secs(2);
/// Shorter, so that a client does not only wait for the node that is down.
const READ_DEADLINE: Duration = Duration::from_millis(300);
/// Between two calls of a client, at most: shapes the load, waits for nothing.
const THINK_MS_MAX: u64 = 20;
/// Lengths of values: in the index, in the log, in the log and on a connection of its own.
const VALUE_BYTES: [usize; 4] = [16, 200, 3_000, 70_000];

/// What all clients share.
#[derive(Debug)]
pub struct Shared {
    began: Instant,
    /// Values handed out.
    values: AtomicU64,
    /// Calls that had an answer.
    answered: watch::Sender<u64>,
    /// The last version seen of each key, by anyone.
    seen: Mutex<[Option<Seen>; KEYS]>,
}

impl Shared {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            values: AtomicU64::new(1),
            answered: watch::Sender::new(0),
            seen: Mutex::default(),
        })
    }

    /// Calls that had an answer.
    pub fn answered(&self) -> u64 {
        *self.answered.borrow()
    }

    /// Returns once so many have.
    pub async fn wait_answered(&self, calls: u64) {
        let mut answered = self.answered.subscribe();
        answered.wait_for(|answered| *answered >= calls).await.unwrap();
    }

    /// Nanoseconds since the test began.
    pub fn now(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_nanos()).unwrap()
    }
}

/// One client: a process of the history.
pub struct Worker {
    number: u32,
    rng: StdRng,
    shared: Arc<Shared>,
    writer: Client,
    /// By node; each only reads, so that no node has told it to ask the leader instead.
    readers: Vec<Client>,
    history: Vec<Record>,
}

fn client<'a>(addresses: impl IntoIterator<Item = &'a String>, deadline: Duration) -> Client {
    let client = Client::builder().endpoints(addresses).deadline(deadline);
    client.retry_unknown_writes(false).build().unwrap()
}

impl Worker {
    pub fn new(number: u32, addresses: &BTreeMap<u64, String>, rng: StdRng, shared: Arc<Shared>) -> Self {
        let writer = client(addresses.values(), WRITE_DEADLINE);
        let readers = addresses.values().map(|address| client([address], READ_DEADLINE)).collect();
        Self { number, rng, shared, writer, readers, history: Vec::new() }
    }

    /// Calls until told to stop; returns what came of it.
    pub async fn run(mut self, stop: watch::Receiver<bool>) -> Vec<Record> {
        while !*stop.borrow() {
            let (key, call) = (self.rng.random_range(0..KEYS), self.choose());
            self.call(key, call).await;
            let think = self.rng.random_range(0..=THINK_MS_MAX);
            tokio::time::sleep(Duration::from_millis(think)).await;
        }
        self.history
    }

    /// Reads every key on every node, however long that takes: what was lost shows at the latest here.
    pub async fn read_all(mut self) -> Vec<Record> {
        for node in 0..self.readers.len() {
            self.readers[node] = self.readers[node].with_deadline(Duration::from_secs(60));
            for key in 0..KEYS {
                let called = self.shared.now();
                let found = self.get(node, key).await.unwrap();
                self.record(key, called, Call::Get, found);
            }
        }
        self.history
    }

    fn choose(&mut self) -> Call {
        match self.rng.random_range(0..100) {
            0..40 => Call::Get,
            40..65 => Call::Put { value: self.value() },
            65..73 => Call::Delete,
            // The key is chosen already, but which version is expected is seen only when the call is made.
            _ => Call::CompareAndSet { expect: None, value: self.value() },
        }
    }

    fn value(&self) -> u64 {
        self.shared.values.fetch_add(1, Ordering::Relaxed)
    }

    async fn call(&mut self, key: usize, call: Call) {
        let call = match call {
            Call::CompareAndSet { value, .. } => {
                let expect = self.shared.seen.lock()[key].filter(|_| self.rng.random_ratio(4, 5));
                Call::CompareAndSet { expect, value }
            }
            call => call,
        };
        let node = self.rng.random_range(0..self.readers.len());
        let called = self.shared.now();
        let outcome = match call {
            Call::Get => self.get(node, key).await,
            _ => self.write(key, call).await,
        };
        match outcome {
            Ok(outcome) => self.record(key, called, call, outcome),
            Err(error) if call != Call::Get && error.may_have_happened() => {
                self.record(key, called, call, Outcome::Unknown);
            }
            // It certainly did nothing.
            Err(_) => {}
        }
    }

    fn record(&mut self, key: usize, called: i64, call: Call, outcome: Outcome) {
        let (client, returned) = (self.number, self.shared.now());
        let record = Record { client, key, called, returned, call, outcome };
        if outcome != Outcome::Unknown {
            self.shared.answered.send_modify(|answered| *answered += 1);
        }
        match (call, outcome, record.shown()) {
            (Call::Delete, Outcome::Done(_), _) | (_, Outcome::Found(None), _) => {
                self.shared.seen.lock()[key] = None;
            }
            (_, _, Some(seen)) => self.shared.seen.lock()[key] = Some(seen),
            _ => {}
        }
        self.history.push(record);
    }

    async fn get(&self, node: usize, key: usize) -> Result<Outcome, Error> {
        let found = self.readers[node].get(key_name(key)).await?;
        Ok(Outcome::Found(found.map(|found| Seen { value: number(&found.bytes), revision: found.revision })))
    }

    async fn write(&self, key: usize, call: Call) -> Result<Outcome, Error> {
        let key = key_name(key);
        Ok(match call {
            Call::Put { value } => Outcome::Done(self.writer.put(key, bytes(value)).await?),
            Call::CompareAndSet { expect, value } => {
                let expect = expect.map_or(Expect::Absent, |seen| Expect::Revision(seen.revision));
                match self.writer.compare_and_set(key, expect, bytes(value)).await? {
                    CasOutcome::Done { revision } => Outcome::Done(revision),
                    CasOutcome::Conflict { current } => Outcome::Conflict(current),
                }
            }
            Call::Delete | Call::Get => Outcome::Done(self.writer.delete(key).await?),
        })
    }
}

fn key_name(key: usize) -> String {
    format!("key{key}")
}

/// The value with this number: the number, and bytes that follow from it.
fn bytes(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(VALUE_BYTES[number as usize % VALUE_BYTES.len()], number as u8);
    bytes
}

fn number(value: &[u8]) -> u64 {
    let number = u64::from_le_bytes(value[..8].try_into().unwrap());
    assert!(value == bytes(number), "the value with number {number} was changed");
    number
}
