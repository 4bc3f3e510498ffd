//! `delete`: one key, or all keys with a prefix.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use kv_client::{Batch, Client, Scan};
use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::{args, bytes_text, connect};

/// Most keys in a batch.
const KEYS_MAX: usize = 1000;

#[derive(Serialize)]
struct Deleted {
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<u64>,
}

/// Runs the command.
///
/// # Errors
/// The cluster refuses, or `--yes` is missing.
pub async fn run(args: args::Delete, context: &mut Context) -> Result<Exit, Failure> {
    if let Some(prefix) = args.prefix {
        return delete_prefix(prefix.0.into(), args.yes, context).await;
    }
    let client = connect::client(&context.global)?;
    let key = args.key.map(|key| key.0).unwrap_or_default();
    let revision = client.delete(Bytes::from(key)).await?;
    if context.out.is_json() {
        context.out.json(&Deleted { revision: Some(revision), deleted: None })?;
    }
    Ok(Exit::Ok)
}

async fn delete_prefix(prefix: Bytes, yes: bool, context: &mut Context) -> Result<Exit, Failure> {
    // Deleting a key again is harmless, so writes may be repeated.
    let client = connect::repeating_client(&context.global)?;
    if !yes {
        let keys = count(&client, prefix.clone()).await?;
        return Err(Failure::new(
            Exit::Refused,
            format!("{keys} keys begin with '{}'; add --yes to delete them", bytes_text::format(&prefix)),
        ));
    }
    let deleted = delete_all(&client, prefix).await?;
    if context.out.is_json() {
        context.out.json(&Deleted { revision: None, deleted: Some(deleted) })?;
    } else {
        context.out.line(&format!("deleted {deleted} keys"))?;
    }
    Ok(Exit::Ok)
}

async fn count(client: &Client, prefix: Bytes) -> Result<u64, Failure> {
    let items = client.scan(Scan::prefix(prefix).keys_only(true));
    Ok(items.try_fold(0, |count, _| std::future::ready(Ok(count + 1))).await?)
}

async fn delete_all(client: &Client, prefix: Bytes) -> Result<u64, Failure> {
    let items = client.scan(Scan::prefix(prefix).keys_only(true));
    let mut chunks = std::pin::pin!(items.map_ok(|item| item.key).try_chunks(KEYS_MAX));
    let mut deleted = 0;
    while let Some(keys) = chunks.next().await {
        let keys = keys.map_err(|error| error.1)?;
        deleted += keys.len() as u64;
        client.write(keys.into_iter().fold(Batch::new(), Batch::delete)).await?;
    }
    Ok(deleted)
}
