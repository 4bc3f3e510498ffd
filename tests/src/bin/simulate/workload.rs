//! Clients that write, read, remove, compare and scan, and note what they are told.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use kv_client::{CasOutcome, Client, Error, Expect, Scan};
use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::cluster::{NODES, address};
use crate::history::{Begun, History, Outcome};
use crate::machine;
use crate::net::{Host, Net};
use crate::rng::Rng;
use crate::trace::note;

/// What all clients note together: they share one clock.
pub type Notes = Arc<Mutex<History>>;

/// Keys that the clients share.
const KEYS: u64 = 20;
/// Longest pause between two calls of a client.
const PAUSE_MS_MAX: u64 = 120;
/// How long a value stays at most that goes away by itself, in ms.
const MORTAL_MS_MAX: u64 = 6_000;
/// By then it is gone: the time of the log has whole seconds.
pub const MORTAL_MAX: Duration = Duration::from_millis(MORTAL_MS_MAX + 2_000);
/// Machines of clients.
pub const USERS: Range<Host> = 11..15;
/// How long a call may take before its outcome is unknown, in ms, by client: the impatient ones find the new
/// leader first.
const DEADLINES_MS: [u64; 4] = [500, 1_000, 2_000, 4_000];
/// How long the healed cluster may take for everything that is read at the end.
const RECOVERY: Duration = Duration::from_secs(60);

/// One client.
pub struct User {
    client: Client,
    notes: Notes,
    rng: Rng,
    host: Host,
}

impl User {
    /// A client on a machine of its own.
    #[expect(clippy::expect_used, reason = "it has endpoints")]
    pub fn new(seed: u64, net: &Net, host: Host, notes: Notes) -> Self {
        let patience = DEADLINES_MS.into_iter().cycle().nth(host as usize).unwrap_or_default();
        let client = Client::builder()
            .endpoints(NODES.map(address))
            .deadline(Duration::from_millis(patience))
            .seed(seed ^ host)
            .dialer(net.start(host))
            .build()
            .expect("a client");
        Self { client, notes, rng: Rng::new(seed, &format!("user{host}")), host }
    }

    /// Calls, one after the other, until told to stop.
    pub async fn work(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let key = format!("key{:02}", self.rng.range(0..KEYS));
            match self.rng.range(0..100) {
                0..36 => self.put(&key).await,
                36..45 => self.put_for(&key).await,
                45..60 => self.compare(&key).await,
                60..67 => self.remove(&key).await,
                67..97 => drop(self.read(&key).await),
                _ => self.scan().await,
            }
            sleep(self.rng.millis(0..PAUSE_MS_MAX)).await;
        }
    }

    async fn put(&self, key: &str) {
        let (begun, value) = self.notes.lock().begin_put(key);
        let put = self.client.put(key.to_owned(), value).await;
        self.end(&begun, put);
    }

    async fn put_for(&self, key: &str) {
        let time = self.rng.millis(1_000..MORTAL_MS_MAX);
        let (begun, value) = self.notes.lock().begin_put_until(key, machine::now() + time);
        let put = self.client.put_for(key.to_owned(), value, time).await;
        self.end(&begun, put);
    }

    async fn remove(&self, key: &str) {
        let begun = self.notes.lock().begin_remove(key);
        let removed = self.client.delete(key.to_owned()).await;
        self.end(&begun, removed);
    }

    async fn compare(&self, key: &str) {
        let guess = self.notes.lock().guess(key);
        let expect = guess.map_or(Expect::Absent, Expect::Revision);
        let (begun, value) = self.notes.lock().begin_put(key);
        match self.client.compare_and_set(key.to_owned(), expect, value).await {
            Ok(CasOutcome::Done { revision }) => {
                note!("user {} {begun:?} follows {guess:?}: {revision}", self.host);
                self.notes.lock().end_swap(&begun, guess, revision, machine::now());
            }
            Ok(CasOutcome::Conflict { current }) => {
                note!("user {} {begun:?} refused: {current:?}", self.host);
                self.notes.lock().end_refused(&begun, current, machine::now());
            }
            Err(error) => self.end(&begun, Err(error)),
        }
    }

    fn end(&self, begun: &Begun, ended: Result<u64, Error>) {
        note!("user {} {begun:?} ends: {ended:?}", self.host);
        let outcome = match ended {
            Ok(revision) => Outcome::Done(revision),
            Err(error) if error.may_have_happened() => Outcome::Unknown,
            Err(_) => Outcome::Nothing,
        };
        self.notes.lock().end_write(begun, outcome);
    }

    async fn read(&self, key: &str) -> Result<(), Error> {
        let begun = self.notes.lock().begin_read(key);
        let read = self.client.get(key.to_owned()).await;
        let short = read.as_ref().map(|found| found.as_ref().map(|found| found.revision));
        note!("user {} {begun:?} reads: {short:?}", self.host);
        let found = read?;
        let found = found.as_ref().map(|found| (found.revision, &*found.bytes));
        self.notes.lock().end_read(&begun, found, machine::now());
        Ok(())
    }

    async fn scan(&self) {
        let begun: Vec<(String, Begun)> = {
            let mut notes = self.notes.lock();
            notes.keys().into_iter().map(|key| (key.clone(), notes.begin_read(&key))).collect()
        };
        let found: Result<Vec<_>, Error> = self.client.scan(Scan::all().page_items(7)).try_collect().await;
        note!("user {} scans: {:?}", self.host, found.as_ref().map(Vec::len));
        let Ok(found) = found else { return };
        let mut notes = self.notes.lock();
        for (key, begun) in begun {
            let item = found.iter().find(|item| item.key == key.as_bytes());
            let item = item.map(|item| (item.revision, item.value.as_deref().unwrap_or_default()));
            notes.end_read(&begun, item, machine::now());
        }
    }

    /// Reads everything that was ever written; the cluster is whole, so that it must answer.
    #[expect(clippy::panic, reason = "a cluster that does not answer is what this is about")]
    pub async fn read_all(&self) {
        let until = tokio::time::Instant::now() + RECOVERY;
        let keys = self.notes.lock().keys();
        for key in keys {
            while let Err(error) = self.read(&key).await {
                if tokio::time::Instant::now() > until {
                    panic!("all nodes run and reach each other, but {key} cannot be read: {error}");
                }
            }
        }
        self.notes.lock().check_swaps();
    }

    /// A write that must succeed now.
    pub async fn write_through(&self) {
        let acknowledged = self.notes.lock().acknowledged;
        let until = tokio::time::Instant::now() + RECOVERY;
        while self.notes.lock().acknowledged == acknowledged {
            assert!(tokio::time::Instant::now() < until, "all nodes run, but nothing can be written");
            self.put("last").await;
        }
    }
}
