//! Iterators over keys and values, in both directions.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::readers::{Readers, ValueRead};
use super::scan::{ScanItem, ScanRange};
use super::values::ReadFor;
use super::view::View;
use super::walk::Walk;
use super::{Found, Store};
use crate::error::StoreError;
use crate::key::{Moment, Seq};
use crate::table::CacheUse;

/// How an [`Iter`] goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IterOptions {
    /// Keys it gives. Default: all.
    pub range: ScanRange,
    /// Values that are read ahead, by several threads, in the direction it goes; 0: each when it is asked for,
    /// so that going over keys alone reads no value. Default 0.
    pub read_ahead: usize,
    /// No more is read ahead than this many bytes of values, unless one is longer. Default 4 MiB.
    pub read_ahead_bytes: u64,
    /// Whether blocks and values that it reads stay in the caches; no, for going over very much once. Default yes.
    pub fill_cache: bool,
}

impl Default for IterOptions {
    fn default() -> Self {
        Self { range: ScanRange::default(), read_ahead: 0, read_ahead_bytes: 4 << 20, fill_cache: true }
    }
}

/// Where an [`Iter`] stands, to go on from there later, with another iterator. What it says is nobody else's
/// business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bookmark(Bytes);

impl Bookmark {
    /// As bytes to keep.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// From bytes that were kept.
    ///
    /// # Errors
    /// Where they are no bookmark.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, StoreError> {
        let bookmark = Self(bytes);
        bookmark.anchor().map(|_| bookmark)
    }

    fn new(anchor: &Anchor) -> Self {
        let (tag, key): (u8, &[u8]) = match anchor {
            Anchor::Before => (0, &[]),
            Anchor::Behind => (1, &[]),
            Anchor::At(key) => (2, key),
            Anchor::From(key) => (3, key),
            Anchor::UpTo(key) => (4, key),
        };
        Self([&[tag], key].concat().into())
    }

    fn anchor(&self) -> Result<Anchor, StoreError> {
        let key = || self.0.slice(1..);
        match self.0.first() {
            Some(0) if self.0.len() == 1 => Ok(Anchor::Before),
            Some(1) if self.0.len() == 1 => Ok(Anchor::Behind),
            Some(2) => Ok(Anchor::At(key())),
            Some(3) => Ok(Anchor::From(key())),
            Some(4) => Ok(Anchor::UpTo(key())),
            _ => Err(StoreError::Invalid("these bytes are no bookmark".into())),
        }
    }
}

/// What the next step is counted from.
#[derive(Clone, Debug)]
enum Anchor {
    /// The start of the range.
    Before,
    /// Its end.
    Behind,
    /// This key, which was given.
    At(Bytes),
    /// Just before this key.
    From(Bytes),
    /// Just behind it.
    UpTo(Bytes),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heading {
    Forward,
    Backward,
}

/// A key on the way, its value perhaps being read.
struct Ahead {
    item: ScanItem,
    read: Option<Arc<ValueRead>>,
}

/// Goes over the keys that were there at one moment, whatever is written meanwhile. A new one stands before the
/// first key.
///
/// It keeps the tables and segments that it reads: drop it when it is done. After an error it stands where it
/// stood, and the step can be tried again.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let db = kv_lsm::Db::open(dir.path(), kv_lsm::Options::default())?;
/// for name in ["ant", "bee", "cat"] {
///     db.put(name.as_bytes(), name.to_uppercase())?;
/// }
/// let mut iter = db.iter(kv_lsm::IterOptions::default());
/// assert!(iter.seek(b"b")?);
/// assert_eq!(iter.key(), Some(&b"bee"[..]));
/// assert_eq!(iter.value()?.unwrap().value, "BEE");
/// assert!(iter.prev()?);
/// assert_eq!(iter.key(), Some(&b"ant"[..]));
/// assert!(!iter.prev()?);
/// # db.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Iter {
    walk: Walk,
    read_for: ReadFor,
    readers: Arc<Readers>,
    options: IterOptions,
    /// Where it stands, if that is no key.
    anchor: Anchor,
    /// Which way the walk goes; `None`: it is not where the anchor is.
    heading: Option<Heading>,
    /// Whether the walk has come to its end.
    ended: bool,
    queue: VecDeque<Ahead>,
    queued_bytes: u64,
    current: Option<Ahead>,
}

