//! Walking over the keys that are there, in both directions, as of one moment.

use bytes::Bytes;

use super::pins::{Holder, Pin};
use super::scan::{ScanItem, ScanRange};
use super::view::View;
use crate::cursor::TwoWayCursor;
use crate::error::StoreError;
use crate::key::{Moment, Seq};
use crate::table::{CacheUse, LevelCursor};
use crate::two_way::TwoWayMerge;

/// The keys of a range. Keeps the tables it reads and the segments they point to; holds no values.
///
/// A seek decides the direction; [`Walk::forward`] and [`Walk::backward`] go on only in theirs.
pub(super) struct Walk {
    pin: Pin,
    merge: TwoWayMerge,
    moment: Moment,
    range: ScanRange,
    /// Forward: the key whose older versions are to be skipped, if there is one.
    last: Vec<u8>,
    has_last: bool,
}

impl Walk {
    pub(super) fn new(view: &View, range: ScanRange, moment: Moment, cache: CacheUse) -> Self {
        let mut cursors: Vec<Box<dyn TwoWayCursor + Send>> = vec![Box::new(view.active.cursor())];
        for frozen in view.frozen.iter().rev() {
            cursors.push(Box::new(frozen.memtable.cursor()));
        }
        let [level0, deeper @ ..] = &view.tables.levels;
        for table in level0 {
            cursors.push(Box::new(table.reader.cursor_with(cache)));
        }
        for level in deeper.iter().filter(|level| !level.is_empty()) {
            let tables = level.iter().map(|table| table.reader.clone()).collect();
            cursors.push(Box::new(LevelCursor::with(tables, cache)));
        }
        Self {
            pin: view.pin.held_by(Holder::Iterator),
            merge: TwoWayMerge::new(cursors),
            moment,
            range,
            last: Vec::new(),
            has_last: false,
        }
    }

    /// Has [`Walk::forward`] give the keys from the first one of the range on.
    pub(super) fn seek_first(&mut self) -> Result<(), StoreError> {
        self.has_last = false;
        Ok(self.merge.seek(&self.range.from, Seq::MAX)?)
    }

    /// ... from the first one that is not before `key` on.
    pub(super) fn seek(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.has_last = false;
        Ok(self.merge.seek(key.max(&self.range.from), Seq::MAX)?)
    }

    /// ... from the first one behind `key` on.
    pub(super) fn seek_after(&mut self, key: &Bytes) -> Result<(), StoreError> {
        if *key < self.range.from {
            return self.seek_first();
        }
        self.skip(key);
        Ok(self.merge.seek(key, 0)?)
    }

    /// Has [`Walk::backward`] give the keys from the last one of the range on.
    pub(super) fn seek_last(&mut self) -> Result<(), StoreError> {
        match &self.range.to {
            Some(to) => Ok(self.merge.seek_before(to, Seq::MAX)?),
            None => Ok(self.merge.seek_last()?),
        }
    }

    /// ... from the last one before `key` on.
    pub(super) fn seek_before(&mut self, key: &[u8]) -> Result<(), StoreError> {
        if self.range.to.as_ref().is_some_and(|to| **to < *key) {
            return self.seek_last();
        }
        Ok(self.merge.seek_before(key, Seq::MAX)?)
    }

    fn skip(&mut self, key: &[u8]) {
        self.last.clear();
        self.last.extend_from_slice(key);
        self.has_last = true;
    }

    /// The next key that is there.
    pub(super) fn forward(&mut self) -> Result<Option<ScanItem>, StoreError> {
        while self.merge.valid() {
            let key = self.merge.key();
            if self.range.to.as_ref().is_some_and(|to| key >= &**to) {
                return Ok(None);
            }
            let (revision, seen) = (self.merge.seq(), self.has_last && *self.last == *key);
            if seen || revision > self.moment.seq {
                self.merge.step()?;
                continue;
            }
            let key = Bytes::copy_from_slice(key);
            let slot = self.merge.slot();
            self.skip(&key);
            self.merge.step()?;
            if self.moment.sees(&slot) {
                return Ok(Some(ScanItem::new(key, revision, slot, &self.pin)));
            }
        }
        Ok(None)
    }

    /// The key before that is there.
    pub(super) fn backward(&mut self) -> Result<Option<ScanItem>, StoreError> {
        while self.merge.valid() {
            let key = Bytes::copy_from_slice(self.merge.key());
            if key < self.range.from {
                return Ok(None);
            }
            // The oldest version comes first: the last one that is visible counts.
            let mut newest = None;
            while self.merge.valid() && self.merge.key() == key {
                if self.merge.seq() <= self.moment.seq {
                    newest = Some((self.merge.seq(), self.merge.slot()));
                }
                self.merge.step()?;
            }
            if let Some((revision, slot)) = newest.filter(|(_, slot)| self.moment.sees(slot)) {
                return Ok(Some(ScanItem::new(key, revision, slot, &self.pin)));
            }
        }
        Ok(None)
    }
}
