//! A node in memory: the services of `kv-api` over TCP, on a map.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use kv_api::admin::{
    Admin, CheckpointReport, ClusterStatus, CompactReport, GcFile, GcHeld, GcPin, GcPlan, GcRun, GcStatus,
    GcTotals, NodeStatus, Role, SegmentStatus, TableSum, TablesReport, VerifyReport,
};
use kv_api::kv::*;
use kv_api::stats::{Disk, Level, Stalls, Stats, Waits};
use kv_api::transport::{ListenOptions, ServeOptions, Service, Welcome, listen, serve};
use kv_api::{KvError, Limits};
use tarpc::context::Context;
use tarpc::server::Serve as _;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Small limits, so that small files are large.
pub fn small_limits() -> Limits {
    let mut limits = Limits { key_bytes_max: 1000, value_bytes_max: 1000, ..Limits::default() };
    (limits.batch_bytes_max, limits.page_bytes_max) = (20_000, 500);
    limits
}

/// What the node holds, and how it misbehaves.
#[derive(Default)]
pub struct State {
    pub map: BTreeMap<Bytes, (Revision, Bytes)>,
    revision: Revision,
    pub limits: Limits,
    pub leaderless: bool,
    /// Whether value GC is paused.
    pub gc_paused: bool,
    pub damages: Vec<String>,
    /// The same of tables.
    pub table_damages: Vec<String>,
    /// Ranges that were to be compacted.
    pub compacted: Vec<(Bytes, Option<Bytes>)>,
    /// So many writes are done and then answered with "unknown".
    pub unknown_writes: u32,
    /// So many pages of scans are answered with "expired", if they are not the first.
    pub expired_pages: u32,
    /// When a key that contains this is written, this other key and value is written, too, by somebody else.
    pub meddler: Option<(&'static [u8], Bytes, Option<Bytes>)>,
    /// Gets and writes so far.
    pub requests: u64,
}

/// Serves the state at an address; returns the address it became.
fn run(address: &str, state: &Arc<Mutex<State>>) -> (Runtime, String) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let limits = state.lock().unwrap().limits.clone();
    let welcome = Welcome { cluster_id: [7; 16], node_id: 1, limits: limits.clone() };
    let options = ListenOptions::new(welcome, [Service::KV, Service::ADMIN]);
    let services = Services(Arc::clone(state));
    runtime.spawn(listen(listener, options, CancellationToken::new(), move |connection| {
        let (services, options) = (services.clone(), ServeOptions::new(limits.frame_bytes_max, 64 << 20));
        async move {
            if connection.service == Service::ADMIN {
                serve(connection, options, move |context, request| {
                    Admin::serve(services.clone()).serve(context, request)
                })
                .await;
            } else {
                serve(connection, options, move |context, request| {
                    Kv::serve(services.clone()).serve(context, request)
                })
                .await;
            }
        }
    }));
    (runtime, address)
}

/// A running node.
pub struct Node {
    pub address: String,
    state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
}

#[derive(Clone)]
struct Services(Arc<Mutex<State>>);

impl Node {
    pub fn start(limits: Limits) -> Self {
        limits.validate().unwrap();
        let state = Arc::new(Mutex::new(State { limits, ..State::default() }));
        let (runtime, address) = run("127.0.0.1:0", &state);
        Self { address, state, runtime: Some(runtime) }
    }

    /// Breaks all connections, and comes back at the same address after a while.
    pub fn restart(&mut self, pause: Duration) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
        std::thread::sleep(pause);
        self.runtime = Some(run(&self.address, &self.state).0);
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.state().put(key.into(), value.into());
    }

    pub fn keys(&self) -> Vec<Bytes> {
        self.state().map.keys().cloned().collect()
    }

    pub fn value(&self, key: &'static str) -> Option<Bytes> {
        self.state().map.get(key.as_bytes()).map(|(_, value)| value.clone())
    }
}

impl State {
    fn put(&mut self, key: Bytes, value: Bytes) {
        self.revision += 1;
        self.map.insert(key, (self.revision, value));
    }

