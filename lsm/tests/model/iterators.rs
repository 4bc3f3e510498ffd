//! Iterators to and fro, against the keys in order.

use bytes::Bytes;
use kv_lsm::{Bookmark, Iter, IterOptions, ScanRange};

use crate::dice::Dice;
use crate::model::{Contents, in_range, is_found};

/// Where an iterator should stand among the keys.
#[derive(Clone, Debug, PartialEq)]
enum At {
    Before,
    Behind,
    Key(Bytes),
}

/// An iterator and what it goes over.
pub struct Walked {
    iter: Iter,
    contents: Contents,
    keys: Vec<Bytes>,
    at: At,
}

pub fn range(dice: &mut Dice) -> ScanRange {
    match dice.below(4) {
        0 => ScanRange::default(),
        1 => ScanRange::prefix(format!("key{}", dice.below(10)).as_bytes()),
        2 => ScanRange { from: dice.key(), to: None },
        _ => ScanRange { from: dice.key(), to: Some(dice.key()) },
    }
}

pub fn options(dice: &mut Dice) -> IterOptions {
    IterOptions {
        range: range(dice),
        read_ahead: [0, 1, 3, 100][dice.below(4) as usize],
        read_ahead_bytes: [1, 2_000, 1 << 20][dice.below(3) as usize],
        fill_cache: dice.once_in(2),
    }
}

impl Walked {
    pub fn new(contents: &Contents, options: &IterOptions, iter: Iter) -> Self {
        let keys = in_range(contents, &options.range).cloned().collect();
        Self { iter, contents: contents.clone(), keys, at: At::Before }
    }

    /// One step, and a look at where it led.
    pub fn step(&mut self, dice: &mut Dice) {
        let key = dice.key();
        let (moved, at) = match dice.below(12) {
            0 => (self.iter.seek_first(), self.keys.first().cloned().map_or(At::Behind, At::Key)),
            1 => (self.iter.seek_last(), self.keys.last().cloned().map_or(At::Before, At::Key)),
            2 => (self.iter.seek(&key), self.first(|k| *k >= key)),
            3 => (self.iter.seek_for_prev(&key), self.last(|k| *k <= key)),
            4..8 => (self.iter.next(), self.after()),
            _ => (self.iter.prev(), self.before()),
        };
        let valid = moved.unwrap();
        self.at = at;
        assert_eq!(valid, matches!(self.at, At::Key(_)), "{:?}", self.at);
        self.check(dice);
    }

    /// Another iterator over the same, standing where this one stands.
    pub fn replace(&mut self, iter: Iter) {
        let kept = self.iter.bookmark().as_bytes().clone();
        self.iter = iter;
        self.iter.resume(&Bookmark::from_bytes(kept).unwrap()).unwrap();
        assert_eq!(self.iter.key(), None);
    }

    fn first(&self, is_it: impl Fn(&Bytes) -> bool) -> At {
        self.keys.iter().find(|key| is_it(key)).cloned().map_or(At::Behind, At::Key)
    }

    fn last(&self, is_it: impl Fn(&Bytes) -> bool) -> At {
        self.keys.iter().rfind(|key| is_it(key)).cloned().map_or(At::Before, At::Key)
    }

    fn after(&self) -> At {
        match &self.at {
            At::Before => self.first(|_| true),
            At::Behind => At::Behind,
            At::Key(at) => self.first(|key| key > at),
        }
    }

    fn before(&self) -> At {
        match &self.at {
            At::Before => At::Before,
            At::Behind => self.last(|_| true),
            At::Key(at) => self.last(|key| key < at),
        }
    }

    fn check(&mut self, dice: &mut Dice) {
        let At::Key(key) = &self.at else {
            assert_eq!(self.iter.key(), None);
            assert_eq!(self.iter.value().unwrap(), None);
            return;
        };
        let expected = &self.contents[key];
        assert_eq!(self.iter.key(), Some(&key[..]));
        assert_eq!(self.iter.revision(), Some(expected.1));
        assert_eq!(self.iter.value_bytes(), Some(expected.0.len() as u64));
        if dice.once_in(2) {
            let found = self.iter.value().unwrap();
            assert!(is_found(Some(expected), found.as_ref()), "{key:?}: {found:?}");
        }
        if dice.once_in(4) {
            let length = expected.0.len() as u64;
            let (from, to) = (dice.below(length + 2), dice.below(length + 1_000));
            let found = self.iter.value_range(from..to).unwrap().unwrap();
            let from = from.min(length) as usize;
            assert_eq!(found.value, expected.0[from..(to.min(length) as usize).max(from)]);
        }
    }
}
