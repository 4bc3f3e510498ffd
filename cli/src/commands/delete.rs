//! `delete`: one key, or all keys with a prefix.

use bytes::Bytes;
use futures::TryStreamExt as _;
use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::keys::{self, Range};
use crate::{args, bytes_text, connect};

#[derive(Serialize)]
struct Deleted {
    /// Of one key: version of the removal.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    /// Of a prefix: how many keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<u64>,
}

/// Runs the command. Deleting what is not there is no error.
///
/// # Errors
/// The cluster refuses, or `--yes` is missing.
pub async fn run(args: args::Delete, context: &mut Context) -> Result<Exit, Failure> {
    match (args.key, args.prefix) {
        (Some(key), _) => delete_key(key.0.into(), context).await,
        (None, prefix) => {
            delete_prefix(&prefix.map(|prefix| prefix.0).unwrap_or_default(), args.yes, context).await
        }
    }
}

async fn delete_key(key: Bytes, context: &mut Context) -> Result<Exit, Failure> {
    let revision = connect::client(&context.global)?.delete(key).await?;
    if context.out.is_json() {
        context.out.json(&Deleted { revision: Some(revision), deleted: None })?;
    } else {
        context.out.line(&revision.to_string())?;
    }
    Ok(Exit::Ok)
}

async fn delete_prefix(prefix: &[u8], yes: bool, context: &mut Context) -> Result<Exit, Failure> {
    let client = connect::repeating_client(&context.global)?;
    let found = keys::walk(&client, Range::prefix(prefix)).map_ok(|item| item.key);
    if !yes {
        let keys = found.try_fold(0_u64, |count, _| std::future::ready(Ok(count + 1))).await?;
        let message =
            format!("{keys} keys begin with '{}'; add --yes to delete them", bytes_text::format(prefix));
        return Err(Failure::new(Exit::Refused, message));
    }
    let limits = client.limits().await?;
    let deleted = keys::delete(&client, &limits, found).await?;
    if context.out.is_json() {
        context.out.json(&Deleted { revision: None, deleted: Some(deleted) })?;
    } else {
        context.out.line(&format!("deleted {deleted} keys"))?;
    }
    Ok(Exit::Ok)
}
