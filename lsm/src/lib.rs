//! The embedded engine: keys and pointers in memtables and tables, values in the segments of the log.
//!
//! [`Db`] is a database to embed. [`Store`] is the same without the decision what is committed, for a
//! consensus library to drive. Below them: [`memtable`], [`table`], [`merge`] and [`compaction`].

pub mod compaction;
pub mod cursor;
mod db;
mod error;
pub mod gc;
pub mod key;
pub mod memtable;
pub mod merge;
pub mod offline;
mod options;
mod store;
pub mod table;

pub use db::{Db, Durability, WriteBatch};
pub use error::StoreError;
pub use options::Options;
pub use store::{
    Applied, Collected, Collection, Environment, Export, ExportRecord, ExportValue, Found, GcReport, GcRun,
    NewStore, Receiver, Resolver, Scan, ScanItem, ScanRange, SegmentLine, Snapshot, Store, segment_lines,
    verify_segment,
};
