//! The client and its calls on keys.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::stream::BoxStream;
use kv_api::{
    Limits,
    kv::{
        ByteRange, Consistency, Expect, GetReply, GetRequest, Item, KvRequest, KvResponse, Revision,
        ScanPage, ScanRequest, WriteReply, WriteRequest,
    },
    transport::{Dialer, Welcome},
};
use tokio::time::Instant;

use crate::{
    Admin, Batch, Builder, Error, Scan,
    endpoints::{Endpoint, Endpoints, Route, Size},
    line::{AdminRpc, Dial, KvRpc, Line, Live, Rpc, Taken},
    retry::{self, Failure, Jitter, Repeat},
    scan,
};

/// Calls over this many bytes travel on bulk connections.
const SMALL_BYTES: u64 = 64 << 10;

/// A value, whole or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The bytes, or the part asked for. From 4 KiB on a slice of the received frame, which it keeps alive.
    pub bytes: Bytes,
    /// Version of the key.
    pub revision: Revision,
    /// Length of the whole value in bytes.
    pub value_bytes: u64,
    /// When it goes away, in seconds since 1970 of the cluster's time; `None`: it stays.
    pub expires_at: Option<u64>,
}

/// What became of a [`Client::compare_and_set`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CasOutcome {
    /// The value is set.
    Done {
        /// The key's version now.
        revision: Revision,
    },
    /// The key is not as expected; nothing was changed.
    Conflict {
        /// The key's version; `None`: there is no such key.
        current: Option<Revision>,
    },
}

/// A client of a cluster. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    core: Arc<Core>,
    deadline: Duration,
    consistency: Consistency,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.core.endpoints.addresses()).finish_non_exhaustive()
    }
}

