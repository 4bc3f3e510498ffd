//! SurrealKV.

use std::path::Path;

use surrealkv::{Durability, LSMIterator as _, Mode, ReadOptions, Tree, TreeBuilder};
use tokio::runtime::Runtime;

use super::{CACHE_BYTES, Engine, MEMTABLE_BYTES, SEPARATED_BYTES_MIN};

pub struct Surreal {
    tree: Tree,
    runtime: Runtime,
}

impl Surreal {
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let _within = runtime.enter();
        let tree = TreeBuilder::new()
            .with_path(dir.to_path_buf())
            .with_block_cache_capacity(CACHE_BYTES as u64)
            .with_max_memtable_size(MEMTABLE_BYTES)
            .without_compression()
            .with_enable_vlog(true)
            .with_vlog_value_threshold(SEPARATED_BYTES_MIN)
            .build()?;
        drop(_within);
        Ok(Self { tree, runtime })
    }
}

impl Engine for Surreal {
    fn put(&self, key: &[u8], value: &[u8], durable: bool) -> anyhow::Result<()> {
        let mut transaction = self.tree.begin_with_mode(Mode::WriteOnly)?;
        transaction.set_durability(if durable { Durability::Immediate } else { Durability::Eventual });
        transaction.set(key, value)?;
        Ok(self.runtime.block_on(transaction.commit())?)
    }

    fn get(&self, key: &[u8]) -> anyhow::Result<Option<usize>> {
        let transaction = self.tree.begin_with_mode(Mode::ReadOnly)?;
        Ok(transaction.get(key)?.map(|value| value.len()))
    }

    fn scan(&self, from: &[u8], count: usize) -> anyhow::Result<usize> {
        let transaction = self.tree.begin_with_mode(Mode::ReadOnly)?;
        let mut options = ReadOptions::new();
        options.set_iterate_lower_bound(Some(from.to_vec()));
        let mut iter = transaction.range_with_options(&options)?;
        let mut seen = 0;
        let mut there = iter.seek_first()?;
        while there && seen < count {
            seen += usize::from(!iter.value()?.is_empty());
            there = iter.next()?;
        }
        Ok(seen)
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        Ok(self.runtime.block_on(self.tree.close())?)
    }
}