impl Store {
    /// An iterator over what is there now.
    #[must_use]
    pub fn iter(&self, options: IterOptions) -> Iter {
        // The view first, as for `get`.
        let view = self.shared.core.view();
        Iter::new(&view, self.shared.core.visible(), self.readers.clone(), options)
    }
}

impl Iter {
    pub(super) fn new(view: &View, moment: Moment, readers: Arc<Readers>, options: IterOptions) -> Self {
        let cache = if options.fill_cache { CacheUse::Fill } else { CacheUse::Peek };
        Self {
            walk: Walk::new(view, options.range.clone(), moment, cache),
            read_for: ReadFor::Walk(cache),
            readers,
            options,
            anchor: Anchor::Before,
            heading: None,
            ended: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            current: None,
        }
    }

    /// Goes to the first key; says whether there is one.
    ///
    /// # Errors
    /// Damage or a failed read.
    pub fn seek_first(&mut self) -> Result<bool, StoreError> {
        self.go_from(Anchor::Before, Heading::Forward)
    }

    /// Goes to the last key; says whether there is one.
    ///
    /// # Errors
    /// Damage or a failed read.
    pub fn seek_last(&mut self) -> Result<bool, StoreError> {
        self.go_from(Anchor::Behind, Heading::Backward)
    }

    /// Goes to the first key that is not before `key`; says whether there is one.
    ///
    /// # Errors
    /// Damage or a failed read.
    pub fn seek(&mut self, key: &[u8]) -> Result<bool, StoreError> {
        self.go_from(Anchor::From(Bytes::copy_from_slice(key)), Heading::Forward)
    }

    /// Goes to the last key that is not behind `key`; says whether there is one.
    ///
    /// # Errors
    /// Damage or a failed read.
    pub fn seek_for_prev(&mut self, key: &[u8]) -> Result<bool, StoreError> {
        self.go_from(Anchor::UpTo(Bytes::copy_from_slice(key)), Heading::Backward)
    }

    /// Goes to the next key; says whether there is one. Behind the last one it stays.
    ///
    /// # Errors
    /// Damage or a failed read.
    #[expect(clippy::should_implement_trait, reason = "it goes both ways and may fail; see `Iter::entries`")]
    pub fn next(&mut self) -> Result<bool, StoreError> {
        self.go(Heading::Forward)
    }

    /// Goes to the key before; says whether there is one. Before the first one it stays.
    ///
    /// # Errors
    /// Damage or a failed read.
    pub fn prev(&mut self) -> Result<bool, StoreError> {
        self.go(Heading::Backward)
    }

