//! The embedded engine: keys and pointers in memtables and tables, values in the segments of the log.
//!
//! [`Db`] is a database to embed, and has all that a program needs of it. [`Store`] is the same without the decision
//! what is committed, for a consensus library to drive. Below them: [`memtable`], [`table`], [`merge`] and
//! [`compaction`]; for directories that nobody has open, [`offline`] and [`repair`].
//!
//! # Opening
//!
//! One process at a time has a directory. Settings that cannot work are refused by their name; the directory remembers
//! those that it depends on.
//!
//! ```
//! use kv_lsm::{Db, Options};
//!
//! # let base = tempfile::tempdir()?;
//! # let dir = base.path().join("data");
//! let options = Options { block_cache_bytes: 64 << 20, ..Options::default() };
//! options.validate()?;
//! let db = Db::open(&dir, options)?;
//! assert!(Db::open(&dir, Options::default()).unwrap_err().to_string().contains("in use"));
//! db.put(b"key", "value")?;
//! // Without it nothing that was synced is lost, but the next open reads the end of the log.
//! db.close()?;
//!
//! let other = Options { level_multiplier: 4, ..Options::default() };
//! assert!(Db::open(&dir, other).unwrap_err().to_string().contains("level_multiplier = 10"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Writing
//!
//! A write is durable when the call returns. A [`WriteBatch`] takes effect as a whole, on conditions if it has any, and may
//! be acknowledged before it is durable.
//!
//! ```
//! use kv_lsm::{Applied, Db, Durability, Expect, Options, ScanRange, WriteBatch};
//!
//! # let dir = tempfile::tempdir()?;
//! # let db = Db::open(dir.path(), Options::default())?;
//! let revision = db.put(b"user/ann", "1")?;
//! let mut batch = WriteBatch::default();
//! batch.check(b"user/ann", Expect::Seq(revision)).check(b"user/bob", Expect::Absent);
//! batch.put(b"user/ann", "2").put(b"user/bob", vec![7; 1 << 20]);
//! assert!(matches!(db.write(batch.clone())?, Applied::Done { .. }));
//! assert!(matches!(db.write(batch)?, Applied::Refused { check: 0, .. }));
//!
//! for n in 0..1000u32 {
//!     let mut batch = WriteBatch::default();
//!     batch.put(format!("item/{n:04}").as_bytes(), "small").durability(Durability::Batched);
//!     db.write(batch)?;
//! }
//! db.sync()?; // now those are durable, too
//! assert_eq!(db.delete_range(ScanRange::prefix(b"item/"))?, 1000);
//! # db.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Reading
//!
//! A key, a part of its value, many keys at once; ranges in both directions. An iterator or a [`Snapshot`] sees one moment,
//! whatever is written meanwhile.
//!
//! ```
//! use kv_lsm::{Db, IterOptions, Options, ScanRange};
//!
//! # let dir = tempfile::tempdir()?;
//! # let db = Db::open(dir.path(), Options::default())?;
//! db.put(b"user/ann", "2")?;
//! db.put(b"user/bob", vec![7; 1 << 20])?;
//! assert_eq!(db.get_range(b"user/bob", 10, 3)?.unwrap().value, vec![7; 3]);
//!
//! // Keys alone read no value.
//! let options = IterOptions { range: ScanRange::prefix(b"user/"), ..IterOptions::default() };
//! let mut iter = db.iter(options);
//! assert!(iter.seek_last()?);
//! assert_eq!((iter.key(), iter.value_bytes()), (Some(&b"user/bob"[..]), Some(1 << 20)));
//! assert!(iter.prev()? && !iter.prev()?);
//!
//! // With values, which several threads read ahead, and nothing put into the caches.
//! let bulk = IterOptions { read_ahead: 16, fill_cache: false, ..IterOptions::default() };
//! let bytes: usize = db.iter(bulk).entries().map(|entry| entry.unwrap().1.value.len()).sum();
//! assert_eq!(bytes, 1 + (1 << 20));
//!
//! let before = db.snapshot();
//! db.delete_range(ScanRange::default())?;
//! assert_eq!(db.multi_get(&["user/ann", "user/bob"])?, [None, None]);
//! assert_eq!(before.get(b"user/ann", None)?.unwrap().value, "2");
//! # drop((iter, before));
//! # db.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Looking after it
//!
//! Flushes, compactions and value GC run by themselves; each can be had by hand. [`Db::stats`] says what they do, and what
//! writing, reading and keeping costs; [`Db::checkpoint`] makes a copy while all goes on, [`Db::verify`] looks for damage.
//!
//! ```
//! use kv_lsm::{Db, Options, ScanRange};
//!
//! # let base = tempfile::tempdir()?;
//! # let (dir, copy) = (base.path().join("data"), base.path().join("copy"));
//! # let db = Db::open(&dir, Options::default())?;
//! for round in 0..3u8 {
//!     (0..50u8).try_for_each(|n| db.put(&[n], vec![round; 5000]).map(drop))?;
//! }
//! db.compact_range(&ScanRange::default())?; // finds what was overwritten ...
//! db.gc_run()?; // ... and gives the room of its values back
//! let stats = db.stats()?;
//! assert_eq!(stats.levels.iter().map(|level| level.entries).sum::<u64>(), 50);
//! assert!(stats.written.bytes() > 0 && stats.disk_bytes > stats.needed_bytes());
//! db.checkpoint(&copy)?;
//! assert!(db.verify()?.tables >= 1);
//! # db.close()?;
//! assert_eq!(Db::open(&copy, Options::default())?.get(&[7])?.unwrap().value, vec![2; 5000]);
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
mod stamp;
mod store;
pub mod table;
mod two_way;

pub use db::{Db, Durability, WriteBatch};
pub use error::StoreError;
pub use kv_vlog::{Expect, Expiry, LogTime};
pub use options::Options;
pub use stamp::Stamper;
pub use store::{
    Applied, Bookmark, Collected, Collection, CompactionStats, Environment, Export, ExportRecord,
    ExportValue, Found, GcReport, GcRun, HeldFile, Holder, Iter, IterOptions, LevelStats, NewStore,
    RangeSize, ReadStats, Receiver, Resolver, Room, Scan, ScanItem, ScanRange, SegmentLine, Snapshot,
    StallStats, Stats, Store, ValueCacheStats, Verification, WriteStats, segment_lines, verify_segment,
};
pub use table::CacheStats;
