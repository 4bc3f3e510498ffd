//! What clients were told, and whether it can all be true.
//!
//! Every value is written once and every version has a number that only grows, so that linearizability comes
//! down to this: a call that begins after another one has ended must not see less than that one did; one
//! version has one value; what surely did not happen is never seen. What goes away by itself does so not before its time is
//! over, and for good.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::values::{self, ValueId};

/// Version of a key.
type Revision = u64;

/// Everything that was said about every key.
#[derive(Default)]
pub struct History {
    keys: BTreeMap<String, Register>,
    last_id: ValueId,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Writes of which nobody knows.
    pub unknown: u64,
    /// Reads of a key that were answered.
    pub reads: u64,
}

#[derive(Default)]
struct Register {
    /// Versions that are known, and what they hold; `None`: the key was removed.
    versions: BTreeMap<Revision, Option<ValueId>>,
    /// The newest version that anybody has been told of.
    floor: Revision,
    /// Versions up to this one were gone when somebody looked.
    gone: Revision,
    /// Values that may be or become the key's, not seen so far.
    open: BTreeSet<ValueId>,
    /// Until when values stay at least that go away by themselves.
    mortal: BTreeMap<ValueId, Duration>,
    /// Removals under way or unknown.
    removals: u64,
    /// Writes that were made on the condition of a version, or of none, their own version, and when they had ended.
    swaps: Vec<(Option<Revision>, Revision, Duration)>,
}

/// A call that has begun.
#[derive(Clone, Debug)]
pub struct Begun {
    key: String,
    /// What it must see at least.
    floor: Revision,
    /// Versions up to this one are gone.
    gone: Revision,
    writes: Option<Change>,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Put(ValueId),
    Remove,
}

/// How a write ended.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// It took effect.
    Done(Revision),
    /// It surely did not.
    Nothing,
    /// Perhaps, or it still will.
    Unknown,
}

impl History {
    /// A read of the key begins.
    pub fn begin_read(&mut self, key: &str) -> Begun {
        self.begin(key, None)
    }

    /// A write of a new value begins.
    pub fn begin_put(&mut self, key: &str) -> (Begun, Bytes) {
        self.last_id += 1;
        let id = self.last_id;
        let begun = self.begin(key, Some(Change::Put(id)));
        self.register(key).open.insert(id);
        (begun, values::bytes(id))
    }

    /// A write of a new value begins that stays until a point in time at least, and then goes away.
    pub fn begin_put_until(&mut self, key: &str, until: Duration) -> (Begun, Bytes) {
        let (begun, value) = self.begin_put(key);
        let id = self.last_id;
        self.register(key).mortal.insert(id, until);
        (begun, value)
    }

    /// A removal begins.
    pub fn begin_remove(&mut self, key: &str) -> Begun {
        self.register(key).removals += 1;
        self.begin(key, Some(Change::Remove))
    }

    fn begin(&mut self, key: &str, writes: Option<Change>) -> Begun {
        let register = self.register(key);
        Begun { key: key.into(), floor: register.floor, gone: register.gone, writes }
    }

    fn register(&mut self, key: &str) -> &mut Register {
        self.keys.entry(key.into()).or_default()
    }

    /// A write has ended.
    pub fn end_write(&mut self, begun: &Begun, outcome: Outcome) {
        match outcome {
            Outcome::Done(_) => self.acknowledged += 1,
            Outcome::Unknown => self.unknown += 1,
            Outcome::Nothing => {}
        }
        let Some(change) = begun.writes else { return };
        self.register(&begun.key).end_write(begun, change, outcome);
    }

    /// A read has ended `now`, with this version and value.
    pub fn end_read(&mut self, begun: &Begun, found: Option<(Revision, &[u8])>, now: Duration) {
        self.reads += 1;
        self.register(&begun.key).end_read(begun, found, now);
    }

    /// A write was made, the key being at this version; `None`: not there.
    pub fn end_swap(&mut self, begun: &Begun, expected: Option<Revision>, revision: Revision, now: Duration) {
        self.end_write(begun, Outcome::Done(revision));
        self.register(&begun.key).swaps.push((expected, revision, now));
    }

    /// A write was refused since the key has this version.
    pub fn end_refused(&mut self, begun: &Begun, current: Option<Revision>, now: Duration) {
        self.end_write(begun, Outcome::Nothing);
        let register = self.register(&begun.key);
        match current {
            Some(revision) => register.see(begun, revision),
            None => register.see_nothing(begun, now),
        }
    }

    /// Nothing came between the version that a write was made on the condition of and its own.
    pub fn check_swaps(&self) {
        for (key, register) in &self.keys {
            register.check_swaps(key);
        }
    }

    /// Keys that were ever written.
    pub fn keys(&self) -> Vec<String> {
        self.keys.keys().cloned().collect()
    }

