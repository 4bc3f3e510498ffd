//! What all tables of a store share: blocks in memory, and a bounded number of open files.

use std::cell::Cell;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_vfs::{File, IoMode, Vfs};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter, Weighter};

use super::block::Block;
use super::partition::Partition;

/// Memory that an entry takes besides its content, about, in bytes.
const ENTRY_OVERHEAD: u64 = 128;
/// A shard of the cache has at least this many bytes, so that large blocks fit in.
const SHARD_BYTES_MIN: u64 = 1 << 20;
const SHARDS_MAX: u64 = 16;

/// How a read uses the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheUse {
    /// What is read stays in the cache: for reads that users wait for.
    #[default]
    Fill,
    /// What is there is used, what is not there is not put in: for reads of very much, once.
    Peek,
    /// Everything is read from the disk: to find damage.
    Bypass,
}

/// Figures of the caches, since they were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Blocks that were found in memory.
    pub hits: u64,
    /// Blocks that were looked for and had to be read.
    pub misses: u64,
    /// Data blocks read from the disk, whoever read them.
    pub data_blocks_read: u64,
    /// Bytes read from the disk for blocks of all kinds.
    pub bytes_read: u64,
    /// Bytes in memory.
    pub bytes: u64,
    /// Bytes that may be in memory.
    pub bytes_max: u64,
    /// Files of tables that are open.
    pub open_files: u64,
    /// How often a file was opened.
    pub files_opened: u64,
}

thread_local! {
    static READ_HERE: Cell<u64> = const { Cell::new(0) };
}

/// How many data blocks this thread has read from the disk so far: the difference is what a read in between cost,
/// without every step of it having to hand a counter on.
pub(crate) fn data_blocks_read_here() -> u64 {
    READ_HERE.with(Cell::get)
}

/// File number of the table, and where in it.
type Key = (u64, u64);

#[derive(Clone, Debug)]
pub(super) enum Cached {
    Block(Block),
    Partition(Arc<Partition>),
}

impl Cached {
    fn bytes(&self) -> usize {
        match self {
            Cached::Block(block) => block.bytes(),
            Cached::Partition(partition) => partition.bytes(),
        }
    }
}

#[derive(Clone, Debug)]
struct ByBytes;

impl Weighter<Key, Cached> for ByBytes {
    fn weight(&self, _: &Key, cached: &Cached) -> u64 {
        cached.bytes() as u64 + ENTRY_OVERHEAD
    }
}

/// Hashes file numbers and offsets, the same in every run: a simulation must not depend on chance.
#[derive(Default)]
pub(crate) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
        let mut mixed = (self.0.rotate_left(5) ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 = mixed ^ (mixed >> 31);
    }
}

pub(crate) type Hashes = BuildHasherDefault<Mix>;

/// Blocks by file and offset, and open files by number. File numbers are never used again, so what is in here
/// of a table that is gone is never found, and makes room in time.
#[derive(Debug)]
pub struct TableCaches {
    blocks: Cache<Key, Cached, ByBytes, Hashes>,
    files: Cache<u64, Arc<dyn File>, UnitWeighter, Hashes>,
    hits: AtomicU64,
    misses: AtomicU64,
    data_blocks_read: AtomicU64,
    bytes_read: AtomicU64,
    files_opened: AtomicU64,
}

impl TableCaches {
    /// Caches for about `block_bytes` of blocks, and at most `files` open files.
    #[must_use]
    pub fn new(block_bytes: u64, files: usize) -> Arc<Self> {
        let blocks = sized(block_bytes, SHARD_BYTES_MIN);
        // One shard: the limit is one of all files together.
        let files = options(1, files as u64, files);
        Arc::new(Self {
            blocks: Cache::with_options(blocks, ByBytes, Hashes::default(), DefaultLifecycle::default()),
            files: Cache::with_options(files, UnitWeighter, Hashes::default(), DefaultLifecycle::default()),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            data_blocks_read: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            files_opened: AtomicU64::new(0),
        })
    }

    /// The figures now.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            hits: load(&self.hits),
            misses: load(&self.misses),
            data_blocks_read: load(&self.data_blocks_read),
            bytes_read: load(&self.bytes_read),
            bytes: self.blocks.weight(),
            bytes_max: self.blocks.capacity(),
            open_files: self.files.len() as u64,
            files_opened: load(&self.files_opened),
        }
    }

    pub(super) fn get(&self, file: u64, offset: u64, cache: CacheUse) -> Option<Cached> {
        match cache {
            CacheUse::Fill => {
                let found = self.blocks.get(&(file, offset));
                let counter = if found.is_some() { &self.hits } else { &self.misses };
                counter.fetch_add(1, Ordering::Relaxed);
                found
            }
            CacheUse::Peek => self.blocks.peek(&(file, offset)),
            CacheUse::Bypass => None,
        }
    }

    pub(super) fn put(&self, file: u64, offset: u64, cache: CacheUse, cached: impl FnOnce() -> Cached) {
        if cache == CacheUse::Fill {
            self.blocks.insert((file, offset), cached());
        }
    }

    pub(super) fn count_data_block(&self) {
        READ_HERE.with(|count| count.set(count.get() + 1));
        self.data_blocks_read.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn file(&self, number: u64, vfs: &dyn Vfs, path: &Path) -> io::Result<Arc<dyn File>> {
        self.files.get_or_insert_with(&number, || {
            self.files_opened.fetch_add(1, Ordering::Relaxed);
            vfs.open_read(path, IoMode::Buffered)
        })
    }

    fn close(&self, number: u64) {
        self.files.remove(&number);
    }
}

/// Options of a cache of so many bytes whose shards have so many at least.
pub(crate) fn sized(bytes: u64, shard_bytes_min: u64) -> quick_cache::Options {
    let shards = (bytes / shard_bytes_min).clamp(1, SHARDS_MAX) as usize;
    options(shards, bytes, (bytes / 4096) as usize)
}

fn options(shards: usize, weight: u64, items: usize) -> quick_cache::Options {
    let mut options = OptionsBuilder::new();
    options.shards(shards).weight_capacity(weight.max(1)).estimated_items_capacity(items.max(1));
    match options.build() {
        Ok(options) => options,
        Err(error) => unreachable!("both capacities are given: {error}"),
    }
}

/// The file of a table.
#[derive(Debug)]
pub(super) enum TableFile {
    /// Open as long as the table.
    Alone(Arc<dyn File>),
    /// Open as long as the caches have room for it.
    Shared { number: u64, caches: Arc<TableCaches>, vfs: Arc<dyn Vfs> },
}

impl TableFile {
    pub(super) fn caches(&self) -> Option<&TableCaches> {
        match self {
            TableFile::Alone(_) => None,
            TableFile::Shared { caches, .. } => Some(caches),
        }
    }

    /// The file, opened again where it was closed to stay within the limit.
    pub(super) fn get(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        match self {
            TableFile::Alone(file) => Ok(file.clone()),
            TableFile::Shared { number, caches, vfs } => caches.file(*number, &**vfs, path),
        }
    }
}

impl Drop for TableFile {
    fn drop(&mut self) {
        // An open handle would keep the disk space of a file that is removed.
        if let TableFile::Shared { number, caches, .. } = self {
            caches.close(*number);
        }
    }
}
