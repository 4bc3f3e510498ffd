//! Walking over versions in order.

use crate::key::{Seq, Slot};
use crate::table::TableError;

/// Walks forward over versions: by key bytewise, then newest first.
///
/// A new cursor stands nowhere: seek first. After an error it stands nowhere again; what it gave before
/// is right, but there may be more.
///
/// Invariant: each step goes to a strictly later version. A cursor that reads from a disk checks this and
/// returns [`TableError::Corruption`] instead of going back. Only [`crate::merge::MergeCursor`] gives a
/// version twice, where two of its sources hold it.
pub trait Cursor {
    /// Goes to the first version.
    ///
    /// # Errors
    /// Damage or a failed read.
    fn seek_first(&mut self) -> Result<(), TableError>;

    /// Goes to the first version that is not before `(key, seq)`: the newest version of `key` that is not
    /// newer than `seq`, or else what follows it.
    ///
    /// # Errors
    /// Damage or a failed read.
    fn seek(&mut self, key: &[u8], seq: Seq) -> Result<(), TableError>;

    /// Goes to the next version; does nothing where there is none.
    ///
    /// # Errors
    /// Damage or a failed read.
    fn next(&mut self) -> Result<(), TableError>;

    /// Whether the cursor stands at a version.
    fn valid(&self) -> bool;

    /// The user's key; empty where the cursor stands nowhere.
    fn key(&self) -> &[u8];

    /// The version; 0 where the cursor stands nowhere.
    fn seq(&self) -> Seq;

    /// What the version holds; a tombstone where the cursor stands nowhere. An inline value keeps the memory that
    /// it lies in: its block, or a piece of the memtable.
    fn slot(&self) -> Slot;
}

/// Walks over versions in both directions.
///
/// Invariant: steps to either side go to the version that is next there; what holds of [`Cursor`] holds.
pub trait TwoWayCursor: Cursor {
    /// Goes to the last version.
    ///
    /// # Errors
    /// Damage or a failed read.
    fn seek_last(&mut self) -> Result<(), TableError>;

    /// Goes to the last version that is before `(key, seq)`.
    ///
    /// # Errors
    /// Damage or a failed read.
    fn seek_before(&mut self, key: &[u8], seq: Seq) -> Result<(), TableError>;

    /// Goes to the version before; nowhere where there is none.
    ///
    /// # Errors
    /// Damage or a failed read.
    fn prev(&mut self) -> Result<(), TableError>;
}
