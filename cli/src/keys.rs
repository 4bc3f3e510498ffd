//! Walks over all keys with a prefix, however long that takes.

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use kv_client::{Client, Error, Item, Scan};

/// All keys with a prefix in order, without their values.
///
/// A long walk outlives the server's snapshot; it then goes on behind the last key in a new one. So every
/// key that is there all the time is met exactly once; of others, nothing is promised.
pub fn with_prefix(client: &Client, prefix: Bytes) -> impl Stream<Item = Result<Item, Error>> + '_ {
    unimplemented!()
}

/// Whether no key has this prefix.
///
/// # Errors
/// The cluster refuses.
pub async fn none_with_prefix(client: &Client, prefix: Bytes) -> Result<bool, Error> {
    let mut items = std::pin::pin!(client.scan(Scan::prefix(prefix).keys_only(true).limit(1)));
    Ok(items.next().await.transpose()?.is_none())
}
