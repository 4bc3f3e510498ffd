//! The `Admin` service.

use std::sync::Arc;

use bytes::Bytes;
use kv_api::KvError;
use kv_api::admin::{
    Admin, CheckpointReport, ClusterStatus, CompactReport, GcRun, GcStatus, SegmentStatus, TablesReport,
    VerifyReport,
};
use kv_api::stats::Stats;
use kv_lsm::ScanRange;
use tarpc::context::Context;

use super::{Shared, gc, stats, upkeep};

/// See [`Admin`].
#[derive(Clone, Debug)]
pub struct AdminService(pub Arc<Shared>);

impl Admin for AdminService {
    async fn cluster_status(self, _: Context) -> Result<ClusterStatus, KvError> {
        let cluster_id = self.0.raft.cluster_id();
        Ok(ClusterStatus {
            cluster_id: cluster_id.iter().map(|byte| format!("{byte:02x}")).collect(),
            leader_id: self.0.raft.leader(),
            nodes: self.0.raft.all_status().await,
        })
    }

    async fn segments(self, _: Context) -> Result<Vec<SegmentStatus>, KvError> {
        let lines = self.0.blocking(|shared| shared.store.segments()).await?;
        let line = |line: kv_lsm::SegmentLine| SegmentStatus {
            segment: line.segment,
            file: line.file,
            bytes: line.bytes,
            live_bytes: line.live_bytes,
            free: line.free,
            sealed: line.sealed,
            moved: line.moved,
            first_index: line.indexes.map(|indexes| indexes.0),
            last_index: line.indexes.map(|indexes| indexes.1),
        };
        Ok(lines.into_iter().map(line).collect())
    }

    async fn verify(self, _: Context) -> Result<VerifyReport, KvError> {
        self.0
            .blocking(|shared| {
                let mut report = VerifyReport::default();
                for segment in shared.store.state().segments.values().filter(|segment| !segment.remapped) {
                    report.segments += 1;
                    match shared.store.verify_segment(segment) {
                        Ok(verified) => {
                            report.records += verified.records;
                            report.bytes += verified.bytes;
                        }
                        Err(error) => report.damages.push(error.to_string()),
                    }
                }
                Ok(report)
            })
            .await
    }

    async fn transfer_leader(self, _: Context, to: u64) -> Result<(), KvError> {
        self.0.raft.transfer_leader(to).await
    }

    async fn flush(self, _: Context) -> Result<(), KvError> {
        upkeep::flush(self.0).await
    }

    async fn gc_status(self, _: Context, any_garbage: bool) -> Result<GcStatus, KvError> {
        self.0.blocking(move |shared| gc::status(&shared.store, any_garbage)).await
    }

    async fn gc_run(self, _: Context) -> Result<Vec<GcRun>, KvError> {
        let runs = self.0.blocking(|shared| shared.store.gc_run()).await?;
        Ok(runs.into_iter().map(gc::run).collect())
    }

    async fn gc_pause(self, _: Context, paused: bool) -> Result<(), KvError> {
        let store = &self.0.store;
        if paused {
            store.gc_pause()
        } else {
            store.gc_resume()
        }
        Ok(())
    }

    async fn stats(self, _: Context) -> Result<Stats, KvError> {
        self.0.blocking(|shared| Ok(stats::of(shared.raft.id(), &shared.store.stats()?))).await
    }

    async fn compact(self, _: Context, from: Bytes, to: Option<Bytes>) -> Result<CompactReport, KvError> {
        upkeep::compact(self.0, ScanRange { from, to }).await
    }

    async fn checkpoint(self, _: Context, dir: String) -> Result<CheckpointReport, KvError> {
        upkeep::checkpoint(self.0, dir).await
    }

    async fn verify_tables(self, _: Context) -> Result<TablesReport, KvError> {
        upkeep::verify_tables(self.0).await
    }
}