    /// The key it stands at.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.current.as_ref().map(|at| &*at.item.key)
    }

    /// Version of the key it stands at.
    #[must_use]
    pub fn revision(&self) -> Option<Seq> {
        self.current.as_ref().map(|at| at.item.revision)
    }

    /// Length in bytes of the value it stands at, which is not read for it.
    #[must_use]
    pub fn value_bytes(&self) -> Option<u64> {
        self.current.as_ref().map(|at| at.item.slot.value_bytes())
    }

    /// The value it stands at.
    ///
    /// # Errors
    /// Damage or a failed read.
    pub fn value(&mut self) -> Result<Option<Found>, StoreError> {
        let Some(at) = &mut self.current else { return Ok(None) };
        // Read once; asked for again, it is read again.
        match at.read.take() {
            Some(read) => self.readers.take(&read).map(Some),
            None => self.readers.read(&at.item, None, self.read_for).map(Some),
        }
    }

    /// A part of the value it stands at, cut at its end; of a long value only what is needed is read.
    ///
    /// # Errors
    /// Damage or a failed read.
    pub fn value_range(&self, range: Range<u64>) -> Result<Option<Found>, StoreError> {
        self.current.as_ref().map(|at| self.readers.read(&at.item, Some(range), self.read_for)).transpose()
    }

    /// Where it stands.
    #[must_use]
    pub fn bookmark(&self) -> Bookmark {
        Bookmark::new(&self.stands())
    }

    /// Stands where another iterator stood: the next step gives what its next step would have, as far as it is
    /// in the range, and there.
    ///
    /// # Errors
    /// None of a bookmark that an iterator gave.
    pub fn resume(&mut self, bookmark: &Bookmark) -> Result<(), StoreError> {
        self.anchor = bookmark.anchor()?;
        self.heading = None;
        self.current = None;
        Ok(())
    }

    /// All keys and values from the next one on, forward.
    pub fn entries(mut self) -> impl Iterator<Item = Result<(Bytes, Found), StoreError>> {
        let mut failed = false;
        std::iter::from_fn(move || {
            let entry = if failed { Ok(None) } else { self.next_entry() };
            failed |= entry.is_err();
            entry.transpose()
        })
    }

    fn next_entry(&mut self) -> Result<Option<(Bytes, Found)>, StoreError> {
        if !self.next()? {
            return Ok(None);
        }
        let key = self.current.as_ref().map(|at| at.item.key.clone());
        Ok(key.zip(self.value()?))
    }

    fn go_from(&mut self, anchor: Anchor, heading: Heading) -> Result<bool, StoreError> {
        self.anchor = anchor;
        self.heading = None;
        self.current = None;
        self.go(heading)
    }

    fn go(&mut self, heading: Heading) -> Result<bool, StoreError> {
        if let Err(error) = self.turn(heading).and_then(|()| self.fill(heading)) {
            self.anchor = self.stands();
            self.heading = None;
            self.current = None;
            return Err(error);
        }
        self.current = self.queue.pop_front();
        match (&self.current, heading) {
            (Some(at), _) => self.queued_bytes -= at.item.slot.value_bytes(),
            (None, Heading::Forward) => self.anchor = Anchor::Behind,
            (None, Heading::Backward) => self.anchor = Anchor::Before,
        }
        Ok(self.current.is_some())
    }

    /// What the next step is counted from.
    fn stands(&self) -> Anchor {
        match &self.current {
            Some(at) => Anchor::At(at.item.key.clone()),
            None => self.anchor.clone(),
        }
    }

    /// Has the walk go this way from the anchor, unless it does.
    fn turn(&mut self, heading: Heading) -> Result<(), StoreError> {
        if self.heading == Some(heading) {
            return Ok(());
        }
        self.queue.clear();
        (self.queued_bytes, self.ended) = (0, false);
        match (heading, &self.stands()) {
            (Heading::Forward, Anchor::Before) => self.walk.seek_first()?,
            (Heading::Forward, Anchor::From(key)) => self.walk.seek(key)?,
            (Heading::Forward, Anchor::At(key) | Anchor::UpTo(key)) => self.walk.seek_after(key)?,
            (Heading::Backward, Anchor::Behind) => self.walk.seek_last()?,
            (Heading::Backward, Anchor::At(key) | Anchor::From(key)) => self.walk.seek_before(key)?,
            // The least key behind another one is that with a zero byte added.
            (Heading::Backward, Anchor::UpTo(key)) => self.walk.seek_before(&[key, &b"\0"[..]].concat())?,
            (Heading::Forward, Anchor::Behind) | (Heading::Backward, Anchor::Before) => self.ended = true,
        }
        self.heading = Some(heading);
        Ok(())
    }

    /// Takes the next key from the walk, and further ones whose values are to be read ahead.
    fn fill(&mut self, heading: Heading) -> Result<(), StoreError> {
        while !self.ended && self.has_room() {
            let found = match heading {
                Heading::Forward => self.walk.forward()?,
                Heading::Backward => self.walk.backward()?,
            };
            let Some(item) = found else {
                self.ended = true;
                break;
            };
            self.queued_bytes += item.slot.value_bytes();
            let read =
                (self.options.read_ahead > 0).then(|| self.readers.start(&item, self.read_for)).flatten();
            self.queue.push_back(Ahead { item, read });
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        let few = self.queue.len() <= self.options.read_ahead;
        self.queue.is_empty() || (few && self.queued_bytes < self.options.read_ahead_bytes)
    }
}

impl std::fmt::Debug for Iter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Iter")
            .field("anchor", &self.anchor)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
