//! Segments: the Raft log, the write-ahead log and the value store in one set of rolling files.
//!
//! Every value is written once, as part of the log entry that brings it; a [`Pointer`] into the segment is
//! all that the index above keeps. The log knows `(term, index, operations)` and nothing of consensus.
//!
//! ```text
//! append(entries) -> positions are assigned at once, the entries are readable at once
//!                 -> one writer drains what waits into a group: one write, one sync, then all callbacks
//! ```
//!
//! Invariants:
//! - A callback runs only after the sync that covers its record, in log order.
//! - A block that holds acknowledged records is never written again.
//! - After a failed write or sync nothing is written or acknowledged any more ([`VlogError::Poisoned`]).
//! - Every read verifies the header and value checksums, the key and the sequence number.
//!
//! The file format is described byte by byte in `docs/format/segment.md`.

mod error;
mod field;
mod files;
mod footer;
pub mod format;
mod group;
mod header;
mod index;
mod ledger;
mod log;
mod lookup;
mod options;
mod pool;
mod read;
mod record;
mod recover;
mod relocate;
mod remap;
mod salvage;
mod scan;
mod segment;
mod settle;
mod state;
mod tail;
mod types;
mod value;
mod values;
mod verify;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod example;
#[cfg(test)]
mod floor_tests;
#[cfg(test)]
mod lazy_tests;
#[cfg(all(test, feature = "planted-bugs"))]
mod planted_tests;
#[cfg(test)]
mod recycle_tests;
#[cfg(test)]
mod settle_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod values_tests;

pub use error::VlogError;
pub use files::SegmentFiles;
pub use footer::SegmentSummary;
pub use group::GroupHeader;
pub use header::{LogEnd, SegmentHeader, SegmentIdentity};
pub use ledger::{Ledger, NextFile, OpenedSegment, SealedSegment};
pub use log::{LogState, Vlog};
pub use options::{Callback, OnFatal, VlogOptions};
pub use pool::{FilePool, FreeFile};
pub use recover::{RecoverInput, Recovered, Replay, SegmentInput, SegmentKind, ledger_number, recover};
pub use relocate::{ValueFile, ValueHead, ValueReader, read_moves};
pub use remap::{Moved, PageCache};
pub use salvage::{NoValue, SalvageFile, Salvaged, SalvagedValues, ValuePlace, WrittenAs};
pub use scan::{Found, Record, ScanEnd, SegmentScanner};
pub use tail::Appended;
pub use types::{
    Entry, Expect, Expiry, LogTime, Op, OpValue, Payload, Pointer, Position, ValueRecord, Vote, seq_of,
};
pub use value::{Codec, Compression, StoredValue, UnknownCodec};
pub use values::ValueSegmentWriter;
pub use verify::{Verified, verify_segment, walk_segment};
