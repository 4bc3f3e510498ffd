//! Where values of other segments lie in a segment that value GC has written: the body of its footer.
//!
//! ```text
//! head = [segments u32][head bytes u32]
//!        ([segment u64][entries u32][first old offset u32 of each page]*)* [crc u32 of all before]
//! then pages of up to 512 entries, each of one segment: ([old offset u32][new offset u32])* [crc u32]
//! ```
//! Segments ascend, and so do the old offsets of each. The head stays in memory once it is needed; a lookup reads
//! one page, through a small cache.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::field::Fields;
use crate::format::REMAP_PAGE_ENTRIES;

/// Length of what comes before the first segment of the head.
pub(crate) const FIXED: usize = 8;
const SEGMENT_BYTES: usize = 12;
const ENTRY_BYTES: usize = 8;
const CRC_BYTES: usize = 4;
const PAGE_BYTES: usize = REMAP_PAGE_ENTRIES * ENTRY_BYTES + CRC_BYTES;

/// A value that was moved: what pointers say, and where it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moved {
    /// Logical segment of the pointers.
    pub segment: u64,
    /// Their offset.
    pub from: u32,
    /// Offset in the segment that holds the value now.
    pub to: u32,
}

/// The footer's body.
///
/// # Panics
/// Unless the moves strictly ascend by segment and old offset: a bug of the caller.
pub(crate) fn encode(moves: &[Moved]) -> Vec<u8> {
    let ascend = moves.is_sorted_by(|a, b| (a.segment, a.from) < (b.segment, b.from));
    assert!(ascend, "moves out of order");
    let parts: Vec<&[Moved]> = moves.chunk_by(|a, b| a.segment == b.segment).collect();
    let pages: usize = parts.iter().map(|part| part.len().div_ceil(REMAP_PAGE_ENTRIES)).sum();
    let head_bytes = FIXED + parts.len() * SEGMENT_BYTES + pages * 4 + CRC_BYTES;
    let mut out = Vec::with_capacity(head_bytes + moves.len() * ENTRY_BYTES + pages * CRC_BYTES);
    out.extend_from_slice(&(parts.len() as u32).to_le_bytes());
    out.extend_from_slice(&(head_bytes as u32).to_le_bytes());
    for part in &parts {
        let segment = part.first().map_or(0, |first| first.segment);
        out.extend_from_slice(&segment.to_le_bytes());
        out.extend_from_slice(&(part.len() as u32).to_le_bytes());
        for page in part.chunks(REMAP_PAGE_ENTRIES) {
            out.extend_from_slice(&page.first().map_or(0, |first| first.from).to_le_bytes());
        }
    }
    seal_from(&mut out, 0);
    for page in parts.iter().flat_map(|part| part.chunks(REMAP_PAGE_ENTRIES)) {
        let start = out.len();
        for moved in page {
            out.extend_from_slice(&moved.from.to_le_bytes());
            out.extend_from_slice(&moved.to.to_le_bytes());
        }
        seal_from(&mut out, start);
    }
    out
}

fn seal_from(out: &mut Vec<u8>, start: usize) {
    let crc = crc32fast::hash(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&crc.to_le_bytes());
}

/// How long the head is that begins with these [`FIXED`] bytes.
pub(crate) fn head_bytes(fixed: &[u8]) -> Option<usize> {
    Fields(fixed).u32(4).map(|bytes| bytes as usize)
}

/// The head: which page holds what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remap {
    parts: BTreeMap<u64, Part>,
}

/// The pages of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    /// Where in the body the first page begins; the others follow it.
    at: usize,
    entries: usize,
    /// First old offset of each page, ascending.
    firsts: Vec<u32>,
}

/// Where in the body a page lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PagePlace {
    pub at: usize,
    pub bytes: usize,
}

