//! Values, by what a version says of them: beside their key, in memory, or in a segment.
//!
//! A pointer names a logical place, which keeps its value for ever: value GC moves values without changing where
//! pointers lead, a segment's number is never given again, and what is written is never changed. So what is in memory under
//! a place is right as long as anybody has a pointer there.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kv_vlog::Vlog;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use super::{Found, pointer};
use crate::error::StoreError;
use crate::key::{Seq, Slot, ValuePointer};
use crate::table::{CacheUse, Hashes, sized};

/// Memory that an entry takes besides its value, about, in bytes.
const ENTRY_OVERHEAD: u64 = 128;
/// Longer values are not kept, whatever the size of the cache.
const VALUE_BYTES_MAX: u64 = 1 << 20;
/// Nor are those that are more than this share of it.
const SHARE: u64 = 64;
/// A shard of the cache has at least this many bytes, so that the longest value fits in.
const SHARD_BYTES_MIN: u64 = 2 << 20;

/// Figures of the cache of values, since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValueCacheStats {
    /// Values, and parts of them, that were found in memory.
    pub hits: u64,
    /// Those that were looked for and had to be read.
    pub misses: u64,
    /// Values in memory.
    pub values: u64,
    /// Bytes in memory.
    pub bytes: u64,
    /// Bytes that may be in memory; 0: there is no such cache.
    pub bytes_max: u64,
}

/// What a value is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadFor {
    /// A key that was asked for.
    Get,
    /// Going over many.
    Walk(CacheUse),
}

