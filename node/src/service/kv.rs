//! The `Kv` service.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_api::kv::{
    Consistency, Cursor, Expect, GetReply, GetRequest, Item, Kv, Revision, ScanPage, ScanRequest, WriteOp,
    WriteReply, WriteRequest,
};
use kv_api::limits::check_ttl;
use kv_api::transport::run_to_end;
use kv_api::{KvError, Limit, Limits};
use kv_lsm::{Applied, ScanRange, Snapshot};
use kv_vlog::{Compression, Expiry, LogTime, Op, OpValue, StoredValue};
use tarpc::context::Context;

use super::{Shared, to_wire};

/// Compressing and checksumming more than this many bytes is done off the reactor.
const INLINE_BYTES_MAX: u64 = 256 << 10;

/// See [`Kv`].
#[derive(Clone, Debug)]
pub struct KvService(pub Arc<Shared>);

impl Kv for KvService {
    async fn get(self, _: Context, request: GetRequest) -> Result<Option<GetReply>, KvError> {
        let shared = self.0;
        check_key(&shared.limits, &request.key)?;
        barrier(&shared, request.consistency).await?;
        let found = shared
            .blocking(move |shared| {
                let range = request.range.map(|r| r.offset..r.offset.saturating_add(r.length));
                match request.at_revision {
                    None => shared.store.get(&request.key, range),
                    Some(revision) => shared.store.snapshot_at(revision)?.get(&request.key, range),
                }
            })
            .await?;
        Ok(found.map(|found| GetReply {
            value: found.value,
            revision: found.revision,
            value_bytes: found.value_bytes,
            expires_at: expires_at(found.expires),
        }))
    }

    async fn write(self, _: Context, request: WriteRequest) -> Result<WriteReply, KvError> {
        let shared = self.0;
        check_write(&shared.limits, &request)?;
        if request.ops.iter().any(|op| op.value().is_some()) {
            shared.disk.check(request.payload_bytes())?;
        }
        // To its end, whether or not the caller waits: half of a write must not be abandoned.
        run_to_end(async move {
            let compression = shared.store.options().compression;
            let lives = request.ops.iter().any(|op| op.ttl_ms().is_some());
            let now = if lives { shared.raft.log_time().await? } else { 0 };
            let ops = if request.payload_bytes() > INLINE_BYTES_MAX {
                crate::blocking::run(move || to_ops(request, now, &compression))
                    .await
                    .map_err(|e| KvError::Unavailable(format!("the write was not begun: {e}")))?
            } else {
                to_ops(request, now, &compression)
            };
            Ok(match shared.raft.write(ops).await? {
                Applied::Done { revision } => WriteReply::Done { revision },
                Applied::Refused { check, current } => WriteReply::Refused { check, current },
                Applied::Nothing => WriteReply::Done { revision: 0 },
            })
        })
        .await
    }

    async fn scan(self, _: Context, request: ScanRequest) -> Result<ScanPage, KvError> {
        let shared = self.0;
        check_key(&shared.limits, &request.from)
            .or_else(|e| if request.from.is_empty() { Ok(()) } else { Err(e) })?;
        let (snapshot, from) = match &request.cursor {
            Some(cursor) => (shared.scans.take(cursor.snapshot)?, cursor.from.clone()),
            None => {
                barrier(&shared, request.consistency).await?;
                (Arc::new(snapshot(&shared, request.at_revision)?), request.from.clone())
            }
        };
        let pinned = snapshot.clone();
        let (items, next) = shared.blocking(move |shared| page(shared, &snapshot, from, &request)).await?;
        let next = match next {
            Some(from) => Some(Cursor { snapshot: shared.scans.keep(pinned)?, from }),
            None => None,
        };
        Ok(ScanPage { items, next })
    }
}

/// What a scan reads.
fn snapshot(shared: &Shared, at: Option<Revision>) -> Result<Snapshot, KvError> {
    match at {
        None => Ok(shared.store.snapshot()),
        Some(revision) => shared.store.snapshot_at(revision).map_err(|error| to_wire(&error)),
    }
}