impl Remap {
    /// Reads a head whose body is this long.
    pub(crate) fn decode(head: &[u8], body_bytes: usize) -> Result<Self, &'static str> {
        let (content, crc) = head.split_last_chunk::<CRC_BYTES>().ok_or("the remap is cut short")?;
        if crc32fast::hash(content) != u32::from_le_bytes(*crc) {
            return Err("checksum of the remap does not match");
        }
        Self::parts(content, body_bytes).ok_or("the remap makes no sense")
    }

    fn parts(content: &[u8], body_bytes: usize) -> Option<Self> {
        let f = Fields(content);
        let count = f.u32(0)?;
        let (mut parts, mut at) = (BTreeMap::new(), FIXED);
        let mut page_at = content.len() + CRC_BYTES;
        for _ in 0..count {
            let (segment, entries) = (f.u64(at)?, f.u32(at + 8)? as usize);
            let pages = entries.div_ceil(REMAP_PAGE_ENTRIES);
            let firsts = f.slice(at + SEGMENT_BYTES, pages.checked_mul(4)?)?;
            let firsts: Vec<u32> = firsts.chunks_exact(4).filter_map(|first| Fields(first).u32(0)).collect();
            let follows = parts.last_key_value().is_none_or(|(last, _)| *last < segment);
            if entries == 0 || !follows || !firsts.is_sorted_by(|a, b| a < b) {
                return None;
            }
            at += SEGMENT_BYTES + pages * 4;
            parts.insert(segment, Part { at: page_at, entries, firsts });
            page_at = page_at.checked_add(entries * ENTRY_BYTES + pages * CRC_BYTES)?;
        }
        (at == content.len() && page_at == body_bytes).then_some(Self { parts })
    }

    /// The page that says where the value is, if any does.
    pub(crate) fn page(&self, segment: u64, from: u32) -> Option<PagePlace> {
        let part = self.parts.get(&segment)?;
        part.place(part.firsts.partition_point(|first| *first <= from).checked_sub(1)?)
    }

    /// All pages, in order, with the segments they are of.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (u64, PagePlace)> + '_ {
        let places = |(segment, part): (&u64, &Part)| {
            let places: Vec<_> = (0..part.firsts.len()).filter_map(|page| part.place(page)).collect();
            let segment = *segment;
            places.into_iter().map(move |place| (segment, place))
        };
        self.parts.iter().flat_map(places)
    }
}

impl Part {
    fn place(&self, page: usize) -> Option<PagePlace> {
        let entries = self.entries.checked_sub(page * REMAP_PAGE_ENTRIES)?.min(REMAP_PAGE_ENTRIES);
        Some(PagePlace { at: self.at + page * PAGE_BYTES, bytes: entries * ENTRY_BYTES + CRC_BYTES })
    }
}

/// The entries of a page as it was read, verified.
pub(crate) fn entries_of(page: &Bytes) -> Result<Bytes, &'static str> {
    let (entries, crc) = page.split_last_chunk::<CRC_BYTES>().ok_or("a page of the remap is cut short")?;
    if crc32fast::hash(entries) != u32::from_le_bytes(*crc) {
        return Err("checksum of a page of the remap does not match");
    }
    Ok(page.slice_ref(entries))
}

/// Where the value is that was at `from`, by a page's verified entries.
pub(crate) fn find(entries: &[u8], from: u32) -> Option<u32> {
    let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
    let old = |entry: &[u8; ENTRY_BYTES]| Fields(entry).u32(0);
    let at = entries.binary_search_by(|entry| old(entry).cmp(&Some(from))).ok()?;
    Fields(entries.get(at)?).u32(4)
}

/// All that a whole body says, verified.
pub(crate) fn decode_all(body: &Bytes) -> Result<Vec<Moved>, &'static str> {
    let head = head_bytes(body).and_then(|bytes| body.get(..bytes)).ok_or("the remap is cut short")?;
    let remap = Remap::decode(head, body.len())?;
    let mut moves: Vec<Moved> = Vec::new();
    for (segment, place) in remap.pages() {
        let page = body.get(place.at..place.at + place.bytes).ok_or("the remap is cut short")?;
        let entries = entries_of(&body.slice_ref(page))?;
        let first = remap.page(segment, Fields(&entries).u32(0).unwrap_or_default());
        if first != Some(place) {
            return Err("a page of the remap is not the one that its head names");
        }
        moves.extend(entries.chunks_exact(ENTRY_BYTES).filter_map(|entry| {
            Some(Moved { segment, from: Fields(entry).u32(0)?, to: Fields(entry).u32(4)? })
        }));
    }
    if !moves.is_sorted_by(|a, b| (a.segment, a.from) < (b.segment, b.from)) {
        return Err("entries of the remap are out of order");
    }
    Ok(moves)
}

