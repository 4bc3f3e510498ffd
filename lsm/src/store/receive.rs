//! Building, beside the live state, the state that a peer sends.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use kv_manifest::{Edit, names};
use kv_vlog::{Ledger, Position, SegmentIdentity, SegmentSummary, StoredValue, ValueSegmentWriter};

use super::core::visible_after;
use super::export::{ExportRecord, ExportValue};
use super::view::{LEVELS, Table};
use super::{Shared, Store};
use crate::error::StoreError;
use crate::key::{MAX_KEY, Seq, Slot, ValuePointer};
use crate::table::{INLINE_BYTES_MAX, TableError, TableSummary, TableWriter};

/// Received tables lie where nothing is deeper: they hold one version of each key, and no tombstone.
pub(super) const LEVEL: u8 = LEVELS as u8 - 1;

/// The state that a peer sends, on its way: fresh tables and fresh segments of values that nobody reads
/// before [`Store::install`]. Takes one group of values and one table's index and filter of memory.
///
/// Dropped without being installed it removes its files; what a crash leaves of them the next open removes.
pub struct Receiver {
    shared: Arc<Shared>,
    last_key: Bytes,
    seq_max: Seq,
    bytes: u64,
    values: Option<Values>,
    table: Option<TableWriter>,
    segments: Vec<Segment>,
    tables: Vec<TableSummary>,
    /// All files made so far, until the manifest may know them.
    files: Vec<PathBuf>,
    failed: bool,
}

/// The segment that is being written.
struct Values {
    writer: ValueSegmentWriter,
    /// When it is full.
    bytes_max: u64,
}

/// A segment that is complete.
struct Segment {
    identity: SegmentIdentity,
    path: PathBuf,
    summary: SegmentSummary,
}

impl Store {
    /// Begins to take the state that a peer sends. It changes nothing that is read or written here, until
    /// [`Store::install`].
    pub fn receive(&self) -> Result<Receiver, StoreError> {
        self.shared.check()?;
        Ok(Receiver {
            shared: self.shared.clone(),
            last_key: Bytes::new(),
            seq_max: 0,
            bytes: 0,
            values: None,
            table: None,
            segments: Vec::new(),
            tables: Vec::new(),
            files: Vec::new(),
            failed: false,
        })
    }
}

impl Receiver {
    /// Adds the record that comes next in key order. After an error it is good for nothing but being
    /// dropped.
    ///
    /// # Errors
    /// [`StoreError::Received`] where the record is not what a peer's export gives: keys out of order, a
    /// value that does not match its checksum. Others where it cannot be written.
    pub fn add(&mut self, record: ExportRecord) -> Result<(), StoreError> {
        self.usable()?;
        let added = self.check(&record).and_then(|()| self.put(record));
        self.failed = added.is_err();
        added.inspect_err(|error| self.poison_if_fatal(error))
    }

