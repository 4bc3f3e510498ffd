//! Writing a table, front to back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_manifest::{SegmentRef, TableMeta, names};
use kv_vfs::{AlignedBuf, BLOCK, File, IoMode, Vfs, planted};

use super::block::BlockBuilder;
use super::error::TableError;
use super::format::{BlockHandle, Footer, INLINE_BYTES_MAX, IndexLevels, PARTITION_BYTES, TableIdentity};
use super::partition::{self, Built, PartitionsBuilder};
use super::properties::Tally;
use super::refs;
use super::stored::BlockEncoder;
use crate::key::{MAX_KEY, Seq, Slot, compare};

/// Bytes collected before they are written. Past the page cache: what many seconds of flushing and compacting
/// leave there unwritten would stand in the way of the next sync of the log.
const WRITE_BYTES: usize = 512 << 10;

/// How a table is written. Readers need none of it.
#[derive(Clone, Debug, PartialEq)]
pub struct TableOptions {
    /// Length at which a data block ends, in bytes before compression; between 64 B and 1 MiB. Default
    /// 4 KiB.
    pub block_bytes: usize,
    /// zstd level of blocks, where it saves an eighth; `None`: never. Default -1.
    pub compression_level: Option<i32>,
    /// Share of absent keys that the filter lets through, between 0.000001 and 0.5. Default 0.01.
    pub filter_false_positive: f64,
    /// Length from which on the index is cut into partitions, each with a filter, which readers load when
    /// they need them; in bytes. Default 16 KiB.
    pub partition_bytes: usize,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            block_bytes: 4 << 10,
            compression_level: Some(-1),
            filter_false_positive: 0.01,
            partition_bytes: PARTITION_BYTES,
        }
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSummary {
    /// File number of the table.
    pub id: u64,
    /// Exact length of the file, in bytes.
    pub bytes: u64,
    /// Smallest user key.
    pub smallest: Vec<u8>,
    /// Largest user key (inclusive).
    pub largest: Vec<u8>,
    /// Lowest seq.
    pub seq_min: Seq,
    /// Highest seq.
    pub seq_max: Seq,
    /// Versions of all kinds.
    pub entries: u64,
    /// Versions that delete.
    pub tombstones: u64,
    /// What it points to, ascending by segment.
    pub refs: Vec<SegmentRef>,
}

impl TableSummary {
    /// The summary as the manifest records it.
    #[must_use]
    pub fn to_meta(&self, level: u8) -> TableMeta {
        TableMeta {
            id: self.id,
            level,
            bytes: self.bytes,
            smallest: self.smallest.clone(),
            largest: self.largest.clone(),
            seq_min: self.seq_min,
            seq_max: self.seq_max,
            entries: self.entries,
            tombstones: self.tombstones,
            refs: self.refs.clone(),
        }
    }
}

/// Writes a table.
///
/// Until [`TableWriter::finish`] returns, the file is no table. One that is dropped stays where it is, for
/// the next open of the directory to remove; [`TableWriter::abandon`] removes it now.
pub struct TableWriter {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    file: Arc<dyn File>,
    identity: TableIdentity,
    options: TableOptions,
    encoder: BlockEncoder,
    block: BlockBuilder,
    partitions: PartitionsBuilder,
    tally: Tally,
    last_seq: Seq,
    /// Stored bytes that are not written yet.
    buffer: AlignedBuf,
    /// Where the buffer goes.
    offset: u64,
}

impl TableWriter {
    /// Creates the file of the table, named after its id, in `dir`.
    ///
    /// # Errors
    /// [`TableError::Io`], among others where there is such a file.
    pub fn create(
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        identity: &TableIdentity,
        options: &TableOptions,
    ) -> Result<Self, TableError> {
        let path = dir.join(names::table_name(identity.table_id));
        let encoder = BlockEncoder::new(identity.table_id, options.compression_level)?;
        let file = vfs.create(&path, IoMode::Direct)?;
        let mut tally = Tally::default();
        tally.properties.cause = "flush".into();
        Ok(Self {
            vfs: vfs.clone(),
            path,
            file,
            identity: *identity,
            encoder,
            options: TableOptions { block_bytes: options.block_bytes.clamp(64, 1 << 20), ..options.clone() },
            block: BlockBuilder::default(),
            partitions: PartitionsBuilder::new(options.partition_bytes, options.filter_false_positive),
            tally,
            last_seq: 0,
            buffer: AlignedBuf::with_capacity(WRITE_BYTES + BLOCK),
            offset: 0,
        })
    }

    /// The file it writes.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says why the table is made, for its properties; `flush` where nothing is said.
    pub fn set_cause(&mut self, cause: &str) {
        self.tally.properties.cause = cause.to_string();
    }

    /// Appends a version.
    ///
    /// # Errors
    /// [`TableError::Io`]; the table is then good for [`TableWriter::abandon`] only.
    ///
    /// # Panics
    /// If it does not come after all versions before, or key or value are over their limits: a bug of the
    /// caller.
    pub fn add(&mut self, key: &[u8], seq: Seq, slot: &Slot) -> Result<(), TableError> {
        let last = &self.tally.properties;
        let ordered = last.entries == 0 || compare((&last.largest, self.last_seq), (key, seq)).is_lt();
        assert!(ordered, "version {seq} of a key out of order after {}", self.last_seq);
        assert!(key.len() <= MAX_KEY, "a key of {} bytes", key.len());
        if let Slot::Inline(value, _) = slot {
            assert!(value.len() <= INLINE_BYTES_MAX, "an inline value of {} bytes", value.len());
        }
        self.partitions.add(key, self.block.is_empty(), self.tally.is_new_key(key));
        self.tally.add(key, seq, slot);
        self.block.add(key, seq, slot);
        self.last_seq = seq;
        if self.block.len() >= self.options.block_bytes { self.end_block() } else { Ok(()) }
    }