impl ReadFor {
    fn cache(self) -> CacheUse {
        match self {
            ReadFor::Get => CacheUse::Fill,
            ReadFor::Walk(cache) => cache,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Values {
    log: Arc<Vlog>,
    cache: Option<ValueCache>,
    /// Values, and parts of them, read from segments for keys that were asked for.
    got: AtomicU64,
}

impl Values {
    pub(crate) fn new(log: Arc<Vlog>, cache_bytes: u64) -> Arc<Self> {
        let cache = (cache_bytes > 0).then(|| ValueCache::new(cache_bytes));
        Arc::new(Self { log, cache, got: AtomicU64::new(0) })
    }

    pub(crate) fn cache_stats(&self) -> ValueCacheStats {
        self.cache.as_ref().map(ValueCache::stats).unwrap_or_default()
    }

    /// Values, and parts of them, that were read from segments for keys that were asked for.
    pub(crate) fn got(&self) -> u64 {
        self.got.load(Ordering::Relaxed)
    }

    /// The value that a version stands for, or the part of it that `range` names (cut at its end).
    pub(crate) fn read(
        &self,
        key: &[u8],
        revision: Seq,
        slot: &Slot,
        range: Option<Range<u64>>,
        read_for: ReadFor,
    ) -> Result<Found, StoreError> {
        let value_bytes = slot.value_bytes();
        let range = range.map(|r| {
            let start = r.start.min(value_bytes);
            start..r.end.clamp(start, value_bytes)
        });
        // A part that is all of it may stay in memory like it.
        let range = range.filter(|r| *r != (0..value_bytes));
        let value = match slot {
            Slot::Tombstone => Bytes::new(),
            Slot::Inline(bytes, _) => part(bytes, range),
            Slot::Pointer(at, _) => self.pointed(at, key, revision, range, read_for)?,
        };
        Ok(Found { value, revision, value_bytes, expires: slot.expires() })
    }

    fn pointed(
        &self,
        at: &ValuePointer,
        key: &[u8],
        revision: Seq,
        range: Option<Range<u64>>,
        read_for: ReadFor,
    ) -> Result<Bytes, StoreError> {
        let cache = read_for.cache();
        let kept = self.cache.as_ref().filter(|kept| kept.holds(at) && cache != CacheUse::Bypass);
        if let Some(value) = kept.and_then(|kept| kept.get(at, revision, cache)) {
            return Ok(part(&value, range));
        }
        self.got.fetch_add(u64::from(read_for == ReadFor::Get), Ordering::Relaxed);
        match range {
            // Only what is asked for is read and checked: not enough to keep.
            Some(range) => Ok(self.log.value_range(pointer(at), key, revision, range)?),
            None => {
                let value = self.log.decoded(pointer(at), key, revision)?;
                // Verified by now: nothing else gets in.
                if let Some(kept) = kept.filter(|_| cache == CacheUse::Fill) {
                    kept.put(at, revision, &value);
                }
                Ok(value)
            }
        }
    }
}

fn part(value: &Bytes, range: Option<Range<u64>>) -> Bytes {
    match range {
        None => value.clone(),
        Some(range) => {
            let len = value.len();
            let end = usize::try_from(range.end).unwrap_or(len).min(len);
            value.slice(usize::try_from(range.start).unwrap_or(end).min(end)..end)
        }
    }
}

/// Logical segment, and where in it.
type Place = (u64, u64);

/// A value, and which version it is of: a pointer that leads to another one's place does not get it.
#[derive(Clone, Debug)]
struct Kept {
    revision: Seq,
    value: Bytes,
}

#[derive(Clone, Debug)]
struct ByBytes;

impl Weighter<Place, Kept> for ByBytes {
    fn weight(&self, _: &Place, kept: &Kept) -> u64 {
        kept.value.len() as u64 + ENTRY_OVERHEAD
    }
}

/// Whole values, uncompressed.
#[derive(Debug)]
struct ValueCache {
    values: Cache<Place, Kept, ByBytes, Hashes>,
    value_bytes_max: u64,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl ValueCache {
    fn new(bytes: u64) -> Self {
        let options = sized(bytes, SHARD_BYTES_MIN);
        Self {
            values: Cache::with_options(options, ByBytes, Hashes::default(), DefaultLifecycle::default()),
            value_bytes_max: (bytes / SHARE).min(VALUE_BYTES_MAX),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Whether the value may be in here at all.
    fn holds(&self, at: &ValuePointer) -> bool {
        at.value_bytes <= self.value_bytes_max
    }

    fn get(&self, at: &ValuePointer, revision: Seq, cache: CacheUse) -> Option<Bytes> {
        let found = match cache {
            CacheUse::Fill => self.values.get(&place(at)),
            CacheUse::Peek => self.values.peek(&place(at)),
            CacheUse::Bypass => None,
        };
        let found = found.filter(|kept| kept.revision == revision).map(|kept| kept.value);
        // Who goes over very much says nothing about how much is asked for again.
        if cache == CacheUse::Fill {
            let counter = if found.is_some() { &self.hits } else { &self.misses };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    fn put(&self, at: &ValuePointer, revision: Seq, value: &Bytes) {
        // A copy: what was read may be a small part of the memory that it keeps, of a request or a record.
        let value = Bytes::copy_from_slice(value);
        self.values.insert(place(at), Kept { revision, value });
    }

    fn stats(&self) -> ValueCacheStats {
        ValueCacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            values: self.values.len() as u64,
            bytes: self.values.weight(),
            bytes_max: self.values.capacity(),
        }
    }
}

fn place(at: &ValuePointer) -> Place {
    (at.segment, u64::from(at.offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u64, offset: u32, value_bytes: u64) -> ValuePointer {
        ValuePointer { segment, offset, length: 100, value_bytes }
    }

    #[test]
    fn a_place_gives_its_value_to_its_version_only() {
        let cache = ValueCache::new(1 << 20);
        cache.put(&at(1, 2, 3), 7, &Bytes::from_static(b"abc"));
        assert_eq!(cache.get(&at(1, 2, 3), 7, CacheUse::Fill).unwrap(), "abc");
        assert_eq!(cache.get(&at(1, 2, 3), 7, CacheUse::Peek).unwrap(), "abc");
        for (segment, offset, revision) in [(2, 2, 7), (1, 3, 7), (1, 2, 8)] {
            assert_eq!(cache.get(&at(segment, offset, 3), revision, CacheUse::Fill), None);
        }
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses, stats.values), (1, 3, 1), "a peek is not counted");
    }

    #[test]
    fn long_values_stay_out_and_memory_is_bounded() {
        let cache = ValueCache::new(64 << 10);
        assert!(cache.holds(&at(1, 1, 1024)) && !cache.holds(&at(1, 1, 1025)));
        assert!(!ValueCache::new(1 << 40).holds(&at(1, 1, (1 << 20) + 1)));
        for n in 0..1000 {
            cache.put(&at(1, n, 1000), 1, &Bytes::from(vec![0; 1000]));
            assert!(cache.stats().bytes <= 64 << 10);
        }
        assert!(cache.stats().values > 40, "{:?}", cache.stats());
    }

    #[test]
    fn caches_of_any_size_find_what_was_put() {
        for megabytes in [1, 2, 3, 4, 8, 16, 100, 1024] {
            let cache = ValueCache::new(megabytes << 20);
            for n in 0..50 {
                let at = at(n / 7, n as u32 * 4096, 3000);
                cache.put(&at, n, &Bytes::from(vec![0; 3000]));
                assert!(
                    cache.get(&at, n, CacheUse::Fill).is_some(),
                    "{megabytes} MiB, {n}: {:?}",
                    cache.stats()
                );
            }
        }
    }

    #[test]
    fn what_is_kept_keeps_no_other_memory() {
        let cache = ValueCache::new(1 << 20);
        let frame = Bytes::from(vec![7; 1 << 20]);
        cache.put(&at(1, 2, 10), 1, &frame.slice(100..110));
        drop(cache.get(&at(1, 2, 10), 1, CacheUse::Fill).unwrap());
        assert!(frame.is_unique(), "the frame is nobody else's");
    }

    #[test]
    fn a_part_is_cut_at_the_end() {
        let value = Bytes::from_static(b"abcdef");
        for (range, wanted) in [(0..3, "abc"), (4..9, "ef"), (9..12, ""), (6..6, "")] {
            assert_eq!(part(&value, Some(range)), wanted);
        }
    }
}