    fn meddle(&mut self, ops: &[WriteOp]) {
        let Some((trigger, ..)) = self.meddler else { return };
        if ops.iter().any(|op| op.key().windows(trigger.len()).any(|part| part == trigger))
            && let Some((_, key, value)) = self.meddler.take()
        {
            match value {
                Some(value) => self.put(key, value),
                None => self.map.retain(|other, _| !other.starts_with(&key)),
            }
        }
    }
}

impl Kv for Services {
    async fn get(self, _: Context, request: GetRequest) -> Result<Option<GetReply>, KvError> {
        let mut state = self.0.lock().unwrap();
        state.requests += 1;
        Ok(state.map.get(&request.key).map(|(revision, value)| {
            let range = request.range.unwrap_or(ByteRange { offset: 0, length: u64::MAX });
            let start = range.offset.min(value.len() as u64);
            let end = start.saturating_add(range.length).min(value.len() as u64);
            let part = value.slice(start as usize..end as usize);
            GetReply { value: part, revision: *revision, value_bytes: value.len() as u64, expires_at: None }
        }))
    }

    async fn write(self, _: Context, request: WriteRequest) -> Result<WriteReply, KvError> {
        let mut state = self.0.lock().unwrap();
        state.limits.check_write(&request)?;
        state.requests += 1;
        for (check, Check { key, expect }) in (0..).zip(&request.checks) {
            let current = state.map.get(key).map(|(revision, _)| *revision);
            let holds = match expect {
                Expect::Absent => current.is_none(),
                Expect::Revision(revision) => current == Some(*revision),
            };
            if !holds {
                return Ok(WriteReply::Refused { check, current });
            }
        }
        let revision = state.revision + 1;
        for op in &request.ops {
            match op {
                WriteOp::Put { key, value, .. } => state.put(key.clone(), value.clone()),
                WriteOp::Delete { key } => {
                    state.revision += 1;
                    state.map.remove(key);
                }
            }
        }
        state.meddle(&request.ops);
        if state.unknown_writes > 0 {
            state.unknown_writes -= 1;
            return Err(KvError::Unknown("as the test wants".into()));
        }
        Ok(WriteReply::Done { revision })
    }

    async fn scan(self, _: Context, request: ScanRequest) -> Result<ScanPage, KvError> {
        let mut state = self.0.lock().unwrap();
        if request.cursor.is_some() && state.expired_pages > 0 {
            state.expired_pages -= 1;
            return Err(KvError::SnapshotExpired);
        }
        let from = request.cursor.map_or(request.from, |cursor| cursor.from);
        let mut page = ScanPage::default();
        let mut bytes = 0;
        for (key, (revision, value)) in state.map.range(from..) {
            if request.to.as_ref().is_some_and(|to| key >= to) {
                break;
            }
            let item = Item {
                key: key.clone(),
                revision: *revision,
                value_bytes: value.len() as u64,
                value: (!request.keys_only).then(|| value.clone()),
                expires_at: None,
            };
            bytes += item.page_bytes();
            let full = request.limit != 0 && page.items.len() >= request.limit as usize;
            if full || bytes > u64::from(state.limits.page_bytes_max) && !page.items.is_empty() {
                page.next = Some(Cursor { snapshot: 1, from: key.clone() });
                break;
            }
            page.items.push(item);
        }
        Ok(page)
    }
}

impl Admin for Services {
    async fn cluster_status(self, _: Context) -> Result<ClusterStatus, KvError> {
        let leaderless = self.0.lock().unwrap().leaderless;
        let role = if leaderless { Role::Candidate } else { Role::Leader };
        let addr = "127.0.0.1:7400".into();
        let node = NodeStatus {
            id: 1,
            addr,
            role,
            term: 2,
            first_log: 3,
            last_log: 9,
            committed: 8,
            applied: 7,
            flushed: 6,
            log_time: 1_700_000_000,
        };
        let leader_id = (!leaderless).then_some(1);
        Ok(ClusterStatus { cluster_id: "07".repeat(16), leader_id, nodes: vec![node] })
    }

