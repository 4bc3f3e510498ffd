//! The `Admin` service.

use std::sync::Arc;

use kv_api::KvError;
use kv_api::admin::{Admin, ClusterStatus, NodeStatus, Role, SegmentStatus, VerifyReport};
use tarpc::context::Context;

use super::Shared;

/// See [`Admin`].
#[derive(Clone, Debug)]
pub struct AdminService(pub Arc<Shared>);

impl Admin for AdminService {
    async fn cluster_status(self, _: Context) -> Result<ClusterStatus, KvError> {
        // Off the reactor: the manifest may be waiting for the disk.
        self.0.blocking(|shared| Ok(cluster_status(shared))).await
    }

    async fn segments(self, _: Context) -> Result<Vec<SegmentStatus>, KvError> {
        let lines = self.0.blocking(|shared| shared.store.segments()).await?;
        let line = |line: kv_lsm::SegmentLine| SegmentStatus {
            segment: line.segment,
            file: line.file,
            bytes: line.bytes,
            live_bytes: line.live_bytes,
            sealed: line.sealed,
            first_index: line.indexes.map(|indexes| indexes.0),
            last_index: line.indexes.map(|indexes| indexes.1),
        };
        Ok(lines.into_iter().map(line).collect())
    }

    async fn verify(self, _: Context) -> Result<VerifyReport, KvError> {
        self.0
            .blocking(|shared| {
                let mut report = VerifyReport::default();
                for segment in shared.store.state().segments.values() {
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

    async fn flush(self, _: Context) -> Result<(), KvError> {
        self.0.blocking(|shared| shared.store.flush()).await
    }
}

fn cluster_status(shared: &Shared) -> ClusterStatus {
    let status = shared.raft.status();
    let state = shared.store.state();
    let own = NodeStatus {
        id: state.identity.node_id,
        addr: status.members.get(&state.identity.node_id).cloned().unwrap_or_default(),
        role: status.role,
        term: status.term,
        last_log: status.last_log,
        committed: shared.store.log().committed_next().saturating_sub(1),
        applied: shared.store.applied().map_or(0, |at| at.index),
        flushed: state.flushed.as_ref().map_or(0, |at| at.index),
    };
    // This version runs one node; what it knows of others is that they are not there.
    let others = status.members.iter().filter(|(id, _)| **id != own.id).map(|(id, addr)| NodeStatus {
        id: *id,
        addr: addr.clone(),
        role: Role::Down,
        term: 0,
        last_log: 0,
        committed: 0,
        applied: 0,
        flushed: 0,
    });
    let cluster_id = state.identity.cluster_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let nodes = std::iter::once(own.clone()).chain(others).collect();
    ClusterStatus { cluster_id, leader_id: status.leader, nodes }
}
