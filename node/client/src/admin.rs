//! The calls of an operator.

use std::sync::Arc;

use bytes::Bytes;
use kv_api::admin::{
    AdminRequest, AdminResponse, CheckpointReport, ClusterStatus, CompactReport, GcRun, GcStatus,
    SegmentStatus, TablesReport, VerifyReport,
};
use kv_api::stats::Stats;

use crate::{
    Client, Error,
    client::mismatch,
    endpoints::{Endpoint, Route},
    retry::{Failure, Repeat},
};

/// What an operator asks a node; see [`Client::admin`]. All of it may be repeated but [`Admin::checkpoint`].
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
    node: Option<String>,
}

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, node: None }
    }

    /// Asks this node (`host:port`) only. Otherwise: any configured one.
    #[must_use]
    pub fn on(self, node: impl Into<String>) -> Self {
        Self { node: Some(node.into()), ..self }
    }

    /// The cluster as the node sees it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cluster_status(&self) -> Result<ClusterStatus, Error> {
        let ask = || AdminRequest::ClusterStatus {};
        self.call(ask, |response| match response {
            AdminResponse::ClusterStatus(status) => Some(status),
            _ => None,
        })
        .await
    }

    /// Segments of the node.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn segments(&self) -> Result<Vec<SegmentStatus>, Error> {
        let ask = || AdminRequest::Segments {};
        self.call(ask, |response| match response {
            AdminResponse::Segments(segments) => Some(segments),
            _ => None,
        })
        .await
    }

    /// Reads and checks every record of every segment of the node. Takes its time: see [`Client::with_deadline`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn verify(&self) -> Result<VerifyReport, Error> {
        let ask = || AdminRequest::Verify {};
        self.call(ask, |response| match response {
            AdminResponse::Verify(report) => Some(report),
            _ => None,
        })
        .await
    }

    /// Has another node lead; returns once it does.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn transfer_leader(&self, to: u64) -> Result<(), Error> {
        let ask = move || AdminRequest::TransferLeader { to };
        // Only the leader can hand over.
        self.call_on(&Route::Leader, ask, |response| match response {
            AdminResponse::TransferLeader(done) => Some(done),
            _ => None,
        })
        .await
    }

    /// Writes the memtable of the node out as a table now.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn flush(&self) -> Result<(), Error> {
        let ask = || AdminRequest::Flush {};
        self.call(ask, |response| match response {
            AdminResponse::Flush(done) => Some(done),
            _ => None,
        })
        .await
    }

    /// What value GC would do, and why not more; with `any_garbage`, if any garbage had to go.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn gc_status(&self, any_garbage: bool) -> Result<GcStatus, Error> {
        let ask = move || AdminRequest::GcStatus { any_garbage };
        self.call(ask, |response| match response {
            AdminResponse::GcStatus(status) => Some(status),
            _ => None,
        })
        .await
    }

    /// Has the node collect any garbage now, until nothing is gained. Takes its time: see [`Client::with_deadline`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn gc_run(&self) -> Result<Vec<GcRun>, Error> {
        let ask = || AdminRequest::GcRun {};
        self.call(ask, |response| match response {
            AdminResponse::GcRun(runs) => Some(runs),
            _ => None,
        })
        .await
    }

    /// Has value GC not run by itself, or run again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn gc_pause(&self, paused: bool) -> Result<(), Error> {
        let ask = move || AdminRequest::GcPause { paused };
        self.call(ask, |response| match response {
            AdminResponse::GcPause(done) => Some(done),
            _ => None,
        })
        .await
    }

    /// Sizes and counters of the node's store.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stats(&self) -> Result<Stats, Error> {
        let ask = || AdminRequest::Stats {};
        self.call(ask, |response| match response {
            AdminResponse::Stats(stats) => Some(stats),
            _ => None,
        })
        .await
    }

    /// Has the node compact its tables in a range of keys, `to` exclusive, down to one level. Takes its time: see
    /// [`Client::with_deadline`]; the node goes on when the deadline has passed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn compact(&self, from: Bytes, to: Option<Bytes>) -> Result<CompactReport, Error> {
        let ask = || AdminRequest::Compact { from: from.clone(), to: to.clone() };
        self.call(ask, |response| match response {
            AdminResponse::Compact(report) => Some(report),
            _ => None,
        })
        .await
    }

    /// Has the node make a copy of its store in a new directory on its machine: an absolute path, on the file system of the
    /// data directory and outside it. Takes its time: see [`Client::with_deadline`]; the node goes on when the deadline
    /// has passed. Not repeated where an answer was lost, because the second time the directory would be there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn checkpoint(&self, dir: &str) -> Result<CheckpointReport, Error> {
        let ask = || AdminRequest::Checkpoint { dir: dir.to_owned() };
        let route = self.route();
        self.ask(&route, Repeat::WriteOnce, ask, |response| match response {
            AdminResponse::Checkpoint(report) => Some(report),
            _ => None,
        })
        .await
    }

    /// Reads and checks every block of every table of the node. Takes its time: see [`Client::with_deadline`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn verify_tables(&self) -> Result<TablesReport, Error> {
        let ask = || AdminRequest::VerifyTables {};
        self.call(ask, |response| match response {
            AdminResponse::VerifyTables(report) => Some(report),
            _ => None,
        })
        .await
    }

    fn route(&self) -> Route {
        self.node.clone().map_or(Route::Any, Route::Only)
    }

    async fn call<T>(
        &self,
        ask: impl Fn() -> AdminRequest,
        take: impl Fn(AdminResponse) -> Option<Result<T, kv_api::KvError>>,
    ) -> Result<T, Error> {
        self.call_on(&self.route(), ask, take).await
    }

    async fn call_on<T>(
        &self,
        route: &Route,
        ask: impl Fn() -> AdminRequest,
        take: impl Fn(AdminResponse) -> Option<Result<T, kv_api::KvError>>,
    ) -> Result<T, Error> {
        self.ask(route, Repeat::Read, ask, take).await
    }

    async fn ask<T>(
        &self,
        route: &Route,
        repeat: Repeat,
        ask: impl Fn() -> AdminRequest,
        take: impl Fn(AdminResponse) -> Option<Result<T, kv_api::KvError>>,
    ) -> Result<T, Error> {
        let until = self.client.until();
        let core = self.client.core();
        let attempt = async |endpoint: Arc<Endpoint>| {
            let live = core.connect_admin(&endpoint, until).await?;
            let response = live.call(ask(), until).await?;
            Ok::<T, Failure>(take(response).ok_or_else(|| mismatch(&live.endpoint))??)
        };
        core.run(route, repeat, until, attempt).await
    }
}