    async fn segments(self, _: Context) -> Result<Vec<SegmentStatus>, KvError> {
        let (first_index, last_index) = (Some(1), None);
        let (bytes, live_bytes, sealed, moved) = (1000, 250, true, false);
        let (segment, file) = (17, 93);
        Ok(vec![SegmentStatus {
            segment,
            file,
            bytes,
            live_bytes,
            free: false,
            sealed,
            moved,
            first_index,
            last_index,
        }])
    }

    async fn verify(self, _: Context) -> Result<VerifyReport, KvError> {
        let damages = self.0.lock().unwrap().damages.clone();
        Ok(VerifyReport { segments: 2, records: 30, bytes: 4000, damages })
    }

    async fn transfer_leader(self, _: Context, _to: u64) -> Result<(), KvError> {
        Ok(())
    }

    async fn flush(self, _: Context) -> Result<(), KvError> {
        Ok(())
    }

    async fn gc_status(self, _: Context, any_garbage: bool) -> Result<GcStatus, KvError> {
        let why = "below ratio".to_owned();
        let (segments, age_ms) = (vec![17, 18], Some(2_000));
        let (bytes, live_bytes, live_values) = (1000, 250, 3);
        let owner = 17;
        let file = GcFile {
            file: 93,
            owner,
            segments,
            bytes,
            live_bytes,
            live_values,
            age_ms,
            chosen: any_garbage,
            why,
        };
        let plan = any_garbage.then(gc_plan);
        let paused = self.0.lock().unwrap().gc_paused;
        let pins = vec![GcPin { by: "exports or transfers".to_owned(), count: 1 }];
        let held = GcHeld { file: 90, segments: vec![16, 18], bytes: 400, pins: pins.clone() };
        let (files, held) = (vec![file], vec![held]);
        Ok(GcStatus { paused, plan, files, held, pins, snapshots: 2, ..GcStatus::default() })
    }

    async fn gc_run(self, _: Context) -> Result<Vec<GcRun>, KvError> {
        let done =
            GcTotals { runs: 1, files: 1, written_bytes: 251, freed_bytes: 1000, ..GcTotals::default() };
        Ok(vec![GcRun { plan: gc_plan(), done }])
    }

    async fn gc_pause(self, _: Context, paused: bool) -> Result<(), KvError> {
        self.0.lock().unwrap().gc_paused = paused;
        Ok(())
    }

    async fn stats(self, _: Context) -> Result<Stats, KvError> {
        let waits = vec![Waits { below_micros: 1024, count: 3 }];
        Ok(Stats {
            node_id: 1,
            levels: vec![Level { tables: 4, entries: 77, ..Level::default() }],
            disk: Disk { bytes: 3000, needed_bytes: 2000, amplification: Some(1.5) },
            stalls: Stalls { slowed: 3, waits, ..Stalls::default() },
            ..Stats::default()
        })
    }

    async fn compact(self, _: Context, from: Bytes, to: Option<Bytes>) -> Result<CompactReport, KvError> {
        self.0.lock().unwrap().compacted.push((from, to));
        let before = TableSum { tables: 3, bytes: 300, entries: 30 };
        Ok(CompactReport { node_id: 1, before, after: TableSum { tables: 1, bytes: 100, entries: 10 } })
    }

    async fn checkpoint(self, _: Context, dir: String) -> Result<CheckpointReport, KvError> {
        match dir.as_str() {
            "/late" => Err(KvError::Unknown("the node ended".into())),
            "/full" => Err(KvError::Failed("no room on the disk".into())),
            _ => Ok(CheckpointReport { node_id: 1, dir, files: 5, bytes: 600 }),
        }
    }

    async fn verify_tables(self, _: Context) -> Result<TablesReport, KvError> {
        let damages = self.0.lock().unwrap().table_damages.clone();
        Ok(TablesReport { tables: 4, bytes: 500, damages })
    }
}

fn gc_plan() -> GcPlan {
    GcPlan {
        files: vec![93],
        written_bytes: 250,
        freed_bytes: 1000,
        reclaimed_bytes: 750,
        ..GcPlan::default()
    }
}
