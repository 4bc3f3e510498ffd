//! Which versions survive a merge.

use super::horizon::Horizon;
use crate::key::{Seq, Slot};

/// What becomes of a version, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Somebody can see it, or it hides something.
    Keep,
    /// Everybody who could see it sees a newer one.
    Shadowed,
    /// The same version as the one before: replayed and flushed twice.
    Duplicate,
    /// It deletes, or has expired, and has nothing to hide any more.
    Spent,
    /// It has expired for everybody who sees it, and hides something: a tombstone does that, too.
    Expired,
}

/// Decides version by version, in internal order, which ones survive.
///
/// Invariant: a read as of a moment of the horizon, or of one that is not before any that were merged, finds the same
/// before and after.
#[derive(Debug)]
pub struct Retain<F> {
    horizon: Horizon,
    bottommost: F,
    key: Vec<u8>,
    /// The version before: its seq, and how many moments are too old to see it. `None` before the first.
    last: Option<(Seq, usize)>,
}

impl<F: Fn(&[u8]) -> bool> Retain<F> {
    /// `bottommost` says of a key that nothing older of it lies outside the merge: not in a deeper level,
    /// nor beside the merged tables.
    #[must_use]
    pub fn new(horizon: Horizon, bottommost: F) -> Self {
        Self { horizon, bottommost, key: Vec::new(), last: None }
    }

    /// What survives of the version; see [`Retain::judge`].
    pub fn keep<'a>(&mut self, key: &[u8], seq: Seq, slot: &'a Slot) -> Option<&'a Slot> {
        match self.judge(key, seq, slot) {
            Verdict::Keep => Some(slot),
            Verdict::Expired => Some(&Slot::Tombstone),
            Verdict::Shadowed | Verdict::Duplicate | Verdict::Spent => None,
        }
    }

    /// What becomes of a version. To be asked once for each, in internal order.
    ///
    /// # Panics
    /// If they are not in order: a bug of the caller.
    pub fn judge(&mut self, key: &[u8], seq: Seq, slot: &Slot) -> Verdict {
        // Moments before this number cannot see the version; those from it on can.
        let blind = self.horizon.blind(seq);
        let before = if self.key == key { self.last } else { None };
        assert!(before.is_some() || self.last.is_none() || *self.key < *key, "keys out of order");
        if before.is_none() {
            self.key.clear();
            self.key.extend_from_slice(key);
        }
        self.last = Some((seq, blind));
        match before {
            Some((newer, _)) if newer == seq => return Verdict::Duplicate,
            Some((newer, newer_blind)) => {
                assert!(newer > seq, "versions of a key out of order");
                if newer_blind == blind && !self.horizon.is_history(newer) {
                    return Verdict::Shadowed;
                }
            }
            None => {}
        }
        let has_expired = self.horizon.time_of(seq, blind).is_some_and(|time| slot.expires().is_past(time));
        // All older versions are shadowed by this one, for every moment that there is.
        let hides_all = blind == 0 && !self.horizon.is_history(seq);
        if (has_expired || *slot == Slot::Tombstone) && hides_all && (self.bottommost)(key) {
            return Verdict::Spent;
        }
        if has_expired { Verdict::Expired } else { Verdict::Keep }
    }
}
