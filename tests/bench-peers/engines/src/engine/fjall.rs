//! fjall.

use std::path::Path;

use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};

use super::{CACHE_BYTES, Engine, MEMTABLE_BYTES, SEPARATED_BYTES_MIN};

pub struct Fjall {
    db: Database,
    keys: Keyspace,
}

impl Fjall {
    pub fn open(dir: &Path, separated: bool) -> anyhow::Result<Self> {
        let db = Database::builder(dir)
            .cache_size(CACHE_BYTES as u64)
            .journal_compression(CompressionType::None)
            .open()?;
        let apart = KvSeparationOptions::default()
            .separation_threshold(SEPARATED_BYTES_MIN as u32)
            .compression(CompressionType::None);
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLE_BYTES as u64)
                .data_block_compression_policy(CompressionPolicy::disabled())
                .with_kv_separation(separated.then_some(apart))
        };
        let keys = db.keyspace("keys", options)?;
        Ok(Self { db, keys })
    }
}

impl Engine for Fjall {
    fn put(&self, key: &[u8], value: &[u8], durable: bool) -> anyhow::Result<()> {
        self.keys.insert(key, value)?;
        if durable {
            self.db.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }

    fn get(&self, key: &[u8]) -> anyhow::Result<Option<usize>> {
        Ok(self.keys.get(key)?.map(|value| value.len()))
    }

    fn scan(&self, from: &[u8], count: usize) -> anyhow::Result<usize> {
        let mut seen = 0;
        for item in self.keys.range(from..).take(count) {
            seen += usize::from(!item.value()?.is_empty());
        }
        Ok(seen)
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        self.keys.rotate_memtable_and_wait()?;
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }
}
