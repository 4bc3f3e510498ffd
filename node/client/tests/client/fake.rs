//! A node that keeps a map and does what a test tells it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use kv_api::{
    KvError, Limits,
    admin::*,
    kv::*,
    stats::Stats,
    transport::{Connection, ListenOptions, ServeOptions, Service, Welcome, listen, serve},
};
use kv_client::{Builder, Client};
use tarpc::{context::Context, server::Serve};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{Notify, Semaphore},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// What a test sees and sets. Shared by a node's incarnations.
#[derive(Clone)]
pub struct Fake(pub Arc<Shared>);

pub struct Shared {
    pub map: Mutex<BTreeMap<Bytes, (Bytes, Revision)>>,
    /// Answers to give before the true ones.
    pub first: Mutex<VecDeque<KvError>>,
    /// Name of each call that arrived.
    pub log: Mutex<Vec<String>>,
    /// While closed, calls on the key `wait` wait here.
    pub gate: Semaphore,
    /// Told when a call on the key `wait` has arrived.
    pub arrived: Notify,
    /// Items in a page.
    pub page: usize,
    pub limits: Limits,
    pub cluster: [u8; 16],
}

impl Default for Fake {
    fn default() -> Self {
        Self::with(Limits::default(), [1; 16])
    }
}

impl Fake {
    pub fn with(limits: Limits, cluster: [u8; 16]) -> Self {
        Self(Arc::new(Shared {
            map: Mutex::default(),
            first: Mutex::default(),
            log: Mutex::default(),
            gate: Semaphore::new(0),
            arrived: Notify::new(),
            page: 3,
            limits,
            cluster,
        }))
    }

    pub fn answer_first(&self, errors: impl IntoIterator<Item = KvError>) {
        self.0.first.lock().unwrap().extend(errors);
    }

    /// How often a call was made.
    pub fn count(&self, name: &str) -> usize {
        self.0.log.lock().unwrap().iter().filter(|call| call.starts_with(name)).count()
    }

    async fn begin(&self, name: &str, key: &[u8]) -> Result<(), KvError> {
        self.0.log.lock().unwrap().push(format!("{name} {}", key.escape_ascii()));
        if key == b"wait" {
            self.0.arrived.notify_one();
            let _ = self.0.gate.acquire().await;
        }
        self.0.first.lock().unwrap().pop_front().map_or(Ok(()), Err)
    }
}

impl Kv for Fake {
    async fn get(self, _: Context, request: GetRequest) -> Result<Option<GetReply>, KvError> {
        self.begin("get", &request.key).await?;
        let map = self.0.map.lock().unwrap();
        Ok(map.get(&request.key).map(|(value, revision)| {
            let part = request.range.map_or(0..value.len(), |range| {
                let from = usize::try_from(range.offset).unwrap().min(value.len());
                from..from.saturating_add(usize::try_from(range.length).unwrap()).min(value.len())
            });
            let value_bytes = value.len() as u64;
            GetReply { value: value.slice(part), revision: *revision, value_bytes, expires_at: None }
        }))
    }

    async fn write(self, _: Context, request: WriteRequest) -> Result<WriteReply, KvError> {
        self.begin("write", request.ops.first().map_or(b"", |op| op.key())).await?;
        let mut map = self.0.map.lock().unwrap();
        for (check, n) in request.checks.iter().zip(0..) {
            let current = map.get(&check.key).map(|(_, revision)| *revision);
            let expected = match check.expect {
                Expect::Absent => None,
                Expect::Revision(revision) => Some(revision),
            };
            if current != expected {
                return Ok(WriteReply::Refused { check: n, current });
            }
        }
        let first = self.0.log.lock().unwrap().len() as u64 * 100;
        for (op, revision) in request.ops.into_iter().zip(first..) {
            match op {
                WriteOp::Put { key, value, .. } => map.insert(key, (value, revision)),
                WriteOp::Delete { key } => map.remove(&key),
            };
        }
        Ok(WriteReply::Done { revision: first })
    }

    async fn scan(self, _: Context, request: ScanRequest) -> Result<ScanPage, KvError> {
        let from = request.cursor.map_or(request.from, |cursor| cursor.from);
        self.begin("scan", &from).await?;
        let map = self.0.map.lock().unwrap();
        let mut rest = map.range(from..).filter(|(key, _)| request.to.as_ref().is_none_or(|to| *key < to));
        let limit = if request.limit == 0 { usize::MAX } else { request.limit as usize };
        let items = (&mut rest).take(self.0.page.min(limit)).map(|(key, (value, revision))| Item {
            key: key.clone(),
            revision: *revision,
            value_bytes: value.len() as u64,
            value: (!request.keys_only).then(|| value.clone()),
            expires_at: None,
        });
        let items = items.collect();
        let next = rest.next().map(|(key, _)| Cursor { snapshot: 1, from: key.clone() });
        Ok(ScanPage { items, next })
    }
}

