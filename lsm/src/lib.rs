//! The embedded engine: keys and pointers in memtables and tables, values in the segments of the log.
//!
//! [`Db`] is a database to embed. [`Store`] is the same without the decision what is committed, for a
//! consensus library to drive. Below them: [`memtable`], [`table`], [`merge`] and [`compaction`].
//!
//! ```
//! use kv_lsm::{Db, Durability, Expect, IterOptions, Options, ScanRange, WriteBatch};
//!
//! # let dir = tempfile::tempdir()?;
//! let db = Db::open(dir.path(), Options::default())?;
//!
//! // Durable on return; or, with `Durability::Batched`, a moment later.
//! db.put(b"user/ann", "1")?;
//! let mut batch = WriteBatch::default();
//! batch.check(b"user/ann", Expect::Seq(db.get(b"user/ann")?.unwrap().revision));
//! batch.put(b"user/ann", "2").put(b"user/bob", vec![7; 1 << 20]).durability(Durability::Batched);
//! db.write(batch)?;
//!
//! // Both ways over a range, as of one moment; keys alone read no value.
//! let options = IterOptions { range: ScanRange::prefix(b"user/"), ..IterOptions::default() };
//! let mut iter = db.iter(options);
//! assert!(iter.seek_last()?);
//! assert_eq!((iter.key(), iter.value_bytes()), (Some(&b"user/bob"[..]), Some(1 << 20)));
//! assert_eq!(iter.value_range(0..3)?.unwrap().value, vec![7; 3]);
//! assert!(iter.prev()? && !iter.prev()?);
//!
//! // A moment that stays, whatever is written.
//! let before = db.snapshot();
//! assert_eq!(db.delete_range(ScanRange::prefix(b"user/"))?, 2);
//! assert_eq!(db.multi_get(&["user/ann", "user/bob"])?, [None, None]);
//! assert_eq!(before.get(b"user/ann", None)?.unwrap().value, "2");
//!
//! drop((iter, before));
//! db.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
pub mod repair;
mod store;
pub mod table;
mod two_way;

pub use db::{Db, Durability, WriteBatch};
pub use error::StoreError;
pub use kv_vlog::Expect;
pub use options::Options;
pub use store::{
    Applied, Bookmark, Collected, Collection, CompactionStats, Environment, Export, ExportRecord,
    ExportValue, Found, GcReport, GcRun, HeldFile, Holder, Iter, IterOptions, LevelStats, NewStore,
    RangeSize, Receiver, Resolver, Room, Scan, ScanItem, ScanRange, SegmentLine, Snapshot, StallStats, Stats,
    Store, Verification, segment_lines, verify_segment,
};
