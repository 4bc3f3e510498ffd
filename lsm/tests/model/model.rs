//! What should be there.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use kv_lsm::{Expiry, Found, LogTime, ScanRange};

/// Keys with value, version, and when they go away.
pub type Contents = BTreeMap<Bytes, (Bytes, u64, Expiry)>;

/// What there was once an entry of the log was applied, what has expired by then among it.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub index: u64,
    pub time: LogTime,
    pub contents: Contents,
}

impl State {
    /// What is there at a time.
    pub fn at(&self, time: LogTime) -> Contents {
        let there = self.contents.iter().filter(|(_, (.., expires))| !expires.is_past(time));
        there.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

/// What there was, what is there now, and what a loss of power may go back to.
#[derive(Debug)]
pub struct Model {
    /// By index and time; the last one is now.
    states: Vec<State>,
    /// Which one is durable.
    durable: usize,
}

impl Model {
    pub fn new(now: State) -> Self {
        Self { states: vec![now], durable: 0 }
    }

    fn last(&self) -> &State {
        self.states.last().unwrap()
    }

    /// What is there now.
    pub fn now(&self) -> Contents {
        self.last().at(self.last().time)
    }

    /// What is there at a time.
    pub fn at(&self, time: LogTime) -> Contents {
        self.last().at(time)
    }

    /// One entry of the log took effect.
    pub fn change(&mut self, index: u64, time: LogTime, change: impl FnOnce(&mut Contents)) {
        let mut contents = self.last().contents.clone();
        change(&mut contents);
        self.states.push(State { index, time, contents });
    }

    /// Entries that changed nothing were applied, at most.
    pub fn note(&mut self, index: u64, time: LogTime) {
        let last = self.last();
        assert!(
            last.index <= index && last.time <= time,
            "{} {}, then {index} {time}",
            last.index,
            last.time
        );
        if (last.index, last.time) != (index, time) {
            let contents = last.contents.clone();
            self.states.push(State { index, time, contents });
        }
    }

    /// Everything so far is durable.
    pub fn durable(&mut self) {
        self.durable = self.states.len() - 1;
    }

    /// After a loss of power: the state up to the entry `index`, if that is known, shows this now, when this is the last
    /// entry and the time. Goes on from there.
    pub fn back_to(&mut self, index: Option<u64>, (last, time): (u64, LogTime), found: &Contents) -> bool {
        let is_it =
            |state: &State| index.is_none_or(|index| state.index <= index) && state.at(time) == *found;
        let left = &self.states[self.durable..];
        let at = match index {
            Some(_) => left.iter().rposition(|state| index.is_none_or(|index| state.index <= index)),
            // The first one: nothing that came later is known to be there.
            None => left.iter().position(is_it),
        };
        let Some(at) = at.filter(|at| is_it(&left[*at])) else { return false };
        let state = State { time: time.max(left[at].time), ..left[at].clone() };
        match index {
            Some(_) => self.states.truncate(self.durable + at + 1),
            // What was before cannot be told for certain.
            None => self.states = vec![State { index: state.index.min(last), ..state }],
        }
        self.durable = self.states.len() - 1;
        true
    }

    /// States that can be asked for by their revisions: those of the last entry of each index.
    pub fn past(&self) -> impl DoubleEndedIterator<Item = &State> {
        let next = |at: usize| self.states.get(at + 1).map(|state| state.index);
        self.states
            .iter()
            .enumerate()
            .filter(move |(at, state)| next(*at) != Some(state.index))
            .map(|(_, state)| state)
    }

    /// Whether a store that keeps so many revisions and seconds has this state.
    pub fn is_kept(&self, state: &State, revisions: u64, seconds: LogTime) -> bool {
        let now = self.last();
        let by_number = revisions > 0 && state.index + revisions >= now.index;
        let next = self.states.iter().find(|other| other.index > state.index);
        let by_age = seconds > 0 && next.is_none_or(|next| next.time + seconds > now.time);
        by_number || by_age
    }
}

pub fn is_found(expected: Option<&(Bytes, u64, Expiry)>, found: Option<&Found>) -> bool {
    match (expected, found) {
        (None, None) => true,
        (Some((value, revision, expires)), Some(found)) => {
            let expected = (value, *revision, value.len() as u64, *expires);
            (&found.value, found.revision, found.value_bytes, found.expires) == expected
        }
        _ => false,
    }
}

/// The part of the contents that a range names.
pub fn in_range<'a>(contents: &'a Contents, range: &ScanRange) -> impl DoubleEndedIterator<Item = &'a Bytes> {
    let to = range.to.clone().map_or(Bound::Unbounded, |to| Bound::Excluded(to.max(range.from.clone())));
    contents.range((Bound::Included(range.from.clone()), to)).map(|(key, _)| key)
}
