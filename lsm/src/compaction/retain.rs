//! Which versions survive a merge.

use crate::key::{Kind, Seq, Slot};

/// What becomes of a version, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Somebody can see it, or it hides something.
    Keep,
    /// Everybody who could see it sees a newer one.
    Shadowed,
    /// The same version as the one before: replayed and flushed twice.
    Duplicate,
    /// A tombstone that has nothing to hide any more.
    Spent,
}

/// Decides version by version, in internal order, which ones survive.
///
/// Invariant: a read at an open snapshot, or at a seq not below all that were merged, finds the same before
/// and after.
#[derive(Debug)]
pub struct Retain<F> {
    /// Ascending.
    snapshots: Vec<Seq>,
    bottommost: F,
    key: Vec<u8>,
    /// The version before: its seq, and how many snapshots are too old to see it. `None` before the first.
    last: Option<(Seq, usize)>,
}

impl<F: Fn(&[u8]) -> bool> Retain<F> {
    /// `snapshots` are the seqs at which somebody reads or may read; "now" needs not be among them.
    /// `bottommost` says of a key that nothing older of it lies outside the merge: not in a deeper level,
    /// nor beside the merged tables.
    #[must_use]
    pub fn new(mut snapshots: Vec<Seq>, bottommost: F) -> Self {
        snapshots.sort_unstable();
        Self { snapshots, bottommost, key: Vec::new(), last: None }
    }

    /// Whether the version survives; see [`Retain::judge`].
    pub fn keep(&mut self, key: &[u8], seq: Seq, slot: &Slot) -> bool {
        self.judge(key, seq, slot.kind()) == Verdict::Keep
    }

    /// What becomes of a version. To be asked once for each, in internal order.
    ///
    /// # Panics
    /// If they are not in order: a bug of the caller.
    pub fn judge(&mut self, key: &[u8], seq: Seq, kind: Kind) -> Verdict {
        // Snapshots before this number cannot see the version; those from it on can.
        let blind = self.snapshots.partition_point(|snapshot| *snapshot < seq);
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
                if newer_blind == blind {
                    return Verdict::Shadowed;
                }
            }
            None => {}
        }
        // All older versions are shadowed by this one, for every snapshot that there is.
        if kind == Kind::Tombstone && blind == 0 && (self.bottommost)(key) {
            return Verdict::Spent;
        }
        Verdict::Keep
    }
}
