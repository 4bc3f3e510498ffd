//! Ranges of keys, walks over them however long they take, and deleting many.

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use kv_client::{Batch, Client, Error, Item, Limits, Scan};

/// Most keys deleted by one batch.
const DELETES_MAX: u64 = 1000;

/// A range of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// First key, inclusive.
    from: Vec<u8>,
    /// End, exclusive; `None`: to the last key.
    to: Option<Vec<u8>>,
}

impl Range {
    /// All keys with a prefix.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { from: prefix.to_vec(), to: after_prefix(prefix) }
    }

    /// Those of them from `from` on and before `to`.
    pub fn and(self, from: Option<Vec<u8>>, to: Option<Vec<u8>>) -> Self {
        let to = match (self.to, to) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { from: self.from.max(from.unwrap_or_default()), to }
    }

    /// Its first key and its end; `None`: no key can be in it.
    pub fn bounds(self) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        match self.to {
            Some(to) if to <= self.from => None,
            to => Some((self.from, to)),
        }
    }

    /// The scan of the range; `None`: no key can be in it.
    pub fn scan(self) -> Option<Scan> {
        self.bounds().map(|(from, to)| match to {
            Some(to) => Scan::range(from..to),
            None => Scan::range(from..),
        })
    }
}

/// The first key after all those with this prefix; `None`: there is none.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let (last, head) = prefix.split_last()?;
    match last.checked_add(1) {
        Some(next) => Some([head, &[next]].concat()),
        None => after_prefix(head),
    }
}

/// A walk over keys that outlives the snapshots it reads from.
struct Walk {
    client: Client,
    range: Range,
    items: BoxStream<'static, Result<Item, Error>>,
    /// Whether a key came since the last new beginning.
    moved: bool,
}

/// All keys of a range in order, without their values.
///
/// A long walk may outlive the node's snapshot, or the node; it then goes on behind the last key in a new
/// snapshot. So each key that is there all the time is met exactly once; of others, nothing is promised.
pub fn walk(client: &Client, range: Range) -> impl Stream<Item = Result<Item, Error>> + use<> {
    let items = scan(client, &range);
    let walk = Walk { client: client.clone(), range, items, moved: false };
    stream::try_unfold(walk, |mut walk| async move { Ok(walk.next().await?.map(|item| (item, walk))) })
}

fn scan(client: &Client, range: &Range) -> BoxStream<'static, Result<Item, Error>> {
    match range.clone().scan() {
        Some(scan) => client.scan(scan.keys_only()),
        None => stream::empty().boxed(),
    }
}

impl Walk {
    async fn next(&mut self) -> Result<Option<Item>, Error> {
        loop {
            match self.items.next().await.transpose() {
                Ok(item) => {
                    if let Some(item) = &item {
                        // The first key behind it.
                        self.range.from = [&item.key[..], &[0]].concat();
                        self.moved = true;
                    }
                    return Ok(item);
                }
                Err(error) if self.moved && is_passing(&error) => {
                    self.items = scan(&self.client, &self.range);
                    self.moved = false;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether another node, or the same one in a new snapshot, may well go on.
fn is_passing(error: &Error) -> bool {
    matches!(error, Error::SnapshotExpired | Error::Unreachable { .. } | Error::Deadline { .. })
}

/// Whether no key has this prefix.
///
/// # Errors
/// The cluster refuses.
pub async fn none_with_prefix(client: &Client, prefix: &[u8]) -> Result<bool, Error> {
    let mut items = client.scan(Scan::prefix(prefix.to_vec()).keys_only().limit(1));
    Ok(items.try_next().await?.is_none())
}

/// Deletes keys, many with each write; returns how many.
///
/// # Errors
/// The cluster refuses, or a key cannot be had.
pub async fn delete(
    client: &Client,
    limits: &Limits,
    keys: impl Stream<Item = Result<Bytes, Error>>,
) -> Result<u64, Error> {
    let mut keys = std::pin::pin!(keys);
    let mut batch = Batch::new();
    let mut deleted = 0;
    while let Some(key) = keys.try_next().await? {
        if batch.ops_count() >= DELETES_MAX || !has_room(&batch, &key, limits) {
            client.write(std::mem::take(&mut batch)).await?;
        }
        batch.push_delete(key);
        deleted += 1;
    }
    if !batch.is_empty() {
        client.write(batch).await?;
    }
    Ok(deleted)
}

/// Whether a batch may delete one more key.
pub fn has_room(batch: &Batch, key: &[u8], limits: &Limits) -> bool {
    batch.ops_count() < u64::from(limits.batch_ops_max)
        && batch.payload_bytes() + key.len() as u64 <= u64::from(limits.batch_bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: &str, to: Option<&str>) -> Range {
        Range { from: from.into(), to: to.map(Into::into) }
    }

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xff"), None);
        assert_eq!(after_prefix(b""), None);
    }

    #[test]
    fn bounds_narrow_a_prefix_and_never_widen_it() {
        let b = || Range::prefix(b"b");
        let bytes = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(b().and(None, None), range("b", Some("c")));
        assert_eq!(b().and(bytes("a"), bytes("z")), range("b", Some("c")));
        assert_eq!(b().and(bytes("b5"), bytes("b7")), range("b5", Some("b7")));
        assert_eq!(Range::prefix(b"").and(bytes("x"), None), range("x", None));
        assert_eq!(Range::prefix(b"\xff").and(None, bytes("z")).scan(), None);
        assert_eq!(b().and(bytes("c"), None).scan(), None);
        assert_eq!(range("a", Some("b")).scan(), Some(Scan::range("a".."b")));
        assert_eq!(range("a", None).scan(), Some(Scan::range("a"..)));
    }

    #[test]
    fn a_batch_has_room_up_to_its_limits() {
        let limits = Limits { batch_ops_max: 2, batch_bytes_max: 10, ..Limits::default() };
        let batch = Batch::new().delete("12345");
        assert!(has_room(&batch, b"12345", &limits));
        assert!(!has_room(&batch, b"123456", &limits));
        assert!(!has_room(&batch.delete("1"), b"", &limits));
    }
}