impl Client {
    /// Sets one up.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(core: Core, deadline: Duration) -> Self {
        Self { core: Arc::new(core), deadline, consistency: Consistency::default() }
    }

    /// The same client with another deadline per call.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// The same client, whose reads may be stale: any node answers with what it has applied.
    #[must_use]
    pub fn stale(&self) -> Self {
        Self { consistency: Consistency::Stale, ..self.clone() }
    }

    /// Reads a value; `None`: no such key.
    ///
    /// # Errors
    /// See [`Error`]; reads are repeated until the deadline.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Value>, Error> {
        self.get_whole(key.into(), None).await
    }

    /// Reads a value as it was once the write of this revision had taken effect, of whichever key: those that the node
    /// keeps (its settings `engine.keep_versions` and `engine.keep_age_ms`); `None`: there was no such key.
    ///
    /// ```no_run
    /// # async fn example(client: kv_client::Client) -> Result<(), kv_client::Error> {
    /// let before = client.put("config", "old").await?;
    /// client.put("config", "new").await?;
    /// assert_eq!(client.get_at("config", before).await?.unwrap().bytes, "old");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Compacted`] where that state is not kept any more, [`Error::Invalid`] where there is none yet; and see
    /// [`Client::get`].
    pub async fn get_at(&self, key: impl Into<Bytes>, revision: Revision) -> Result<Option<Value>, Error> {
        self.get_whole(key.into(), Some(revision)).await
    }

    async fn get_whole(&self, key: Bytes, at_revision: Option<Revision>) -> Result<Option<Value>, Error> {
        let until = self.until();
        let mut request = GetRequest { key, consistency: self.consistency, range: None, at_revision };
        if self.core.guess.is_small() {
            // How long it is shows in the answer. A long one comes again, whole, on a bulk connection.
            request.range = Some(ByteRange { offset: 0, length: SMALL_BYTES });
            let value = self.fetch(&request, Size::Small, until).await?;
            if value.as_ref().is_none_or(|value| value.bytes.len() as u64 == value.value_bytes) {
                return Ok(value);
            }
            request.range = None;
        }
        self.fetch(&request, Size::Bulk, until).await
    }

    /// Reads a part of a value, cut at its end; `None`: no such key.
    ///
    /// # Errors
    /// See [`Error`]; reads are repeated until the deadline.
    pub async fn get_range(
        &self,
        key: impl Into<Bytes>,
        offset: u64,
        length: u64,
    ) -> Result<Option<Value>, Error> {
        self.get_part(key.into(), ByteRange { offset, length }, None).await
    }

    /// Reads a part of a value as of a revision: [`Client::get_range`] of [`Client::get_at`].
    ///
    /// # Errors
    /// See [`Client::get_at`].
    pub async fn get_range_at(
        &self,
        key: impl Into<Bytes>,
        revision: Revision,
        offset: u64,
        length: u64,
    ) -> Result<Option<Value>, Error> {
        self.get_part(key.into(), ByteRange { offset, length }, Some(revision)).await
    }

    async fn get_part(
        &self,
        key: Bytes,
        part: ByteRange,
        at_revision: Option<Revision>,
    ) -> Result<Option<Value>, Error> {
        let size = if part.length <= SMALL_BYTES { Size::Small } else { Size::Bulk };
        let request = GetRequest { key, consistency: self.consistency, range: Some(part), at_revision };
        self.fetch(&request, size, self.until()).await
    }

    async fn fetch(&self, request: &GetRequest, size: Size, until: Instant) -> Result<Option<Value>, Error> {
        let attempt = async |endpoint: Arc<Endpoint>| {
            let live = self.core.connect(&endpoint, size, until).await?;
            live.limits.check_key(&request.key)?;
            match live.call(KvRequest::Get { request: request.clone() }, until).await? {
                KvResponse::Get(reply) => Ok(reply?),
                _ => Err(mismatch(&live.endpoint)),
            }
        };
        let found: Option<GetReply> = self.core.run(&self.read_route(), Repeat::Read, until, attempt).await?;
        Ok(found.map(|reply| {
            self.core.guess.learn(reply.value_bytes <= SMALL_BYTES);
            Value {
                bytes: reply.value,
                revision: reply.revision,
                value_bytes: reply.value_bytes,
                expires_at: reply.expires_at,
            }
        }))
    }

    /// Sets a key. Returns its new version.
    ///
    /// # Errors
    /// See [`Error`], and ask it [`may_have_happened`](Error::may_have_happened).
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Revision, Error> {
        self.write_one(Batch::new().put(key, value)).await
    }

    /// Sets a key that goes away by itself, not before this time is over and about two seconds later for who does not
    /// read [`stale`](Client::stale). A second to 50 years. Returns its new version.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(client: kv_client::Client) -> Result<(), kv_client::Error> {
    /// client.put_for("session/7", "ann", Duration::from_secs(3600)).await?;
    /// assert!(client.get("session/7").await?.unwrap().expires_at.is_some());
    /// # Ok(())
    /// # }
    /// ```
    /// Time is that of the cluster, which follows the clock of its leader and never goes back. A later [`Client::put`]
    /// of the key stays; one that shall go again says so again.
    ///
    /// # Errors
    /// See [`Error`], and ask it [`may_have_happened`](Error::may_have_happened).
    pub async fn put_for(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        time: Duration,
    ) -> Result<Revision, Error> {
        self.write_one(Batch::new().put_for(key, value, time)).await
    }

    /// Removes a key. Returns the version of the removal.
    ///
    /// # Errors
    /// See [`Error`], and ask it [`may_have_happened`](Error::may_have_happened).
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<Revision, Error> {
        self.write_one(Batch::new().delete(key)).await
    }

    async fn write_one(&self, batch: Batch) -> Result<Revision, Error> {
        match self.write(batch).await? {
            WriteReply::Done { revision } => Ok(revision),
            WriteReply::Refused { .. } => {
                Err(Error::Unknown("a node refused a write that has no conditions".into()))
            }
        }
    }

    /// Writes a batch: all of it or nothing.
    ///
    /// # Errors
    /// See [`Error`], and ask it [`may_have_happened`](Error::may_have_happened).
    pub async fn write(&self, batch: Batch) -> Result<WriteReply, Error> {
        let until = self.until();
        let request = batch.into_request();
        let size = if request.payload_bytes() <= SMALL_BYTES { Size::Small } else { Size::Bulk };
        let repeat = if self.core.retry_unknown_writes && !request.is_conditional() {
            Repeat::Write
        } else {
            Repeat::WriteOnce
        };
        let attempt = async |endpoint| self.write_try(endpoint, &request, size, until).await;
        self.core.run(&Route::Leader, repeat, until, attempt).await
    }

    async fn write_try(
        &self,
        endpoint: Arc<Endpoint>,
        request: &WriteRequest,
        size: Size,
        until: Instant,
    ) -> Result<WriteReply, Failure> {
        let live = self.core.connect(&endpoint, size, until).await?;
        live.limits.check_write(request)?;
        match live.call(KvRequest::Write { request: request.clone() }, until).await? {
            KvResponse::Write(reply) => Ok(reply?),
            _ => Err(mismatch(&live.endpoint)),
        }
    }

    /// Sets a key if it is as expected.
    ///
    /// # Errors
    /// See [`Error`], and ask it [`may_have_happened`](Error::may_have_happened). Never repeated after an
    /// unknown outcome: the second try would meet what the first one wrote.
    pub async fn compare_and_set(
        &self,
        key: impl Into<Bytes>,
        expect: Expect,
        value: impl Into<Bytes>,
    ) -> Result<CasOutcome, Error> {
        let key = key.into();
        Ok(match self.write(Batch::new().check(key.clone(), expect).put(key, value)).await? {
            WriteReply::Done { revision } => CasOutcome::Done { revision },
            WriteReply::Refused { current, .. } => CasOutcome::Conflict { current },
        })
    }

    /// Reads keys in order, all from one snapshot; the next page is fetched while this one is used.
    ///
    /// The first error ends the stream. The deadline is for each page. All pages come from the node that
    /// gave the first one: if it goes away for good, the scan ends with an error.
    pub fn scan(&self, scan: Scan) -> BoxStream<'static, Result<Item, Error>> {
        scan::stream(self.clone(), scan)
    }

    /// One page, and the node it came from.
    pub(crate) async fn scan_page(
        &self,
        mut request: ScanRequest,
        from: Option<String>,
    ) -> Result<(ScanPage, String), Error> {
        let until = self.until();
        request.consistency = self.consistency;
        let route = from.map_or_else(|| self.read_route(), Route::Only);
        let attempt = async |endpoint: Arc<Endpoint>| {
            let live = self.core.connect(&endpoint, Size::Bulk, until).await?;
            live.limits.check_scan(&request)?;
            match live.call(KvRequest::Scan { request: request.clone() }, until).await? {
                KvResponse::Scan(page) => Ok((page?, endpoint.address.clone())),
                _ => Err(mismatch(&live.endpoint)),
            }
        };
        self.core.run(&route, Repeat::Read, until, attempt).await
    }

    /// What a node accepts at most. Connects if there is no connection yet.
    ///
    /// # Errors
    /// [`Error::Unreachable`] and what else prevents a connection.
    pub async fn limits(&self) -> Result<Limits, Error> {
        let until = self.until();
        let attempt = async |endpoint: Arc<Endpoint>| {
            let live = self.core.connect(&endpoint, Size::Small, until).await?;
            Ok(live.limits.clone())
        };
        self.core.run(&Route::Any, Repeat::Read, until, attempt).await
    }

    /// What an operator asks.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    pub(crate) fn until(&self) -> Instant {
        // A deadline that is further than a clock counts is none.
        let year = Duration::from_secs(86_400 * 365);
        Instant::now() + self.deadline.min(year)
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    fn read_route(&self) -> Route {
        match self.consistency {
            Consistency::Linearizable => Route::Leader,
            Consistency::Stale => Route::Spread,
        }
    }
}