    /// Bytes of keys and values added so far, as they are stored.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn usable(&self) -> Result<(), StoreError> {
        self.shared.check()?;
        if self.failed {
            return Err(StoreError::Received("a record before was refused".into()));
        }
        Ok(())
    }

    fn check(&self, record: &ExportRecord) -> Result<(), StoreError> {
        let wrong = |why: String| Err(StoreError::Received(why));
        let ExportRecord { key, seq, value } = record;
        if key.is_empty() || key.len() > MAX_KEY {
            return wrong(format!("a key of {} bytes; 1 to {MAX_KEY} go", key.len()));
        }
        if *key <= self.last_key {
            return wrong(format!("version {seq} of a key out of order"));
        }
        match value {
            ExportValue::Inline(value, _) if value.len() > INLINE_BYTES_MAX => {
                wrong(format!("an inline value of {} bytes; {INLINE_BYTES_MAX} go", value.len()))
            }
            ExportValue::Inline(..) => Ok(()),
            ExportValue::Stored(value) => value
                .verify(key)
                .map_err(|why| StoreError::Received(format!("version {seq} of a key: {why}"))),
        }
    }

    fn put(&mut self, record: ExportRecord) -> Result<(), StoreError> {
        let bytes = record.bytes() as u64;
        let ExportRecord { key, seq, value } = record;
        let slot = match value {
            ExportValue::Inline(value, expires) => Slot::Inline(value, expires),
            ExportValue::Stored(value) => self.put_value(&key, seq, &value)?,
        };
        if self.table.as_ref().is_some_and(|table| table.bytes_written() >= self.table_bytes()) {
            self.end_table()?;
        }
        self.open_table()?.add(&key, seq, &slot)?;
        self.bytes += bytes;
        self.seq_max = self.seq_max.max(seq);
        self.last_key = key;
        Ok(())
    }

    fn put_value(&mut self, key: &[u8], seq: Seq, value: &StoredValue) -> Result<Slot, StoreError> {
        let length = (key.len() + value.stored_bytes()) as u64;
        if self.values.as_ref().is_some_and(|open| open.writer.bytes() + length > open.bytes_max) {
            self.end_values()?;
        }
        let (value_bytes, expires) = (value.value_bytes, value.expires);
        let at = self.open_values()?.writer.add(key, seq, value)?;
        let (segment, offset, length) = (at.segment, at.offset, at.length);
        Ok(Slot::Pointer(ValuePointer { segment, offset, length, value_bytes }, expires))
    }

    fn open_values(&mut self) -> Result<&mut Values, StoreError> {
        match &mut self.values {
            Some(values) => Ok(values),
            none => {
                let next = self.shared.changes.next_file();
                // Before the file is there: one that was made, but not to its end, goes, too.
                self.files.push(next.path.clone());
                let writer = self.shared.log.write_values(next.file, next.path)?;
                Ok(none.insert(Values { writer, bytes_max: next.bytes }))
            }
        }
    }

    fn end_values(&mut self) -> Result<(), StoreError> {
        let Some(Values { writer, .. }) = self.values.take() else { return Ok(()) };
        let (identity, path) = (*writer.identity(), writer.path().to_path_buf());
        let summary = writer.finish()?;
        self.segments.push(Segment { identity, path, summary });
        Ok(())
    }

    fn table_bytes(&self) -> u64 {
        self.shared.core.options.table_bytes
    }

    fn open_table(&mut self) -> Result<&mut TableWriter, StoreError> {
        match &mut self.table {
            Some(table) => Ok(table),
            none => {
                let core = &self.shared.core;
                let number = self.shared.changes.allocate();
                self.files.push(core.dir.join(names::table_name(number)));
                let (identity, options) = (core.table_identity(number), core.table_options());
                let mut writer = TableWriter::create(&core.vfs, &core.dir, &identity, &options)?;
                writer.set_cause("install");
                Ok(none.insert(writer))
            }
        }
    }

    fn end_table(&mut self) -> Result<(), StoreError> {
        if let Some(writer) = self.table.take() {
            self.tables.push(writer.finish()?);
        }
        Ok(())
    }

    /// Refuses what was received for another store, or cannot be the state as of `at`.
    pub(super) fn is_for(&self, shared: &Arc<Shared>, at: Position) -> Result<(), StoreError> {
        self.usable()?;
        if !Arc::ptr_eq(&self.shared, shared) {
            return Err(StoreError::Invalid("what another store received is to be installed".into()));
        }
        if self.seq_max > visible_after(at.index) {
            let why = format!("it holds version {}, but ends at entry {}", self.seq_max, at.index);
            return Err(StoreError::Received(why));
        }
        Ok(())
    }

    /// Makes everything durable, contents before names, and lets pointers into the new segments be read;
    /// gives the tables, opened.
    pub(super) fn complete(&mut self) -> Result<Vec<Arc<Table>>, StoreError> {
        let completed = self.end_values().and_then(|()| self.end_table());
        completed.inspect_err(|error| self.poison_if_fatal(error))?;
        let Shared { core, log, .. } = &*self.shared;
        // Values and tables are synced by now. With the names lost, the manifest would speak of files that
        // are not there.
        core.vfs
            .sync_dir(&core.dir)
            .map_err(StoreError::from)
            .inspect_err(|error| self.shared.poison(error))?;
        for Segment { identity, path, summary } in &self.segments {
            log.add_values(*identity, path.clone(), summary.end)?;
        }
        self.tables.iter().map(|table| core.open_table(table.to_meta(LEVEL))).collect()
    }

    /// The edits that make the files part of the data. From here on they are not removed any more: when
    /// recording them fails, nobody knows whether they are recorded.
    pub(super) fn into_edits(mut self) -> Vec<Edit> {
        self.files.clear();
        let segments = std::mem::take(&mut self.segments).into_iter().map(|segment| {
            let SegmentIdentity { segment: id, file, generation, epoch, .. } = segment.identity;
            let SegmentSummary { end, values, value_bytes, .. } = segment.summary;
            Edit::AddValueSegment { segment: id, file, generation, epoch, end, values, value_bytes }
        });
        segments.chain(self.tables.iter().map(|table| Edit::AddTable(table.to_meta(LEVEL)))).collect()
    }

    /// A sync that failed says nothing about what is on disk, here as elsewhere. A write that failed, for
    /// want of room above all, has harmed only what is being received.
    fn poison_if_fatal(&self, error: &StoreError) {
        if matches!(error, StoreError::Poisoned { .. } | StoreError::Table(TableError::SyncFailed(_))) {
            self.shared.poison(error);
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        for segment in &self.segments {
            self.shared.log.forget_segment(segment.identity.segment);
        }
        // Their handles first.
        (self.values, self.table) = (None, None);
        for path in &self.files {
            match self.shared.core.vfs.remove(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(%error, "could not remove a file of a snapshot that was given up");
                }
                _ => {}
            }
        }
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver")
            .field("bytes", &self.bytes)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}
