//! Values by their pointers, wherever they are.

use std::collections::BTreeMap;

use super::{SalvageFile, Salvaged};
use crate::format::{GROUP_HEADER_BYTES, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, kind};
use crate::record;
use crate::remap::{self, PageCache, Remap};
use crate::types::{Op, OpValue, Pointer};
use crate::value::StoredValue;

/// Version, offset and length of values, ascending.
type Versions = Vec<(u64, u32, u32)>;

/// The remap of a file, verified.
#[derive(Debug)]
struct MovedHere {
    head: Remap,
    /// Where in the file the body begins whose pages the head names.
    body_at: u64,
}

/// Why a value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{why}", place.as_ref().map_or(String::new(), |(file, offset)| format!("{file}, offset {offset}: ")))]
pub struct NoValue {
    /// The file in which it was looked for last, and where; `None`: none holds its segment.
    pub place: Option<(String, u64)>,
    /// What is wrong.
    pub why: String,
}

/// Files in which a value may be.
///
/// A pointer leads to a segment and an offset, and one of these says where that is: the file that was written as that
/// segment, a remap, or, where a remap is damaged, the version of each value in that file. A version of a key
/// has one value, which says of itself what it is: so whichever place has it, has the right one.
#[derive(Debug, Default)]
pub struct SalvagedValues {
    files: Vec<(SalvageFile, Option<MovedHere>)>,
    /// Files that were written as a segment.
    written_as: BTreeMap<u64, Vec<usize>>,
    /// All values of the files whose remap is damaged.
    by_version: Vec<(usize, Versions)>,
    pages: PageCache,
}

impl SalvagedValues {
    /// Adds a file; `values_end` is where the values end, and the remap begins, in one that value GC has written. Says
    /// what is wrong with the remap, if something is.
    pub fn add(&mut self, file: SalvageFile, values_end: Option<u64>) -> Option<String> {
        let number = self.files.len();
        let (remap, damage) = match values_end.map(|end| (end, file.remap(end))) {
            Some((_, Ok(remap))) => (Some(remap), None),
            Some((end, Err(why))) => {
                self.by_version.push((number, file.versions(end)));
                (None, Some(why))
            }
            None => (None, None),
        };
        if let Some(written_as) = file.written_as {
            self.written_as.entry(written_as.segment).or_default().push(number);
        }
        self.files.push((file, remap));
        damage
    }

    /// All files, in the order in which they were added.
    pub fn files(&self) -> impl Iterator<Item = &SalvageFile> {
        self.files.iter().map(|(file, _)| file)
    }

    /// The value that a pointer of this version of this key leads to, verified.
    ///
    /// # Errors
    /// Why there is none.
    pub fn value(&self, pointer: Pointer, key: &[u8], seq: u64) -> Result<StoredValue, NoValue> {
        let mut none = NoValue { place: None, why: format!("no file holds segment {}", pointer.segment) };
        for (file, at) in self.places(pointer, seq) {
            match file.value(at, key, seq) {
                Ok(value) => return Ok(value),
                Err(why) => none = NoValue { place: Some((file.name(), at.offset.into())), why },
            }
        }
        Err(none)
    }

    fn places(&self, pointer: Pointer, seq: u64) -> Vec<(&SalvageFile, Pointer)> {
        let own = self.written_as.get(&pointer.segment).into_iter().flatten();
        let own = own.filter_map(|number| self.files.get(*number));
        let mut places: Vec<_> = own.map(|(file, _)| (file, pointer)).collect();
        for (number, (file, remap)) in self.files.iter().enumerate() {
            let Some(MovedHere { head, body_at }) = remap else { continue };
            let Some(page) = head.page(pointer.segment, pointer.offset) else { continue };
            let at = body_at + page.at as u64;
            let entries = match self.pages.get(number as u64, at) {
                Some(entries) => entries,
                None => {
                    let read = file.read(at, page.bytes).unwrap_or_default();
                    let Ok(entries) = remap::entries_of(&read) else { continue };
                    self.pages.put(number as u64, at, entries.clone());
                    entries
                }
            };
            if let Some(offset) = remap::find(&entries, pointer.offset) {
                places.push((file, Pointer { offset, ..pointer }));
            }
        }
        for (number, versions) in &self.by_version {
            let found = versions.binary_search_by_key(&seq, |(version, _, _)| *version);
            if let Some((_, offset, length)) = found.ok().and_then(|at| versions.get(at))
                && let Some((file, _)) = self.files.get(*number)
            {
                places.push((file, Pointer { offset: *offset, length: *length, ..pointer }));
            }
        }
        places
    }
}

impl SalvageFile {
    /// Where the last group of values ends, and whether a footer stands there; `None` where it holds no values.
    #[must_use]
    pub fn values_end(&self) -> Option<(u64, bool)> {
        let mut at = u64::from(SEGMENT_HEADER_BYTES);
        let mut end = None;
        while at < self.bytes {
            let Ok(group) = self.group(at, self.bytes, 0) else {
                at += kv_vfs::BLOCK as u64;
                continue;
            };
            let record = self.read(at + u64::from(GROUP_HEADER_BYTES), 1).unwrap_or_default();
            match (record.first(), end) {
                (Some(&kind::VALUES), _) => end = Some((at + u64::from(group.length), false)),
                (Some(&kind::FOOTER), Some((values_end, _))) => end = Some((values_end, true)),
                _ => {}
            }
            at += u64::from(group.length);
        }
        end
    }

    /// The value record at this place, if it is that of this version of this key.
    fn value(&self, at: Pointer, key: &[u8], seq: u64) -> Result<StoredValue, String> {
        let bytes = self.read(u64::from(at.offset), at.length as usize)?;
        match record::parse_op(&bytes)? {
            (header, Op::Put { key: found, value: OpValue::Full(value) })
                if found == key && header.seq == seq =>
            {
                Ok(value)
            }
            _ => Err("another key or version is where the value was".into()),
        }
    }

    /// The remap in the footer that begins here, verified as a whole.
    fn remap(&self, footer_at: u64) -> Result<MovedHere, String> {
        let group = self.group(footer_at, self.bytes, 0)?;
        let before = GROUP_HEADER_BYTES + RECORD_HEADER_BYTES;
        let body_at = footer_at + u64::from(before);
        let body = self.read(body_at, group.used.saturating_sub(before) as usize)?;
        remap::decode_all(&body)?;
        let head = remap::head_bytes(&body).and_then(|bytes| body.get(..bytes)).unwrap_or_default();
        Ok(MovedHere { head: Remap::decode(head, body.len())?, body_at })
    }

    /// The values before `end`.
    fn versions(&self, end: u64) -> Versions {
        let mut versions = Vec::new();
        let all = self.salvage(end, true, 0, &mut |found| {
            if let Salvaged::Values(places) = found {
                versions.extend(places.iter().map(|place| (place.seq, place.offset, place.length)));
            }
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(()) = all;
        versions.sort_unstable();
        versions
    }
}
