//! Segments that are dropped or moved, and who may still read them where they were.
//!
//! A view holds a pin, and so does whatever was found in a view and may be looked up later. A file that is given
//! up hangs on the pin of the views that may lead to it; the next views have the next pin. Each pin
//! keeps the next one: a file goes when the last user of its pin, and of all pins before, is gone. Who keeps a pin for
//! long says what he is, so that people can be told what a file waits for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use kv_vlog::Vlog;
use parking_lot::Mutex;

use super::Shared;

/// What views hold. Clones of one pin are equal in every respect, so that what holds one can be compared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pin {
    hung: Arc<Hung>,
    /// Counted once for all its clones.
    _held: Option<Arc<Hold>>,
}

/// What keeps files for longer than one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A scan or an iterator.
    Iterator,
    /// A state that is sent, or read in pages.
    Export,
    /// A copy that is being made.
    Checkpoint,
    /// A collection that reads its files.
    Collection,
}

impl Holder {
    /// What it is, for people; there may be several of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Iterator => "scans or iterators",
            Self::Export => "exports or transfers",
            Self::Checkpoint => "checkpoints",
            Self::Collection => "collections",
        }
    }
}

/// How many of each hold which pin, by the number of the pin.
type Holders = Arc<Mutex<BTreeMap<(u64, Holder), usize>>>;

/// Says for as long as it lives that somebody holds a pin.
#[derive(Debug)]
struct Hold {
    holders: Holders,
    of: (u64, Holder),
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holders = self.holders.lock();
        if let Some(count) = holders.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                holders.remove(&self.of);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Hung {
    /// Pins are numbered as they follow each other.
    number: u64,
    /// One for all pins.
    holders: Holders,
    /// Set once: what goes with this pin, and the pin that came after it.
    after: OnceLock<(Vec<Retired>, Pin)>,
}

/// Places where values of segments are no more, as far as the data goes. Dropping it lets go of them and recycles or
/// removes the file; the manifest has durably given them up before.
#[derive(Debug)]
pub(crate) struct Retired {
    log: Arc<Vlog>,
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
pub(crate) struct Held(Arc<Mutex<BTreeMap<u64, HeldBy>>>);

/// Why a file is still there.
#[derive(Clone, Debug)]
struct HeldBy {
    /// The segments that had their values in it.
    segments: Vec<u64>,
    bytes: u64,
    /// The last pin that leads to it.
    pin: u64,
}

/// A file that is given up, but not removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldFile {
    /// Its number.
    pub file: u64,
    /// The segments that had their values in it when it was given up; ascending.
    pub segments: Vec<u64>,
    /// Its length in bytes, about.
    pub bytes: u64,
    /// Who keeps it, and how many of each.
    pub by: Vec<(Holder, usize)>,
}

impl HeldFile {
    /// Who keeps it, for people.
    #[must_use]
    pub fn why(&self) -> String {
        let by = self.by.iter().map(|(holder, count)| format!("{} ({count})", holder.name()));
        // What is no holder of this kind is over in a moment.
        if self.by.is_empty() { "a read".into() } else { by.collect::<Vec<_>>().join(", ") }
    }
}

impl Held {
    /// These files, and who keeps them; `now` is the pin of now.
    pub(crate) fn files(&self, now: &Pin) -> Vec<HeldFile> {
        let held = self.0.lock();
        let describe = |(file, HeldBy { segments, bytes, pin }): (&u64, &HeldBy)| HeldFile {
            file: *file,
            segments: segments.clone(),
            bytes: *bytes,
            by: now.holders(*pin),
        };
        held.iter().map(describe).collect()
    }

    /// Their bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.lock().values().map(|held| held.bytes).sum()
    }
}

impl Retired {
    /// Gives up the places, and the file, too.
    pub(crate) fn new(shared: &Shared, places: Vec<(u64, u64)>, file: Option<GivenUp>) -> Self {
        let held = shared.collecting.held.clone();
        // Until it hangs on a pin.
        let inside = |file: u64| {
            let mut inside: Vec<u64> =
                places.iter().filter(|(_, at)| *at == file).map(|(segment, _)| *segment).collect();
            inside.sort_unstable();
            inside
        };
        let by = |file: &GivenUp| HeldBy { segments: inside(file.number), bytes: file.bytes, pin: 0 };
        held.0.lock().extend(file.iter().map(|file| (file.number, by(file))));
        Self { log: shared.log.clone(), places, file, held }
    }
}