fn expires_at(expires: Expiry) -> Option<u64> {
    expires.time().map(u64::from)
}

async fn barrier(shared: &Shared, consistency: Consistency) -> Result<(), KvError> {
    match consistency {
        Consistency::Linearizable => shared.raft.read_barrier().await,
        Consistency::Stale => shared.raft.wait_recovered().await,
    }
}

/// Items until the page is full, and the key that the next page begins with.
fn page(
    shared: &Shared,
    snapshot: &Snapshot,
    from: Bytes,
    request: &ScanRequest,
) -> Result<(Vec<Item>, Option<Bytes>), kv_lsm::StoreError> {
    let most = if request.limit == 0 { usize::MAX } else { request.limit as usize };
    let room = u64::from(shared.limits.page_bytes_max);
    let (mut items, mut bytes) = (Vec::new(), 0);
    for found in snapshot.scan(ScanRange { from, to: request.to.clone() })? {
        let found = found?;
        let value_bytes = found.slot.value_bytes();
        let mut item = Item {
            key: found.key,
            revision: found.revision,
            value_bytes,
            value: None,
            expires_at: expires_at(found.slot.expires()),
        };
        let with_value = item.page_bytes() + if request.keys_only { 0 } else { value_bytes };
        if items.len() >= most || (bytes + with_value > room && !items.is_empty()) {
            return Ok((items, Some(item.key)));
        }
        if !request.keys_only {
            item.value = Some(shared.store.value(&item.key, item.revision, &found.slot, None)?.value);
        }
        bytes += with_value;
        items.push(item);
    }
    Ok((items, None))
}

/// What is replicated. Times to live count from `now` on, which nobody asks for where there are none.
fn to_ops(request: WriteRequest, now: LogTime, compression: &Compression) -> Vec<Op> {
    let checks = request.checks.into_iter().map(|check| Op::Check {
        key: check.key,
        expect: match check.expect {
            Expect::Absent => kv_vlog::Expect::Absent,
            Expect::Revision(revision) => kv_vlog::Expect::Seq(revision),
        },
    });
    let changes = request.ops.into_iter().map(|op| match op {
        WriteOp::Put { key, value, ttl_ms } => {
            let expires = ttl_ms.map_or(Expiry::NEVER, |ms| Expiry::after(now, Duration::from_millis(ms)));
            let value = OpValue::Full(StoredValue::expiring(&key, value, compression, expires));
            Op::Put { key, value }
        }
        WriteOp::Delete { key } => Op::Delete { key },
    });
    checks.chain(changes).collect()
}

fn too_large(limit: Limit, max: u32, actual: u64) -> Result<(), KvError> {
    let max = u64::from(max);
    if actual > max { Err(KvError::TooLarge { limit, max, actual }) } else { Ok(()) }
}

fn check_key(limits: &Limits, key: &[u8]) -> Result<(), KvError> {
    if key.is_empty() {
        return Err(KvError::Invalid("a key must not be empty".into()));
    }
    too_large(Limit::Key, limits.key_bytes_max, key.len() as u64)
}

fn check_write(limits: &Limits, request: &WriteRequest) -> Result<(), KvError> {
    if request.ops.is_empty() {
        return Err(KvError::Invalid("a write must hold at least one put or delete".into()));
    }
    too_large(Limit::BatchOps, limits.batch_ops_max, request.ops_count())?;
    for key in request.checks.iter().map(|check| &check.key).chain(request.ops.iter().map(WriteOp::key)) {
        check_key(limits, key)?;
    }
    for value in request.ops.iter().filter_map(WriteOp::value) {
        too_large(Limit::Value, limits.value_bytes_max, value.len() as u64)?;
    }
    request.ops.iter().try_for_each(|op| check_ttl(op.ttl_ms()))?;
    too_large(Limit::BatchBytes, limits.batch_bytes_max, request.payload_bytes())
}
