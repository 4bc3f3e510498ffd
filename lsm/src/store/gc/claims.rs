//! Who has which files for himself: collections, and compactions that rewrite pointers to where values are now.
//!
//! A compaction that writes a pointer into a file keeps the file from being collected until it is recorded, since no
//! table leads to the pointer before. A file that waits for that is not written a pointer into by compactions that
//! begin later, so that it does not wait for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kv_vlog::{PageCache, Pointer, Vlog};
use parking_lot::Mutex;

use crate::error::StoreError;
use crate::key::ValuePointer;
use crate::store::{Store, pointer};

/// Pages of remaps that a resolver keeps: keys go by in order, and so do places in each file, about.
const RESOLVER_PAGES: usize = 128;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    /// Files that are being collected.
    claimed: BTreeSet<u64>,
    /// Files that wait to be.
    wanted: BTreeSet<u64>,
    /// By number: the files that each resolver leaves alone.
    resolvers: BTreeMap<u64, BTreeSet<u64>>,
    next: u64,
}

/// Files that one collection has for itself.
pub(super) struct Claim {
    claims: Arc<Claims>,
    files: BTreeSet<u64>,
}

impl Claims {
    /// Takes the files. `targets`: those among them that pointers may be rewritten into.
    pub(super) fn claim(
        self: &Arc<Self>,
        files: BTreeSet<u64>,
        targets: &BTreeSet<u64>,
    ) -> Result<Claim, StoreError> {
        let mut held = self.0.lock();
        if let Some(file) = held.claimed.intersection(&files).next() {
            return Err(StoreError::Cancelled(format!("file {file} is being collected already")));
        }
        let awaits = |target: &&u64| held.resolvers.values().any(|left_alone| !left_alone.contains(target));
        if let Some(file) = targets.iter().find(awaits).copied() {
            held.wanted.extend(targets);
            return Err(StoreError::Cancelled(format!("a compaction may rewrite pointers into file {file}")));
        }
        held.wanted.retain(|file| !files.contains(file));
        held.claimed.extend(&files);
        Ok(Claim { claims: self.clone(), files })
    }

    /// Whether a compaction is under way that may write pointers into the file.
    pub(super) fn awaits_compaction(&self, file: u64) -> bool {
        self.0.lock().resolvers.values().any(|left_alone| !left_alone.contains(&file))
    }

    /// Says which files wait to be collected; others do not any more.
    pub(super) fn want(&self, files: BTreeSet<u64>) {
        self.0.lock().wanted = files;
    }

    pub(super) fn is_claimed(&self, file: u64) -> bool {
        self.0.lock().claimed.contains(&file)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.0.lock().claimed.retain(|file| !self.files.contains(file));
    }
}

/// Says where values are now, for whoever writes their pointers into new tables: kept until these are recorded.
pub struct Resolver {
    claims: Arc<Claims>,
    log: Arc<Vlog>,
    number: u64,
    left_alone: BTreeSet<u64>,
    /// Its own: what goes through it once must not put out what readers come back to.
    pages: PageCache,
}

impl Store {
    /// Begins to rewrite pointers; see [`Resolver`].
    #[must_use]
    pub fn resolver(&self) -> Resolver {
        self.shared.resolver()
    }
}

impl crate::store::Shared {
    /// As [`Store::resolver`].
    pub(crate) fn resolver(&self) -> Resolver {
        let claims = self.collecting.claims.clone();
        let (number, left_alone) = {
            let mut held = claims.0.lock();
            held.next += 1;
            let left_alone: BTreeSet<u64> = held.claimed.union(&held.wanted).copied().collect();
            let number = held.next;
            held.resolvers.insert(number, left_alone.clone());
            (number, left_alone)
        };
        let pages = PageCache::of(RESOLVER_PAGES);
        Resolver { claims, log: self.log.clone(), number, left_alone, pages }
    }
}

impl Resolver {
    /// The pointer to the same value where it is now, in the segment that its file was made for; the pointer itself
    /// where it is that already, or where that file is about to be collected.
    ///
    /// A place that cannot be read is left alone, too: the pointer is right as it is, and who reads the value is told.
    #[must_use]
    pub fn resolve(&self, from: &ValuePointer) -> ValuePointer {
        let to = self.log.resolve(pointer(from), |file| !self.left_alone.contains(&file), &self.pages);
        let Pointer { segment, offset, length } = to.unwrap_or_else(|error| {
            tracing::warn!(%error, segment = from.segment, "cannot see where a value has been moved to");
            pointer(from)
        });
        ValuePointer { segment, offset, length, value_bytes: from.value_bytes }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.claims.0.lock().resolvers.remove(&self.number);
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("number", &self.number).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(files: &[u64]) -> BTreeSet<u64> {
        files.iter().copied().collect()
    }

    #[test]
    fn a_file_is_collected_by_one() {
        let claims = Arc::new(Claims::default());
        let first = claims.claim(set(&[1, 2]), &set(&[])).unwrap();
        assert!(claims.claim(set(&[2, 3]), &set(&[])).is_err());
        assert!(claims.is_claimed(1) && !claims.is_claimed(3));
        drop(first);
        assert!(claims.claim(set(&[2, 3]), &set(&[])).is_ok());
    }

    /// As [`Shared::resolver`](crate::store::Shared::resolver), without a log.
    fn resolver(claims: &Claims) -> (u64, BTreeSet<u64>) {
        let mut held = claims.0.lock();
        held.next += 1;
        let (number, left_alone) = (held.next, held.claimed.union(&held.wanted).copied().collect());
        held.resolvers.insert(number, BTreeSet::clone(&left_alone));
        (number, left_alone)
    }

    #[test]
    fn a_file_waits_for_those_who_may_point_into_it_and_not_for_later_ones() {
        let claims = Arc::new(Claims::default());
        let (first, left_alone) = resolver(&claims);
        assert!(left_alone.is_empty());
        drop(claims.claim(set(&[1]), &set(&[])).unwrap());
        assert!(claims.claim(set(&[1, 2]), &set(&[2])).is_err());
        let (_second, left_alone) = resolver(&claims);
        assert_eq!(left_alone, set(&[2]), "it is wanted");
        assert!(claims.claim(set(&[1, 2]), &set(&[2])).is_err(), "the first is still there");
        claims.0.lock().resolvers.remove(&first);
        let claim = claims.claim(set(&[1, 2]), &set(&[2])).unwrap();
        assert_eq!(resolver(&claims).1, set(&[1, 2]));
        drop(claim);
        assert_eq!(resolver(&claims).1, set(&[]));
    }
}
