//! Reading keys in order.

use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use kv_api::kv::{Cursor, Item, Revision, ScanPage, ScanRequest};
use tokio::task::JoinSet;

use crate::{Client, Error};

/// Which keys a [`Client::scan`] reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    from: Bytes,
    to: Option<Bytes>,
    limit: Option<u64>,
    page_items: u32,
    keys_only: bool,
    at_revision: Option<Revision>,
}

impl Scan {
    /// All keys.
    pub fn all() -> Self {
        Self::default()
    }

    /// Keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let from = prefix.into();
        let to = after_prefix(&from);
        Self { from, to, ..Self::default() }
    }

    /// Keys in a range: `Scan::range("a".."c")`.
    pub fn range<K: AsRef<[u8]>>(range: impl RangeBounds<K>) -> Self {
        // The first key after `key` is `key` and a zero byte.
        let after = |key: &K| Bytes::from([key.as_ref(), &[0]].concat());
        let at = |key: &K| Bytes::copy_from_slice(key.as_ref());
        let from = match range.start_bound() {
            Bound::Included(key) => at(key),
            Bound::Excluded(key) => after(key),
            Bound::Unbounded => Bytes::new(),
        };
        let to = match range.end_bound() {
            Bound::Included(key) => Some(after(key)),
            Bound::Excluded(key) => Some(at(key)),
            Bound::Unbounded => None,
        };
        Self { from, to, ..Self::default() }
    }

    /// At most so many keys.
    #[must_use]
    pub fn limit(self, items: u64) -> Self {
        Self { limit: Some(items), ..self }
    }

    /// At most so many keys in a page; 0 (default): as many as fit.
    #[must_use]
    pub fn page_items(self, items: u32) -> Self {
        Self { page_items: items, ..self }
    }

    /// Leave the values out.
    #[must_use]
    pub fn keys_only(self) -> Self {
        Self { keys_only: true, ..self }
    }

    /// The keys as they were once the write of this revision had taken effect, see
    /// [`Client::get_at`](crate::Client::get_at). The scan ends with [`Error::Compacted`] where that is not kept any more.
    #[must_use]
    pub fn at_revision(self, revision: Revision) -> Self {
        Self { at_revision: Some(revision), ..self }
    }
}

/// The first key after all those with this prefix; `None`: there is none.
fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    if let Some(byte) = end.last_mut() {
        *byte += 1;
    }
    Some(end.into())
}

type Fetched = Result<(ScanPage, String), Error>;

/// Fetches pages, one ahead of the one in use.
struct Pages {
    client: Client,
    scan: Scan,
    /// Items that may still be asked for.
    left: Option<u64>,
    /// The fetch in progress; ends with the stream.
    fetch: JoinSet<Fetched>,
    items: std::vec::IntoIter<Item>,
}

pub(crate) fn stream(client: Client, scan: Scan) -> BoxStream<'static, Result<Item, Error>> {
    let left = scan.limit;
    let pages = Pages { client, scan, left, fetch: JoinSet::new(), items: Vec::new().into_iter() };
    stream::once(async move {
        let mut pages = pages;
        pages.ask(None);
        stream::unfold(pages, |mut pages| async move { pages.next().await.map(|item| (item, pages)) })
    })
    .flatten()
    .boxed()
}

impl Pages {
    async fn next(&mut self) -> Option<Result<Item, Error>> {
        loop {
            if let Some(item) = self.items.next() {
                return Some(Ok(item));
            }
            let fetched = self.fetch.join_next().await?;
            let gone = |error| Err(Error::Unknown(format!("fetching a page ended early: {error}")));
            match fetched.unwrap_or_else(gone) {
                Ok((page, node)) => self.turn(page, node),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Takes a page into use and asks for the one after it.
    fn turn(&mut self, mut page: ScanPage, node: String) {
        if let Some(left) = &mut self.left {
            page.items.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left = left.saturating_sub(page.items.len() as u64);
        }
        if let Some(cursor) = page.next {
            self.ask(Some((cursor, node)));
        }
        self.items = page.items.into_iter();
    }

    fn ask(&mut self, next: Option<(Cursor, String)>) {
        let left = self.left.map(|left| u32::try_from(left).unwrap_or(u32::MAX));
        let limit = match (left, self.scan.page_items) {
            (Some(0), _) => return,
            (Some(left), 0) => left,
            (Some(left), page) => left.min(page),
            (None, page) => page,
        };
        let (cursor, node) = next.unzip();
        let request = ScanRequest {
            from: self.scan.from.clone(),
            to: self.scan.to.clone(),
            limit,
            keys_only: self.scan.keys_only,
            at_revision: self.scan.at_revision,
            cursor,
            ..ScanRequest::default()
        };
        let client = self.client.clone();
        self.fetch.spawn(async move { client.scan_page(request, node).await });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(after_prefix(b"ab"), Some("ac".into()));
        assert_eq!(after_prefix(b"a\xff\xff"), Some("b".into()));
        assert_eq!(after_prefix(b"\xff"), None);
        assert_eq!(after_prefix(b""), None);
    }

    #[test]
    fn bounds_are_inclusive_or_not_as_said() {
        let scan = Scan::range("a"..="b");
        assert_eq!((&scan.from[..], scan.to.as_deref()), (&b"a"[..], Some(&b"b\0"[..])));
        assert_eq!(Scan::range::<&str>(..), Scan::all());
    }
}
