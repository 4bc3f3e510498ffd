//! Reads of several keys at once, and estimates.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::readers::ValueRead;
use super::scan::{ScanItem, ScanRange};
use super::values::ReadFor;
use super::view::View;
use super::{Found, Store};
use crate::error::StoreError;
use crate::key::Moment;

/// About how much a range takes on disk. What is only in memtables does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeSize {
    /// Bytes of keys, pointers and short values in tables, as stored.
    pub table_bytes: u64,
    /// Bytes of values in segments that these point to, older versions among them, as stored.
    pub value_bytes: u64,
}

impl Store {
    /// The newest values of keys, in the order given, all as of one moment.
    ///
    /// # Errors
    /// Damage or a failed read, of the first key that meets it.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Found>>, StoreError> {
        // The view first, as for `get`.
        let view = self.shared.core.view();
        self.multi_get_in(&view, keys, self.shared.core.visible())
    }

    pub(super) fn multi_get_in<K: AsRef<[u8]>>(
        &self,
        view: &View,
        keys: &[K],
        moment: Moment,
    ) -> Result<Vec<Option<Found>>, StoreError> {
        let mut sorted: Vec<(usize, &[u8])> = keys.iter().map(AsRef::as_ref).enumerate().collect();
        // In key order, neighbours find their block in the cache.
        sorted.sort_by_key(|(_, key)| *key);
        let mut found: Vec<Option<ScanItem>> = keys.iter().map(|_| None).collect();
        let _gets = self.shared.counters.gets(keys.len() as u64);
        for (place, key) in sorted {
            if let (Some(item), Some((revision, slot))) = (found.get_mut(place), view.get(key, moment.seq)?)
                && moment.sees(&slot)
            {
                let key = Bytes::copy_from_slice(key);
                *item = Some(ScanItem::new(key, revision, slot, &view.pin));
            }
        }
        self.values_of(found)
    }

    fn values_of(&self, items: Vec<Option<ScanItem>>) -> Result<Vec<Option<Found>>, StoreError> {
        let is_one = items.iter().flatten().nth(1).is_none();
        let start = |item: ScanItem| {
            let read = if is_one { None } else { self.readers.start(&item, ReadFor::Get) };
            (item, read)
        };
        let started: Vec<_> = items.into_iter().map(|item| item.map(start)).collect();
        let value = |(item, read): (ScanItem, Option<Arc<ValueRead>>)| match read {
            Some(read) => self.readers.take(&read),
            None => self.readers.read(&item, None, ReadFor::Get),
        };
        started.into_iter().map(|started| started.map(value).transpose()).collect()
    }

    /// About how much a range takes on disk, from the indexes of tables.
    ///
    /// # Errors
    /// Damage or a failed read.
    pub fn approximate_size(&self, range: &ScanRange) -> Result<RangeSize, StoreError> {
        let view = self.shared.core.view();
        let mut size = RangeSize::default();
        for table in view.tables.iter() {
            let Range { start, end } = table.reader.bytes_of(&range.from, range.to.as_deref())?;
            let (part, whole) = (end.saturating_sub(start), table.reader.data_bytes().max(1));
            let values: u64 = table.meta.refs.iter().map(|refs| refs.bytes).sum();
            size.table_bytes += part;
            size.value_bytes += (u128::from(values) * u128::from(part) / u128::from(whole)) as u64;
        }
        Ok(size)
    }
}
