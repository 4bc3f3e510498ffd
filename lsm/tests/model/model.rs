//! What should be there.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use kv_lsm::{Found, ScanRange};

/// Keys with value and version.
pub type Contents = BTreeMap<Bytes, (Bytes, u64)>;

/// What is there now, and what a loss of power may go back to.
#[derive(Debug, Default)]
pub struct Model {
    /// States since the last one that is durable, which is the first; the last one is now.
    states: Vec<Contents>,
}

impl Model {
    pub fn new(now: Contents) -> Self {
        Self { states: vec![now] }
    }

    pub fn now(&self) -> &Contents {
        self.states.last().unwrap()
    }

    /// One entry of the log took effect.
    pub fn change(&mut self, change: impl FnOnce(&mut Contents)) {
        let mut next = self.now().clone();
        change(&mut next);
        self.states.push(next);
    }

    /// Everything so far is durable.
    pub fn durable(&mut self) {
        self.states.drain(..self.states.len() - 1);
    }

    /// Whether a loss of power may have left this.
    pub fn allows(&self, found: &Contents) -> bool {
        self.states.contains(found)
    }
}

pub fn is_found(expected: Option<&(Bytes, u64)>, found: Option<&Found>) -> bool {
    match (expected, found) {
        (None, None) => true,
        (Some((value, revision)), Some(found)) => {
            found.value == *value && found.revision == *revision && found.value_bytes == value.len() as u64
        }
        _ => false,
    }
}

/// The part of the contents that a range names.
pub fn in_range<'a>(contents: &'a Contents, range: &ScanRange) -> impl DoubleEndedIterator<Item = &'a Bytes> {
    let to = range.to.clone().map_or(Bound::Unbounded, |to| Bound::Excluded(to.max(range.from.clone())));
    contents.range((Bound::Included(range.from.clone()), to)).map(|(key, _)| key)
}