impl Admin for Fake {
    async fn cluster_status(self, _: Context) -> Result<ClusterStatus, KvError> {
        self.begin("status", b"").await?;
        Ok(ClusterStatus { cluster_id: "01".into(), leader_id: Some(1), nodes: vec![] })
    }

    async fn segments(self, _: Context) -> Result<Vec<SegmentStatus>, KvError> {
        self.begin("segments", b"").await?;
        Ok(vec![])
    }

    async fn verify(self, _: Context) -> Result<VerifyReport, KvError> {
        self.begin("verify", b"").await?;
        Ok(VerifyReport { records: 5, ..VerifyReport::default() })
    }

    async fn transfer_leader(self, _: Context, _to: u64) -> Result<(), KvError> {
        Ok(())
    }

    async fn flush(self, _: Context) -> Result<(), KvError> {
        self.begin("flush", b"").await
    }

    async fn gc_status(self, _: Context, any_garbage: bool) -> Result<GcStatus, KvError> {
        self.begin("gc_status", b"").await?;
        Ok(GcStatus { emergency: any_garbage, ..GcStatus::default() })
    }

    async fn gc_run(self, _: Context) -> Result<Vec<GcRun>, KvError> {
        self.begin("gc_run", b"").await?;
        Ok(vec![])
    }

    async fn gc_pause(self, _: Context, _paused: bool) -> Result<(), KvError> {
        self.begin("gc_pause", b"").await
    }

    async fn stats(self, _: Context) -> Result<Stats, KvError> {
        self.begin("stats", b"").await?;
        Ok(Stats { node_id: 3, ..Stats::default() })
    }

    async fn compact(self, _: Context, from: Bytes, _to: Option<Bytes>) -> Result<CompactReport, KvError> {
        self.begin("compact", &from).await?;
        Ok(CompactReport { node_id: 3, ..CompactReport::default() })
    }

    async fn checkpoint(self, _: Context, dir: String) -> Result<CheckpointReport, KvError> {
        self.begin("checkpoint", dir.as_bytes()).await?;
        Ok(CheckpointReport { dir, ..CheckpointReport::default() })
    }

    async fn verify_tables(self, _: Context) -> Result<TablesReport, KvError> {
        self.begin("verify_tables", b"").await?;
        Ok(TablesReport { tables: 7, ..TablesReport::default() })
    }
}

/// A running fake.
pub struct Node {
    pub address: String,
    pub fake: Fake,
    pub stop: CancellationToken,
    pub connections: Arc<Mutex<usize>>,
    task: JoinHandle<()>,
}

impl Node {
    pub async fn start(fake: Fake) -> Self {
        Self::start_at(fake, "127.0.0.1:0").await
    }

    pub async fn start_at(fake: Fake, address: &str) -> Self {
        Self::start_on(fake, TcpListener::bind(address).await.unwrap())
    }

    pub fn start_on(fake: Fake, listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let welcome = Welcome { cluster_id: fake.0.cluster, node_id: 1, limits: fake.0.limits.clone() };
        let options = ServeOptions::new(fake.0.limits.frame_bytes_max, 64 << 20);
        let connections = Arc::new(Mutex::new(0));
        let (service, counter) = (fake.clone(), Arc::clone(&connections));
        let handler = move |connection: Connection| {
            *counter.lock().unwrap() += 1;
            let (fake, options) = (service.clone(), options.clone());
            async move {
                if connection.service == Service::KV {
                    let handler =
                        move |context, request| Serve::serve(Kv::serve(fake.clone()), context, request);
                    serve(connection, options, handler).await;
                } else {
                    let handler =
                        move |context, request| Serve::serve(Admin::serve(fake.clone()), context, request);
                    serve(connection, options, handler).await;
                }
            }
        };
        let stop = CancellationToken::new();
        let options = ListenOptions::new(welcome, [Service::KV, Service::ADMIN]);
        let task = tokio::spawn(listen(listener, options, stop.clone(), handler));
        Self { address, fake, stop, connections, task }
    }

    /// As `kill -9`: connections break where they are.
    pub async fn kill(self) -> (Fake, String) {
        self.task.abort();
        let _ = self.task.await;
        (self.fake, self.address)
    }

    pub fn client(&self) -> Client {
        builder([&self.address]).build().unwrap()
    }
}

/// Long deadlines: a test that waits for one is broken.
pub fn builder<'a>(endpoints: impl IntoIterator<Item = &'a String>) -> Builder {
    Client::builder().endpoints(endpoints).deadline(Duration::from_secs(60)).seed(1)
}

/// An address where nothing listens, and what keeps others from taking it (and may listen later).
pub fn nowhere() -> (String, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (socket.local_addr().unwrap().to_string(), socket)
}
