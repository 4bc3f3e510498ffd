//! What is sent to a node that cannot catch up from the log: the state at one entry, page by page.

use std::sync::Arc;

use bytes::Bytes;
use kv_vlog::{Expiry, LogTime, Position, StoredValue, Vlog};

use super::core::visible_after;
use super::pins::{Holder, Pin};
use super::scan::{ScanItem, scan};
use super::view::View;
use super::{ScanRange, Store, pointer};
use crate::error::StoreError;
use crate::key::{Moment, Seq, Slot};
use crate::table::CacheUse;

/// Bytes that a record takes besides its key and value, about.
const RECORD_BYTES: usize = 40;

/// A key that is there, its newest version and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportRecord {
    /// The key.
    pub key: Bytes,
    /// Its version.
    pub seq: Seq,
    /// Its value.
    pub value: ExportValue,
}

/// The value of an [`ExportRecord`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportValue {
    /// A short value, which stands beside its key in tables.
    Inline(Bytes, Expiry),
    /// A value of a segment, as it is stored there: compressed, with its checksum.
    Stored(StoredValue),
}

impl ExportRecord {
    /// Bytes it takes in a page, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let value = match &self.value {
            ExportValue::Inline(value, _) => value.len(),
            ExportValue::Stored(value) => value.stored_bytes(),
        };
        RECORD_BYTES + self.key.len() + value
    }
}

/// The state as of one entry, pinned: memtables, tables and what they point to stay as they are until it is
/// dropped, whatever is written, flushed, compacted or installed meanwhile. Nothing is copied to take one.
///
/// It may outlive the store's workers, but its tables and segments are read from the store's directory.
pub struct Export {
    view: Arc<View>,
    _pin: Pin,
    log: Arc<Vlog>,
    at: Option<Position>,
    time: LogTime,
    membership: Option<(Position, Bytes)>,
}

impl Store {
    /// The state as of the last entry applied. Waits for an apply that is under way.
    #[must_use]
    pub fn export(&self) -> Export {
        // With the applier held, position, membership and view are those of one entry.
        let _applier = self.shared.applier.lock();
        let progress = self.shared.core.progress();
        let view = self.shared.core.view();
        Export {
            _pin: view.pin.held_by(Holder::Export),
            view,
            log: self.shared.log.clone(),
            at: progress.applied,
            time: self.shared.core.visible().time,
            membership: progress.membership,
        }
    }
}

impl Export {
    /// The entry up to which everything is in it; `None`: nothing was ever applied.
    #[must_use]
    pub fn at(&self) -> Option<Position> {
        self.at
    }

    /// What time it is then.
    #[must_use]
    pub fn time(&self) -> LogTime {
        self.time
    }

    /// The newest membership as of that entry, with its place in the log.
    #[must_use]
    pub fn membership(&self) -> Option<(Position, Bytes)> {
        self.membership.clone()
    }

    /// The keys that are there, in order, from the first one behind `after` on (`None`: from the start):
    /// about `bytes_max` bytes of records, but one at least; none where there are no more.
    pub fn page(&self, after: Option<&Bytes>, bytes_max: usize) -> Result<Vec<ExportRecord>, StoreError> {
        // The least key behind another one is that with a zero byte added.
        let from = after.map_or_else(Bytes::new, |key| [key, &b"\0"[..]].concat().into());
        // The active memtable of the view goes on growing until it is frozen; what is newer is not seen.
        let seq = self.at.map_or(0, |at| visible_after(at.index));
        let moment = Moment { seq, time: self.time };
        let (mut page, mut bytes) = (Vec::new(), 0usize);
        for item in scan(&self.view, ScanRange { from, to: None }, moment, CacheUse::Peek)? {
            let item = item?;
            if !page.is_empty() && bytes + item_bytes(&item) > bytes_max {
                break;
            }
            let record = self.record(item)?;
            bytes += record.bytes();
            page.push(record);
        }
        Ok(page)
    }

    fn record(&self, item: ScanItem) -> Result<ExportRecord, StoreError> {
        let ScanItem { key, revision: seq, slot, .. } = item;
        let value = match slot {
            Slot::Inline(value, expires) => ExportValue::Inline(value, expires),
            Slot::Pointer(at, _) => ExportValue::Stored(self.log.value(pointer(&at), &key, seq)?),
            Slot::Tombstone => ExportValue::Inline(Bytes::new(), Expiry::NEVER), // a scan gives none
        };
        Ok(ExportRecord { key, seq, value })
    }
}

/// Known before the value is read. A pointer's length counts header and key already.
fn item_bytes(item: &ScanItem) -> usize {
    match &item.slot {
        Slot::Pointer(at, _) => at.length as usize,
        Slot::Inline(value, _) => RECORD_BYTES + item.key.len() + value.len(),
        Slot::Tombstone => 0,
    }
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export").field("at", &self.at).finish_non_exhaustive()
    }
}
