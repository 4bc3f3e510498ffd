//! RocksDB.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Direction, IteratorMode, Options, WriteOptions,
};

use super::{CACHE_BYTES, Engine, MEMTABLE_BYTES, SEPARATED_BYTES_MIN};

pub struct Rocks(DB);

impl Rocks {
    pub fn open(dir: &Path, blobs: bool) -> anyhow::Result<Self> {
        let cache = Cache::new_lru_cache(CACHE_BYTES);
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&cache);
        blocks.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&blocks);
        options.set_write_buffer_size(MEMTABLE_BYTES);
        options.set_compression_type(DBCompressionType::None);
        if blobs {
            options.set_enable_blob_files(true);
            options.set_min_blob_size(SEPARATED_BYTES_MIN as u64);
            options.set_enable_blob_gc(true);
            options.set_blob_cache(&cache);
        }
        Ok(Self(DB::open(&options, dir)?))
    }
}

impl Engine for Rocks {
    fn put(&self, key: &[u8], value: &[u8], durable: bool) -> anyhow::Result<()> {
        let mut options = WriteOptions::default();
        options.set_sync(durable);
        Ok(self.0.put_opt(key, value, &options)?)
    }

    fn get(&self, key: &[u8]) -> anyhow::Result<Option<usize>> {
        Ok(self.0.get_pinned(key)?.map(|value| value.len()))
    }

    fn scan(&self, from: &[u8], count: usize) -> anyhow::Result<usize> {
        let found = self.0.iterator(IteratorMode::From(from, Direction::Forward)).take(count);
        let mut seen = 0;
        for item in found {
            seen += usize::from(!item?.1.is_empty());
        }
        Ok(seen)
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        self.0.flush()?;
        self.0.cancel_all_background_work(true);
        Ok(())
    }
}
