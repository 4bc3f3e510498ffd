//! Sending the state of this node to a follower that needs entries which the log does not hold any more.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kv_lsm::{Export, ExportRecord, StoreError};

use super::Line;
use super::wire::{SnapshotBegun, SnapshotHead, SnapshotPage, WireVote};

/// Bytes of records in a page. Two pages are in memory for each follower: one on its way, the next one.
const PAGE_BYTES: usize = 1 << 20;
/// How long the follower may take to write a page: a slow disk is no dead node.
const PAGE_DEADLINE: Duration = Duration::from_secs(10);
/// How long it may take to make everything durable.
const END_DEADLINE: Duration = Duration::from_secs(60);

/// Sends the state; returns the vote that the follower has then.
pub(super) async fn send(line: &Line, head: SnapshotHead, export: Arc<Export>) -> Result<WireVote, String> {
    let begun =
        line.call(PAGE_DEADLINE, |peer, context| async move { peer.begin_snapshot(context, head).await });
    let transfer = match begun.await?? {
        SnapshotBegun::Transfer(transfer) => transfer,
        SnapshotBegun::HigherVote(vote) => return Ok(vote),
    };
    let mut number = 0;
    let mut records = page(export.clone(), None).await?;
    while let Some(last) = records.last() {
        let after = Some(last.key.clone());
        let records_now = std::mem::take(&mut records).into_iter().map(Into::into).collect();
        let request = SnapshotPage { transfer, number, records: records_now };
        // The next page is read while this one is on its way.
        let sent = line
            .call(PAGE_DEADLINE, |peer, context| async move { peer.snapshot_page(context, request).await });
        let (sent, next) = tokio::join!(sent, page(export.clone(), after));
        sent??;
        records = next?;
        number += 1;
    }
    line.call(END_DEADLINE, |peer, context| async move { peer.end_snapshot(context, transfer, number).await })
        .await?
}

async fn page(export: Arc<Export>, after: Option<bytes::Bytes>) -> Result<Vec<ExportRecord>, String> {
    let reading = crate::blocking::run(move || export.page(after.as_ref(), PAGE_BYTES));
    let read: io::Result<Result<_, StoreError>> = reading.await.map_err(io::Error::other);
    read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}
