//! Segments that are dropped or moved, and who may still read them where they were.
//!
//! A view holds a pin, and so does whatever was found in a view and may be looked up later. A file that is given
//! up hangs on the pin of the views that may lead to it; the next views have the next pin. Each pin
//! keeps the next one: a file goes when the last user of its pin, and of all pins before, is gone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use kv_vfs::Vfs;
use kv_vlog::Vlog;
use parking_lot::Mutex;

use super::Shared;

/// What views hold. Clones of one pin are equal in every respect, so that what holds one can be compared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pin(Arc<Hung>);

#[derive(Debug, Default)]
struct Hung {
    /// Set once: what goes with this pin, and the pin that came after it.
    after: OnceLock<(Vec<Retired>, Pin)>,
}

/// Places where values of segments are no more, as far as the data goes. Dropping it lets go of them and removes the
/// file; the manifest has durably given them up before.
#[derive(Debug)]
pub(crate) struct Retired {
    log: Arc<Vlog>,
    vfs: Arc<dyn Vfs>,
    /// Segments and numbers of files.
    places: Vec<(u64, u64)>,
    /// The file; `None` where other segments have their values in it.
    file: Option<GivenUp>,
    held: Held,
}

/// A file that goes when nobody reads it any more.
#[derive(Debug)]
pub(crate) struct GivenUp {
    pub path: PathBuf,
    pub number: u64,
    pub bytes: u64,
}

/// The files that are given up, but not removed: somebody may read them; and their lengths. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<Mutex<BTreeMap<u64, u64>>>);

impl Held {
    /// Their numbers.
    pub(crate) fn files(&self) -> Vec<u64> {
        self.0.lock().keys().copied().collect()
    }

    /// Their bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.lock().values().sum()
    }
}

impl Retired {
    /// Gives up the places, and the file, too.
    pub(crate) fn new(shared: &Shared, places: Vec<(u64, u64)>, file: Option<GivenUp>) -> Self {
        let held = shared.collecting.held.clone();
        held.0.lock().extend(file.iter().map(|file| (file.number, file.bytes)));
        Self { log: shared.log.clone(), vfs: shared.core.vfs.clone(), places, file, held }
    }
}

impl Pin {
    /// Hangs what is given up on this pin; gives the pin of the views that come next. Once for each pin.
    pub(crate) fn retire(&self, retired: Vec<Retired>) -> Pin {
        let next = Pin::default();
        let set = self.0.after.set((retired, next.clone()));
        assert!(set.is_ok(), "a pin is followed by one other");
        next
    }
}

impl PartialEq for Pin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Pin {}

impl Drop for Hung {
    fn drop(&mut self) {
        // One after the other, not each within the one before: there may be many.
        let mut after = self.after.take();
        while let Some((retired, next)) = after {
            drop(retired);
            after = Arc::into_inner(next.0).and_then(|mut held| held.after.take());
        }
    }
}

impl Drop for Retired {
    fn drop(&mut self) {
        self.places.iter().for_each(|(segment, file)| self.log.forget_place(*segment, *file));
        let Some(file) = &self.file else { return };
        if let Err(error) = self.vfs.remove(&file.path) {
            // Nothing is lost: the next open finds an orphan and removes it.
            tracing::warn!(%error, "could not remove a file of values that is no longer needed");
        }
        self.held.0.lock().remove(&file.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many pins are left of a chain that begins with this one.
    fn chain(pin: &Pin) -> usize {
        1 + pin.0.after.get().map_or(0, |(_, next)| chain(next))
    }

    #[test]
    fn a_pin_keeps_all_that_come_after_it() {
        let first = Pin::default();
        let second = first.retire(Vec::new());
        let third = second.retire(Vec::new());
        let (watch_second, watch_third) = (Arc::downgrade(&second.0), Arc::downgrade(&third.0));
        drop((second, third));
        assert_eq!(chain(&first), 3);
        let again = first.clone();
        drop(first);
        assert!(watch_second.upgrade().is_some());
        drop(again);
        assert!(watch_second.upgrade().is_none() && watch_third.upgrade().is_none());
    }

    #[test]
    fn a_long_chain_goes_without_taking_the_stack() {
        let first = Pin::default();
        let mut last = first.clone();
        for _ in 0..1_000_000 {
            last = last.retire(Vec::new());
        }
        drop(last);
        drop(first);
    }
}
