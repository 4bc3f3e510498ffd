//! kv-lsm.

use std::path::Path;

use kv_lsm::{Db, Durability, IterOptions, Options, WriteBatch};
use kv_vlog::Compression;

use super::{CACHE_BYTES, Engine, MEMTABLE_BYTES, SEPARATED_BYTES_MIN};

pub struct Kv(Db);

impl Kv {
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let options = Options {
            // Others keep values of any length in one cache.
            block_cache_bytes: CACHE_BYTES as u64 / 4,
            value_cache_bytes: CACHE_BYTES as u64 / 4 * 3,
            memtable_bytes_max: MEMTABLE_BYTES as u64,
            separate_bytes_min: SEPARATED_BYTES_MIN as u64,
            compression: Compression { level: None, ..Compression::default() },
            table_compression_level: None,
            ..Options::default()
        };
        Ok(Self(Db::open(dir, options)?))
    }
}

impl Engine for Kv {
    fn put(&self, key: &[u8], value: &[u8], durable: bool) -> anyhow::Result<()> {
        let mut batch = WriteBatch::default();
        batch.put(key, value.to_vec());
        batch.durability(if durable { Durability::Sync } else { Durability::Batched });
        self.0.write(batch)?;
        Ok(())
    }

    fn get(&self, key: &[u8]) -> anyhow::Result<Option<usize>> {
        Ok(self.0.get(key)?.map(|found| found.value.len()))
    }

    fn scan(&self, from: &[u8], count: usize) -> anyhow::Result<usize> {
        let mut iter = self.0.iter(IterOptions::default());
        let mut seen = 0;
        let mut there = iter.seek(from)?;
        while there && seen < count {
            seen += usize::from(iter.value()?.is_some());
            there = iter.next()?;
        }
        Ok(seen)
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        Ok(self.0.close()?)
    }
}