/// Pages that were read last, of 4 KiB each.
#[derive(Debug)]
pub struct PageCache {
    pages_max: usize,
    pages: Mutex<Pages>,
}

impl Default for PageCache {
    fn default() -> Self {
        Self::of(Self::PAGES)
    }
}

#[derive(Debug, Default)]
struct Pages {
    /// By file number and place in the file.
    pages: BTreeMap<(u64, u64), Bytes>,
    /// Oldest first.
    order: VecDeque<(u64, u64)>,
}

impl PageCache {
    const PAGES: usize = 2048;

    /// Room for so many pages.
    #[must_use]
    pub fn of(pages_max: usize) -> Self {
        Self { pages_max, pages: Mutex::default() }
    }

    pub(crate) fn get(&self, file: u64, at: u64) -> Option<Bytes> {
        self.pages.lock().pages.get(&(file, at)).cloned()
    }

    pub(crate) fn put(&self, file: u64, at: u64, entries: Bytes) {
        let mut cache = self.pages.lock();
        if cache.pages.insert((file, at), entries).is_none() {
            cache.order.push_back((file, at));
        }
        if cache.order.len() > self.pages_max
            && let Some(oldest) = cache.order.pop_front()
        {
            cache.pages.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lookup(body: &Bytes, segment: u64, from: u32) -> Option<u32> {
        let head = &body[..head_bytes(body).unwrap()];
        let place = Remap::decode(head, body.len()).unwrap().page(segment, from)?;
        find(&entries_of(&body.slice(place.at..place.at + place.bytes)).unwrap(), from)
    }

    fn some(segments: &[(u64, u32)]) -> Vec<Moved> {
        let of = |(segment, count): &(u64, u32)| {
            let segment = *segment;
            (0..*count).map(move |n| Moved { segment, from: 4096 + n * 70, to: 9_000 - n })
        };
        segments.iter().flat_map(of).collect()
    }

    #[test]
    fn each_value_is_found_and_no_other() {
        let moves = some(&[(3, 1), (5, 512), (6, 513), (9, 1600)]);
        let body = Bytes::from(encode(&moves));
        assert_eq!(decode_all(&body).unwrap(), moves);
        for moved in &moves {
            assert_eq!(lookup(&body, moved.segment, moved.from), Some(moved.to));
            assert_eq!(lookup(&body, moved.segment, moved.from + 1), None);
        }
        assert_eq!(
            (lookup(&body, 4, 4096), lookup(&body, 3, 4095), lookup(&body, 3, 5000)),
            (None, None, None)
        );
        assert_eq!(decode_all(&encode(&[]).into()).unwrap(), []);
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let body = encode(&some(&[(3, 2), (5, 513)]));
        for bit in (0..body.len() * 8).step_by(3) {
            let mut flipped = body.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_all(&flipped.into()).is_err(), "bit {bit}");
        }
        for cut in 0..body.len() {
            assert!(decode_all(&Bytes::copy_from_slice(&body[..cut])).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn counts_that_lie_are_refused_whatever_the_checksum() {
        let head = |bytes: &[u8]| [bytes, &crc32fast::hash(bytes).to_le_bytes()[..]].concat();
        for bytes in [
            &[1, 0, 0, 0, 8, 0, 0, 0][..],
            &[0xff, 0xff, 0xff, 0xff, 8, 0, 0, 0],
            &[1, 0, 0, 0, 24, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 24, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        ] {
            let body = head(bytes);
            assert!(Remap::decode(&body, body.len()).is_err());
        }
    }

    #[test]
    fn the_cache_is_bounded() {
        let cache = PageCache::default();
        for at in 0..3 * PageCache::PAGES as u64 {
            cache.put(1, at, Bytes::from_static(b"page"));
            assert!(cache.get(1, at).is_some());
        }
        assert!(cache.get(1, 0).is_none() && cache.pages.lock().pages.len() == PageCache::PAGES);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Remap::decode(&bytes, bytes.len());
            let _ = decode_all(&bytes.into());
        }
    }
}
