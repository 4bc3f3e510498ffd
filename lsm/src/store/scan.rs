//! Scans: the merge of memtables and tables, seen at one moment.

use bytes::Bytes;

use super::Store;
use super::pins::Pin;
use super::view::View;
use super::walk::Walk;
use crate::error::StoreError;
use crate::key::{Moment, Seq, Slot};
use crate::table::CacheUse;

/// Keys from `from` on (inclusive), up to `to` (exclusive; `None`: to the last).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanRange {
    /// First key.
    pub from: Bytes,
    /// End.
    pub to: Option<Bytes>,
}

impl ScanRange {
    /// All keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut to = prefix.to_vec();
        while to.last() == Some(&0xff) {
            to.pop();
        }
        let to = to.split_last().map(|(last, rest)| Bytes::from([rest, &[last + 1]].concat()));
        Self { from: Bytes::copy_from_slice(prefix), to }
    }
}

/// A key of a scan; [`Store::value`] reads what its slot stands for. While the item, or the scan, is there,
/// so is the value, whatever becomes of the key: a slot that is taken out of it must not outlive both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanItem {
    /// The key.
    pub key: Bytes,
    /// Its version.
    pub revision: Seq,
    /// Its value, or where that lies.
    pub slot: Slot,
    /// Keeps the value, where it does not lie beside its key.
    _pin: Option<Pin>,
}

impl ScanItem {
    /// A version that was found in a view with this pin.
    pub(super) fn new(key: Bytes, revision: Seq, slot: Slot, pin: &Pin) -> Self {
        let pin = matches!(slot, Slot::Pointer(..)).then(|| pin.clone());
        Self { key, revision, slot, _pin: pin }
    }
}

/// The keys of a range that are there, in order. Keeps the tables it reads and the segments they point to;
/// holds no values.
pub struct Scan {
    walk: Walk,
}

impl Store {
    /// Keys of a range as of now, in order.
    pub fn scan(&self, range: ScanRange) -> Result<Scan, StoreError> {
        // The view first, as for `get`.
        let view = self.shared.core.view();
        scan(&view, range, self.shared.core.visible(), CacheUse::Fill)
    }
}

pub(crate) fn scan(
    view: &View,
    range: ScanRange,
    moment: Moment,
    cache: CacheUse,
) -> Result<Scan, StoreError> {
    let mut walk = Walk::new(view, range, moment, cache);
    walk.seek_first()?;
    Ok(Scan { walk })
}

impl Iterator for Scan {
    type Item = Result<ScanItem, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.walk.forward().transpose()
    }
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_its_last_byte_can_grow() {
        assert_eq!(ScanRange::prefix(b"ab").to.as_deref(), Some(&b"ac"[..]));
        assert_eq!(ScanRange::prefix(b"a\xff\xff").to.as_deref(), Some(&b"b"[..]));
        assert_eq!(ScanRange::prefix(b"\xff").to, None);
        assert_eq!(ScanRange::prefix(b"").to, None);
    }
}
