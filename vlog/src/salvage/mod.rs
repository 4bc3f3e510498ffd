//! Reading what is left of segments that are damaged, misnamed or unknown to any manifest.
//!
//! Everywhere else the first thing that is wrong ends the reading, because what follows may have been acknowledged.
//! Here it is named, and what can be verified behind it is read: a group by its own header, a value by its own
//! checksums, key and version. So nothing is believed that does not prove itself, and no damage hides what lies
//! behind it. Nothing is written.

mod entry;
mod scan;
mod values;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use kv_vfs::{BLOCK, File, IoMode, Vfs};

use crate::error::{VlogError, file_name};
use crate::format::{GROUP_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use crate::group::GroupHeader;
use crate::header::SegmentHeader;
use crate::types::{Entry, Expiry, Vote};

pub use values::{NoValue, SalvagedValues};

/// Something that a damaged segment still says, in the order in which it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Salvaged {
    /// An entry. Large values are pointers, and so are those that do not match their checksums.
    Entry(Entry),
    /// A vote.
    Vote(Vote),
    /// Entries from this index on are void.
    Truncate(u64),
    /// Entries below this index are committed.
    Committed(u64),
    /// Places of value records whose headers are whole; in segments of values.
    Values(Vec<ValuePlace>),
    /// Bytes that cannot be read, with something behind them that can.
    Damage {
        /// Where they begin.
        from: u64,
        /// Where they end.
        to: u64,
        /// What is wrong with them.
        why: String,
    },
    /// What follows, up to the end, is no group: a torn write, or damage at the end.
    Torn {
        /// Where it begins.
        from: u64,
        /// What is wrong with it.
        why: String,
    },
}

/// A value record that stands by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValuePlace {
    /// Where it begins, in bytes from the start of the file.
    pub offset: u32,
    /// Its length in bytes.
    pub length: u32,
    /// The key.
    pub key: Bytes,
    /// The version of the key.
    pub seq: u64,
    /// Length of the value, uncompressed.
    pub value_bytes: u64,
    /// When it goes away.
    pub expires: Expiry,
}

/// What a segment's groups say it is: all that is known of one whose header is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenAs {
    /// The logical segment.
    pub segment: u64,
    /// Generation of the file.
    pub generation: u32,
    /// Open of the directory that wrote it.
    pub epoch: u64,
}

/// A segment file, whatever is left of it.
#[derive(Debug)]
pub struct SalvageFile {
    path: PathBuf,
    file: Arc<dyn File>,
    bytes: u64,
    header: Result<SegmentHeader, String>,
    written_as: Option<WrittenAs>,
    /// Whether the operating system has refused to read some of it.
    is_unreadable: AtomicBool,
}

impl SalvageFile {
    /// Opens a file and finds out which segment it holds.
    ///
    /// # Errors
    /// It cannot be opened, or a newer program wrote it.
    pub fn open(vfs: &dyn Vfs, path: &Path) -> Result<Self, VlogError> {
        let file = vfs.open_read(path, IoMode::Buffered)?;
        let bytes = file.len()?;
        let mut found = Self {
            path: path.into(),
            file,
            bytes,
            header: Err(String::new()),
            written_as: None,
            is_unreadable: AtomicBool::new(false),
        };
        found.header = match found.read(0, BLOCK.min(bytes as usize)) {
            Ok(block) => match SegmentHeader::decode(path, &block) {
                Ok(header) => Ok(header),
                Err(VlogError::Corruption { why, .. }) => Err(why),
                Err(newer) => return Err(newer),
            },
            Err(why) => Err(why),
        };
        found.written_as = match &found.header {
            Ok(SegmentHeader { identity, .. }) => Some(WrittenAs {
                segment: identity.segment,
                generation: identity.generation,
                epoch: identity.epoch,
            }),
            Err(_) => found.first_group().map(|group| WrittenAs {
                segment: group.segment,
                generation: group.generation,
                epoch: group.epoch,
            }),
        };
        Ok(found)
    }

    /// Name of the file.
    #[must_use]
    pub fn name(&self) -> String {
        file_name(&self.path)
    }

    /// Its length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What its header says, or what is wrong with the header.
    pub fn header(&self) -> Result<&SegmentHeader, &str> {
        self.header.as_ref().map_err(String::as_str)
    }

    /// Which segment it holds, by its header or else by its groups; `None`: neither says so.
    #[must_use]
    pub fn written_as(&self) -> Option<WrittenAs> {
        self.written_as
    }

    /// The first group header in the file that is whole.
    fn first_group(&self) -> Option<GroupHeader> {
        let blocks = (u64::from(SEGMENT_HEADER_BYTES)..self.bytes).step_by(BLOCK);
        blocks.into_iter().find_map(|offset| self.group_header(offset).ok())
    }

    fn group_header(&self, offset: u64) -> Result<GroupHeader, String> {
        let mut bytes = [0; GROUP_HEADER_BYTES as usize];
        let got = self.file.read_at(&mut bytes, offset).map_err(|error| self.unreadable(&error))?;
        GroupHeader::decode(bytes.get(..got).unwrap_or_default()).map_err(str::to_owned)
    }

    /// A sector that cannot be read is damage like any other.
    fn read(&self, offset: u64, len: usize) -> Result<Bytes, String> {
        if offset.saturating_add(len as u64) > self.bytes {
            return Err("the file ends before".into());
        }
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset).map_err(|error| self.unreadable(&error))?;
        Ok(bytes.into())
    }

    fn unreadable(&self, error: &std::io::Error) -> String {
        self.is_unreadable.store(true, Ordering::Relaxed);
        format!("cannot be read: {error}")
    }
}

#[cfg(test)]
mod tests;