    /// The version that a key was last seen at, if it holds a value that nobody has missed since.
    pub fn guess(&self, key: &str) -> Option<Revision> {
        let register = self.keys.get(key)?;
        let value = register.versions.get(&register.floor)?;
        value.filter(|_| register.floor > register.gone).map(|_| register.floor)
    }
}

impl Register {
    fn end_write(&mut self, begun: &Begun, change: Change, outcome: Outcome) {
        let (id, revision) = match (change, outcome) {
            (_, Outcome::Unknown) => return,
            (Change::Put(id), Outcome::Nothing) => {
                assert!(
                    self.open.remove(&id),
                    "{begun:?}: a write that surely did not happen was seen: {:?}",
                    self.versions
                );
                return;
            }
            (Change::Remove, Outcome::Nothing) => {
                self.removals -= 1;
                return;
            }
            (Change::Put(id), Outcome::Done(revision)) => (Some(id), revision),
            (Change::Remove, Outcome::Done(revision)) => {
                self.removals -= 1;
                (None, revision)
            }
        };
        assert!(
            revision > begun.floor,
            "{begun:?}: version {revision} is not newer than what was there before: {:?}",
            self.versions
        );
        self.place(begun, revision, id);
    }

    fn end_read(&mut self, begun: &Begun, found: Option<(Revision, &[u8])>, now: Duration) {
        let Some((revision, bytes)) = found else { return self.see_nothing(begun, now) };
        let id = values::id(bytes);
        assert!(id.is_some(), "{begun:?}: version {revision} is no value: {} bytes", bytes.len());
        self.check_age(begun, revision);
        self.place(begun, revision, id);
    }

    /// What was seen is not older than what was there before, and nothing that had gone.
    fn check_age(&self, begun: &Begun, revision: Revision) {
        assert!(
            revision >= begun.floor,
            "{begun:?}: version {revision} is older than what was there before: {:?}",
            self.versions
        );
        assert!(
            revision > begun.gone,
            "{begun:?}: version {revision} had gone and is back: {:?}",
            self.versions
        );
    }

    /// The key was there at this version, whatever it holds.
    fn see(&mut self, begun: &Begun, revision: Revision) {
        self.check_age(begun, revision);
        self.floor = self.floor.max(revision);
    }

    fn see_nothing(&mut self, begun: &Begun, now: Duration) {
        let mut since = self.versions.range(begun.floor..);
        let gone = since.any(|(_, value)| value.is_none_or(|id| self.may_be_over(id, now)));
        assert!(
            begun.floor == 0 || gone || self.removals > 0 || self.may_have_passed(now),
            "{begun:?}: lost at {now:?}, nothing is there: {:?}, until {:?}",
            self.versions,
            self.mortal
        );
        self.gone = self.gone.max(begun.floor);
    }

    /// Whether this is a value that may have gone by itself.
    fn may_be_over(&self, id: ValueId, now: Duration) -> bool {
        self.mortal.get(&id).is_some_and(|until| *until <= now)
    }

    /// Whether a value that nobody was told of may have come and gone.
    fn may_have_passed(&self, now: Duration) -> bool {
        self.open.iter().any(|id| self.may_be_over(*id, now))
    }

    fn check_swaps(&self, key: &str) {
        for (expected, revision, now) in &self.swaps {
            let before = self.versions.range(..revision).next_back();
            let holds = match (expected, before) {
                (Some(expected), Some((before, _))) => before == expected,
                // A removal that nobody was told of may have come between.
                (None, Some((_, Some(id)))) => {
                    self.removals > 0 || self.may_be_over(*id, *now) || self.may_have_passed(*now)
                }
                (None, _) => true,
                (Some(_), None) => false,
            };
            assert!(
                holds,
                "{key}: version {revision} was to follow {expected:?}, but there is {before:?} before it"
            );
        }
    }

