//! What the engines have in common. All are set up alike: the same sizes of cache and memtable, large values apart
//! from the same length on, nothing compressed, a filter of about 1 %.

mod fjall;
mod kv;
#[cfg(feature = "rocksdb")]
mod rocks;
mod surreal;

use std::path::Path;

use clap::ValueEnum;

/// Memory for blocks, in bytes.
const CACHE_BYTES: usize = 256 << 20;
/// A memtable is flushed at this many bytes.
const MEMTABLE_BYTES: usize = 64 << 20;
/// Values of this many bytes and more are kept apart from the keys, by those that can.
pub const SEPARATED_BYTES_MIN: usize = 1000;

/// An engine with an open directory.
pub trait Engine: Send + Sync {
    /// Sets a key; on return durable, or only taken.
    fn put(&self, key: &[u8], value: &[u8], durable: bool) -> anyhow::Result<()>;

    /// Length of the key's value, which was read whole.
    fn get(&self, key: &[u8]) -> anyhow::Result<Option<usize>>;

    /// Reads so many keys from this one on, with their values; says how many there were.
    fn scan(&self, from: &[u8], count: usize) -> anyhow::Result<usize>;

    /// Ends it in an orderly way.
    fn close(self: Box<Self>) -> anyhow::Result<()>;
}

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// This project's.
    Kv,
    /// RocksDB, values in its tables.
    #[cfg(feature = "rocksdb")]
    Rocksdb,
    /// RocksDB with blob files.
    #[cfg(feature = "rocksdb")]
    RocksdbBlobs,
    /// fjall, values in its tables.
    Fjall,
    /// fjall with values apart.
    FjallSeparated,
    /// SurrealKV with its value log.
    Surrealkv,
}

impl Kind {
    /// All, ours first.
    pub fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// Whether it is another one's twin as long as no value is kept apart.
    pub fn separates_only(self) -> bool {
        match self {
            #[cfg(feature = "rocksdb")]
            Kind::RocksdbBlobs => true,
            kind => kind == Kind::FjallSeparated,
        }
    }

    /// What people call it.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Kv => "kv-lsm",
            #[cfg(feature = "rocksdb")]
            Kind::Rocksdb => "RocksDB",
            #[cfg(feature = "rocksdb")]
            Kind::RocksdbBlobs => "RocksDB, blob files",
            Kind::Fjall => "fjall",
            Kind::FjallSeparated => "fjall, separated",
            Kind::Surrealkv => "SurrealKV, value log",
        }
    }

    /// Opens the database in this directory, making it where there is none.
    pub fn open(self, dir: &Path) -> anyhow::Result<Box<dyn Engine>> {
        Ok(match self {
            Kind::Kv => Box::new(kv::Kv::open(dir)?),
            #[cfg(feature = "rocksdb")]
            Kind::Rocksdb => Box::new(rocks::Rocks::open(dir, false)?),
            #[cfg(feature = "rocksdb")]
            Kind::RocksdbBlobs => Box::new(rocks::Rocks::open(dir, true)?),
            Kind::Fjall => Box::new(fjall::Fjall::open(dir, false)?),
            Kind::FjallSeparated => Box::new(fjall::Fjall::open(dir, true)?),
            Kind::Surrealkv => Box::new(surreal::Surreal::open(dir)?),
        })
    }
}