impl Pin {
    /// Hangs what is given up on this pin; gives the pin of the views that come next. Once for each pin.
    pub(crate) fn retire(&self, retired: Vec<Retired>) -> Pin {
        let Hung { number, holders, .. } = &*self.hung;
        for retired in &retired {
            retired.hangs_on(*number);
        }
        let hung = Hung { number: number + 1, holders: holders.clone(), after: OnceLock::new() };
        let next = Pin { hung: Arc::new(hung), _held: None };
        let set = self.hung.after.set((retired, next.clone()));
        assert!(set.is_ok(), "a pin is followed by one other");
        next
    }

    /// The same pin, for somebody who says what he is.
    pub(crate) fn held_by(&self, holder: Holder) -> Pin {
        let Hung { number, holders, .. } = &*self.hung;
        let of = (*number, holder);
        *holders.lock().entry(of).or_default() += 1;
        Pin { hung: self.hung.clone(), _held: Some(Arc::new(Hold { holders: holders.clone(), of })) }
    }

    /// Who holds this pin or one before it: who would keep a file that is given up now.
    pub(crate) fn all_holders(&self) -> Vec<(Holder, usize)> {
        self.holders(self.hung.number)
    }

    /// Who holds the pins up to this one, in all.
    fn holders(&self, up_to: u64) -> Vec<(Holder, usize)> {
        let mut counts: BTreeMap<Holder, usize> = BTreeMap::new();
        for ((number, holder), count) in &*self.hung.holders.lock() {
            if *number <= up_to {
                *counts.entry(*holder).or_default() += count;
            }
        }
        counts.into_iter().collect()
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
            after = Arc::into_inner(next.hung).and_then(|mut hung| hung.after.take());
        }
    }
}

impl Retired {
    /// Notes which pin it hangs on.
    fn hangs_on(&self, pin: u64) {
        if let Some(file) = &self.file
            && let Some(held) = self.held.0.lock().get_mut(&file.number)
        {
            held.pin = pin;
        }
    }
}

impl Drop for Retired {
    fn drop(&mut self) {
        self.log.give_up(&self.places, self.file.as_ref().map(|file| &*file.path));
        if let Some(file) = &self.file {
            self.held.0.lock().remove(&file.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many pins are left of a chain that begins with this one.
    fn chain(pin: &Pin) -> usize {
        1 + pin.hung.after.get().map_or(0, |(_, next)| chain(next))
    }

    #[test]
    fn a_pin_keeps_all_that_come_after_it() {
        let first = Pin::default();
        let second = first.retire(Vec::new());
        let third = second.retire(Vec::new());
        let (watch_second, watch_third) = (Arc::downgrade(&second.hung), Arc::downgrade(&third.hung));
        drop((second, third));
        assert_eq!(chain(&first), 3);
        let again = first.clone();
        drop(first);
        assert!(watch_second.upgrade().is_some());
        drop(again);
        assert!(watch_second.upgrade().is_none() && watch_third.upgrade().is_none());
    }

    #[test]
    fn who_holds_a_pin_holds_what_comes_after_it() {
        let first = Pin::default();
        let early = first.held_by(Holder::Export);
        let second = first.retire(Vec::new());
        let late = (second.held_by(Holder::Iterator), second.held_by(Holder::Iterator));
        let again = late.0.clone();
        assert_eq!(second.holders(0), [(Holder::Export, 1)]);
        assert_eq!(second.holders(1), [(Holder::Iterator, 2), (Holder::Export, 1)]);
        drop(late);
        assert_eq!(
            second.holders(1),
            [(Holder::Iterator, 1), (Holder::Export, 1)],
            "a clone is the same one"
        );
        drop((early, again));
        assert_eq!(second.holders(1), []);
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