    /// A version has this value.
    fn place(&mut self, begun: &Begun, revision: Revision, id: Option<ValueId>) {
        match self.versions.get(&revision) {
            Some(known) => {
                assert_eq!(*known, id, "{begun:?}: version {revision} has two values: {:?}", self.versions);
            }
            None => {
                let new = id.is_none_or(|id| self.open.remove(&id));
                assert!(new, "{begun:?}: {id:?} at {revision} was never or elsewhere: {:?}", self.versions);
                self.versions.insert(revision, id);
            }
        }
        self.floor = self.floor.max(revision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    /// A key whose value 1 was acknowledged at version 10.
    fn written() -> History {
        let mut history = History::default();
        let (begun, _) = history.begin_put("k");
        history.end_write(&begun, Outcome::Done(10));
        history
    }

    fn read(history: &mut History, found: Option<(Revision, ValueId)>) {
        let begun = history.begin_read("k");
        let bytes = found.map(|(revision, id)| (revision, values::bytes(id)));
        history.end_read(&begun, bytes.as_ref().map(|(revision, bytes)| (*revision, &**bytes)), NOW);
    }

    #[test]
    fn what_can_be_true_is_believed() {
        let mut history = written();
        read(&mut history, Some((10, 1)));
        let (unknown, _) = history.begin_put("k");
        history.end_write(&unknown, Outcome::Unknown);
        read(&mut history, Some((10, 1)));
        read(&mut history, Some((12, 2)));
        let removed = history.begin_remove("k");
        history.end_write(&removed, Outcome::Done(13));
        read(&mut history, None);
    }

    #[test]
    #[should_panic(expected = "lost")]
    fn a_lost_write_is_noticed() {
        read(&mut written(), None);
    }

    #[test]
    #[should_panic(expected = "older")]
    fn a_stale_read_is_noticed() {
        let mut history = written();
        let (newer, _) = history.begin_put("k");
        history.end_write(&newer, Outcome::Done(11));
        read(&mut history, Some((10, 1)));
    }

    #[test]
    fn a_read_that_began_before_a_write_ended_may_miss_it() {
        let mut history = written();
        let early = history.begin_read("k");
        let (newer, _) = history.begin_put("k");
        history.end_write(&newer, Outcome::Done(11));
        history.end_read(&early, Some((10, &values::bytes(1))), NOW);
    }

    #[test]
    #[should_panic(expected = "two values")]
    fn a_version_with_two_values_is_noticed() {
        let mut history = written();
        drop(history.begin_put("k"));
        read(&mut history, Some((10, 2)));
    }

    #[test]
    #[should_panic(expected = "elsewhere")]
    fn a_write_that_was_applied_twice_is_noticed() {
        read(&mut written(), Some((11, 1)));
    }

    #[test]
    #[should_panic(expected = "surely did not happen")]
    fn a_write_that_surely_did_not_happen_is_never_seen() {
        let mut history = written();
        let (begun, _) = history.begin_put("k");
        read(&mut history, Some((11, 2)));
        history.end_write(&begun, Outcome::Nothing);
    }

    #[test]
    fn a_swap_follows_what_it_expected() {
        let mut history = written();
        let (begun, _) = history.begin_put("k");
        history.end_swap(&begun, Some(10), 12, NOW);
        history.check_swaps();
    }

    #[test]
    #[should_panic(expected = "was to follow Some(10)")]
    fn a_swap_over_a_version_in_between_is_noticed() {
        let mut history = written();
        let ((between, _), (begun, _)) = (history.begin_put("k"), history.begin_put("k"));
        history.end_write(&between, Outcome::Done(11));
        history.end_swap(&begun, Some(10), 12, NOW);
        history.check_swaps();
    }

    #[test]
    #[should_panic(expected = "was to follow None")]
    fn a_swap_of_a_key_that_was_there_is_noticed() {
        let mut history = written();
        let (begun, _) = history.begin_put("k");
        history.end_swap(&begun, None, 12, NOW);
        history.check_swaps();
    }

    #[test]
    #[should_panic(expected = "not newer")]
    fn a_write_below_what_was_there_is_noticed() {
        let mut history = written();
        let (begun, _) = history.begin_put("k");
        history.end_write(&begun, Outcome::Done(9));
    }

    /// A key whose value 1 was acknowledged at version 10 and stays until `NOW` at least.
    fn mortal() -> History {
        let mut history = History::default();
        let (begun, _) = history.begin_put_until("k", NOW);
        history.end_write(&begun, Outcome::Done(10));
        history
    }

    fn see_nothing(history: &mut History, now: Duration) {
        let begun = history.begin_read("k");
        history.end_read(&begun, None, now);
    }

    #[test]
    fn what_goes_away_by_itself_may_be_gone_or_still_there_and_makes_room() {
        let mut history = mortal();
        let early = history.begin_read("k");
        read(&mut history, Some((10, 1)));
        see_nothing(&mut history, NOW);
        history.end_read(&early, Some((10, &values::bytes(1))), NOW);
        let (begun, _) = history.begin_put("k");
        history.end_swap(&begun, None, 12, NOW);
        history.check_swaps();
        read(&mut history, Some((12, 2)));
    }

    #[test]
    #[should_panic(expected = "lost")]
    fn what_goes_too_early_is_noticed() {
        see_nothing(&mut mortal(), NOW - Duration::from_millis(1));
    }

    #[test]
    #[should_panic(expected = "is back")]
    fn what_has_gone_and_is_back_is_noticed() {
        let mut history = mortal();
        see_nothing(&mut history, NOW);
        read(&mut history, Some((10, 1)));
    }

    #[test]
    #[should_panic(expected = "was to follow None")]
    fn a_swap_of_a_key_that_cannot_have_gone_yet_is_noticed() {
        let mut history = mortal();
        let (begun, _) = history.begin_put("k");
        history.end_swap(&begun, None, 12, NOW - Duration::from_secs(1));
        history.check_swaps();
    }
}
