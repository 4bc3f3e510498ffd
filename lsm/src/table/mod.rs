//! Tables: sorted, immutable files of versions.
//!
//! ```text
//! data blocks | filter | references | properties | index | footer
//! data blocks | (filter, index)+ | references | properties | index of the indexes | footer
//! ```
//! The second form is that of large tables: what is needed of it is loaded when it is needed.
//! The format is described byte by byte in `docs/format/sst.md`. Reading order: `format`, `stored` (blocks
//! as stored), `block` (their content), the sections, then [`TableWriter`] and [`TableReader`].

mod ahead;
mod block;
mod cache;
mod cursor;
mod error;
mod expiries;
mod filter;
mod format;
mod index;
mod input;
mod partition;
mod places;
mod properties;
mod reader;
mod refs;
mod salvage;
mod stored;
mod verify;
mod writer;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use cache::{CacheStats, CacheUse, TableCaches};
pub(crate) use cache::{Hashes, data_blocks_read_here, sized};
pub use cursor::{LevelCursor, TableCursor};
pub use error::TableError;
pub use expiries::Expiries;
pub use format::{FORMAT_VERSION, INLINE_BYTES_MAX, TableIdentity};
pub use properties::Properties;
pub use reader::TableReader;
pub use refs::SegmentOffsets;
pub(crate) use salvage::{LostKeys, salvage};
pub use writer::{TableOptions, TableSummary, TableWriter};