    /// Bytes so far, counting what is not written yet; the open block uncompressed.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        let open = if self.block.is_empty() { 0 } else { self.block.len() };
        self.offset + (self.buffer.len() + open) as u64
    }

    /// Completes the table and makes its contents durable. Its name is not: the caller syncs the directory
    /// before it tells the manifest.
    ///
    /// # Errors
    /// [`TableError::SyncFailed`] is fatal to the process. After [`TableError::Io`] the file is no table.
    ///
    /// # Panics
    /// If nothing was added: a bug of the caller.
    pub fn finish(mut self) -> Result<TableSummary, TableError> {
        assert!(self.tally.properties.entries > 0, "a table without a version");
        self.write_sections()?;
        let bytes = self.write_rest()?;
        planted::unless("table not synced", || self.file.sync_data()).map_err(TableError::SyncFailed)?;
        let refs = self.tally.refs.totals();
        let properties = self.tally.properties;
        Ok(TableSummary {
            id: self.identity.table_id,
            bytes,
            smallest: properties.smallest,
            largest: properties.largest,
            seq_min: properties.seq_min,
            seq_max: properties.seq_max,
            entries: properties.entries,
            tombstones: properties.tombstones,
            refs,
        })
    }

    /// Gives the table up and removes its file.
    ///
    /// # Errors
    /// [`TableError::Io`]; the next open of the directory removes the file then.
    pub fn abandon(self) -> Result<(), TableError> {
        drop(self.file);
        Ok(self.vfs.remove(&self.path)?)
    }

    fn end_block(&mut self) -> Result<(), TableError> {
        let raw = self.block.finish();
        let at = self.offset + self.buffer.len() as u64;
        let properties = &mut self.tally.properties;
        properties.blocks += 1;
        properties.block_bytes += raw.len() as u64;
        let handle = self.encoder.encode(raw, at, &mut self.buffer)?;
        self.partitions.end_block(&properties.largest, self.last_seq, handle);
        self.block.reset();
        if self.buffer.len() >= WRITE_BYTES { self.write_blocks() } else { Ok(()) }
    }

    fn write_sections(&mut self) -> Result<(), TableError> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        let fresh = PartitionsBuilder::new(self.options.partition_bytes, self.options.filter_false_positive);
        let partitions = std::mem::replace(&mut self.partitions, fresh).finish();
        let (filter, index, levels) = self.write_partitions(partitions)?;
        let refs = refs::encode(&self.tally.refs.sorted());
        let refs = self.section(&refs)?;
        self.tally.end();
        let properties = self.tally.properties.encode();
        let properties = self.section(&properties)?;
        let index = self.section(&index)?;
        let footer = Footer { filter, refs, properties, index, levels, identity: self.identity };
        self.buffer.extend_from_slice(&footer.encode());
        Ok(())
    }

    /// Writes the filter of a single partition, or filter and index of each of several. Gives where that is,
    /// and the index that comes last.
    fn write_partitions(
        &mut self,
        mut partitions: Vec<Built>,
    ) -> Result<(BlockHandle, Vec<u8>, IndexLevels), TableError> {
        if let [only] = &mut *partitions {
            let index = std::mem::take(&mut only.index);
            return Ok((self.section(&only.filter)?, index, IndexLevels::One));
        }
        let offset = self.offset + self.buffer.len() as u64;
        let mut stored = Vec::with_capacity(partitions.len());
        for partition in &partitions {
            stored.push((self.section(&partition.filter)?.len, self.section(&partition.index)?.len));
        }
        let len = stored.iter().map(|(filter, index)| filter + index).sum();
        Ok((BlockHandle { offset, len }, partition::encode(&partitions, &stored), IndexLevels::Two))
    }

    fn section(&mut self, content: &[u8]) -> Result<BlockHandle, TableError> {
        let at = self.offset + self.buffer.len() as u64;
        Ok(self.encoder.encode(content, at, &mut self.buffer)?)
    }

    /// Writes as much of the buffer as fills blocks of the disk.
    fn write_blocks(&mut self) -> Result<(), TableError> {
        let full = self.buffer.len() / BLOCK * BLOCK;
        let (blocks, rest) = self.buffer.as_slice().split_at(full);
        self.file.write_at(blocks, self.offset)?;
        let rest = rest.to_vec();
        self.buffer.clear();
        self.buffer.extend_from_slice(&rest);
        self.offset += full as u64;
        Ok(())
    }

    /// Writes what is left and cuts the file to the length of the table, which it returns.
    fn write_rest(&mut self) -> Result<u64, TableError> {
        let end = self.offset + self.buffer.len() as u64;
        self.buffer.pad_to_block();
        self.write_blocks()?;
        self.file.set_len(end)?;
        Ok(end)
    }
}

impl std::fmt::Debug for TableWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableWriter")
            .field("path", &self.path)
            .field("entries", &self.tally.properties.entries)
            .finish_non_exhaustive()
    }
}