pub(crate) fn mismatch(endpoint: &str) -> Failure {
    let what = "the answer is of another kind".into();
    Failure::Unreadable { endpoint: endpoint.to_owned(), what }
}

/// What all clones share.
pub(crate) struct Core {
    endpoints: Endpoints,
    dialer: Arc<dyn Dialer>,
    connect_timeout: Duration,
    retry_unknown_writes: bool,
    jitter: Jitter,
    guess: Guess,
    /// The cluster of the first node met.
    cluster: Arc<Mutex<Option<[u8; 16]>>>,
}

impl Core {
    pub(crate) fn new(builder: Builder) -> Self {
        Self {
            endpoints: Endpoints::new(builder.endpoints, builder.bulk_connections),
            dialer: builder.dialer,
            connect_timeout: builder.connect_timeout,
            retry_unknown_writes: builder.retry_unknown_writes,
            jitter: Jitter::new(builder.seed),
            guess: Guess::default(),
            cluster: Arc::default(),
        }
    }

    pub(crate) async fn run<T, F, Fut>(
        &self,
        route: &Route,
        repeat: Repeat,
        until: Instant,
        attempt: F,
    ) -> Result<T, Error>
    where
        F: Fn(Arc<Endpoint>) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        retry::run(&self.endpoints, &self.jitter, route, repeat, until, attempt).await
    }

    async fn connect(
        &self,
        endpoint: &Endpoint,
        size: Size,
        until: Instant,
    ) -> Result<Taken<KvRpc>, Failure> {
        let line = endpoint.line(size);
        Ok(Taken { live: self.open(&line, endpoint, until).await?, _in_use: line })
    }

    pub(crate) async fn connect_admin(
        &self,
        endpoint: &Endpoint,
        until: Instant,
    ) -> Result<Arc<Live<AdminRpc>>, Failure> {
        self.open(&endpoint.admin, endpoint, until).await
    }

    async fn open<R: Rpc>(
        &self,
        line: &Line<R>,
        endpoint: &Endpoint,
        until: Instant,
    ) -> Result<Arc<Live<R>>, Failure> {
        let dial = Dial {
            dialer: Arc::clone(&self.dialer),
            endpoint: endpoint.address.clone(),
            timeout: self.connect_timeout,
        };
        let (cluster, address) = (Arc::clone(&self.cluster), endpoint.address.clone());
        let admit = move |welcome: &Welcome| admit(&cluster, address, welcome);
        match tokio::time::timeout_at(until, line.get(dial, admit)).await {
            Ok(live) => live.map_err(Failure::Connect),
            Err(_) => Err(Failure::NotSent(format!("{}: no connection in time", endpoint.address))),
        }
    }
}

/// The first cluster met is the one; a node that is in none yet says nothing.
fn admit(cluster: &Mutex<Option<[u8; 16]>>, endpoint: String, welcome: &Welcome) -> Result<(), Error> {
    if welcome.cluster_id == [0; 16] {
        return Ok(());
    }
    let mut cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
    if *cluster.get_or_insert(welcome.cluster_id) == welcome.cluster_id {
        return Ok(());
    }
    Err(Error::ForeignCluster { endpoint })
}

/// Whether the next value is likely a small one, from the ones before: which connection a `get` takes.
struct Guess(AtomicU8);

impl Default for Guess {
    fn default() -> Self {
        Self(AtomicU8::new(Self::MIDDLE))
    }
}

impl Guess {
    const MIDDLE: u8 = 4;
    const MOST: u8 = 8;

    fn is_small(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= Self::MIDDLE
    }

    /// Counts up and down between bounds. A lost update does no harm.
    fn learn(&self, small: bool) {
        let now = self.0.load(Ordering::Relaxed);
        let next = if small { (now + 1).min(Self::MOST) } else { now.saturating_sub(1) };
        if next != now {
            self.0.store(next, Ordering::Relaxed);
        }
    }
}
