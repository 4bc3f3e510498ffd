//! What a collection will cost and bring, before a byte of it is read.

use kv_vlog::format::{GROUP_HEADER_BYTES, RECORD_HEADER_BYTES, REMAP_PAGE_ENTRIES, round_up};

use super::usage::FileUse;

/// A collection, in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Files to be collected, the one with most garbage first.
    pub files: Vec<u64>,
    /// Values to be copied.
    pub values: u64,
    /// Bytes of values to be read of the old files. What is read before, to put them in the order of their keys, is not
    /// in it: headers and keys, and, where values are small, what lies between.
    pub read_bytes: u64,
    /// Length of the new file.
    pub written_bytes: u64,
    /// Length of the old files. Both are there until the old ones are removed, so that the disk holds
    /// `written_bytes` more at the peak.
    pub freed_bytes: u64,
}

impl Plan {
    /// The plan to collect these files, where a group takes no further value beyond so many bytes.
    #[must_use]
    pub fn of<'a>(files: impl IntoIterator<Item = &'a FileUse>, group_bytes_max: u64) -> Self {
        let mut plan = Self::default();
        let mut segments = 0;
        for found in files {
            plan.files.push(found.file);
            plan.values += found.live_values;
            plan.read_bytes += found.live_bytes;
            plan.freed_bytes += found.file_bytes;
            segments += found.segments.len() as u64;
        }
        if let Some(length) = plan.read_bytes.checked_div(plan.values) {
            plan.written_bytes =
                values_bytes(plan.values, length, group_bytes_max) + remap_bytes(plan.values, segments);
        }
        plan
    }

    /// What the disk holds less afterwards; negative where it holds more.
    #[must_use]
    pub fn reclaimed_bytes(&self) -> i64 {
        self.freed_bytes as i64 - self.written_bytes as i64
    }

    /// Extra bytes on the disk at the peak.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.written_bytes
    }
}

/// Length of a segment of values of this average length, without its footer.
fn values_bytes(values: u64, length: u64, group_bytes_max: u64) -> u64 {
    let overhead = u64::from(GROUP_HEADER_BYTES + RECORD_HEADER_BYTES);
    let in_group = (group_bytes_max.saturating_sub(overhead) / length.max(1)).clamp(1, u16::MAX.into());
    let full = values / in_group;
    let last = values % in_group;
    let group = |values: u64| if values == 0 { 0 } else { round_up(overhead + values * length) };
    kv_vfs::BLOCK as u64 + full * group(in_group) + group(last)
}

/// Length of a footer that says where so many values of so many segments are.
pub(super) fn remap_bytes(values: u64, segments: u64) -> u64 {
    let pages = values / REMAP_PAGE_ENTRIES as u64 + segments;
    round_up(
        u64::from(GROUP_HEADER_BYTES + RECORD_HEADER_BYTES) + 12 + segments * 12 + values * 8 + pages * 8,
    )
}
