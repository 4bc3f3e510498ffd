//! What lost tables may have held.

use std::sync::Arc;

use bytes::Bytes;
use kv_manifest::{TableMeta, names};
use kv_vfs::Vfs;
use kv_vlog::seq_of;

use super::inventory::DamagedTable;
use super::report::{LostRange, RepairReport};
use super::scratch::Scratch;
use crate::error::StoreError;
use crate::key::Seq;
use crate::table::{self, LostKeys, TableError};

/// Versions that were in tables and cannot be read.
#[derive(Debug, Default)]
pub(super) struct Lost(Vec<LostPart>);

/// Those between two keys and two versions, all inclusive.
#[derive(Debug)]
struct LostPart {
    range: LostRange,
    seqs: std::ops::RangeInclusive<Seq>,
}

impl Lost {
    /// Reads what can be read of the damaged tables.
    pub(super) fn salvage(
        vfs: &Arc<dyn Vfs>,
        damaged: &[DamagedTable],
        missing: &[TableMeta],
        scratch: &mut Scratch,
    ) -> Result<Self, StoreError> {
        let mut parts = Vec::new();
        for table in damaged {
            let name = table.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // A number in the place of the name counts, where it is known.
            let lost = read_rest(vfs, table, scratch)?;
            let seqs = table.meta.as_ref().map_or(0..=Seq::MAX, |meta| meta.seq_min..=meta.seq_max);
            parts.extend(lost.into_iter().map(|lost| {
                let bound = |known: Option<Bytes>, said: Option<&Vec<u8>>| {
                    known.or_else(|| said.map(|key| Bytes::copy_from_slice(key)))
                };
                let meta = table.meta.as_ref();
                let range = LostRange {
                    file: name.clone(),
                    from: bound(lost.from, meta.map(|meta| &meta.smallest)),
                    to: bound(lost.to, meta.map(|meta| &meta.largest)),
                    versions: None,
                };
                LostPart { range, seqs: seqs.clone() }
            }));
        }
        parts.extend(missing.iter().map(|meta| LostPart {
            range: LostRange {
                file: names::table_name(meta.id),
                from: Some(Bytes::copy_from_slice(&meta.smallest)),
                to: Some(Bytes::copy_from_slice(&meta.largest)),
                versions: Some((meta.entries, meta.tombstones)),
            },
            seqs: meta.seq_min..=meta.seq_max,
        }));
        Ok(Self(parts))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this version may have been among them.
    pub(super) fn may_have_held(&self, key: &[u8], seq: Seq) -> bool {
        self.0.iter().any(|part| part.has_key(key) && part.seqs.contains(&seq))
    }

    /// The table that may have held a newer version of the key.
    pub(super) fn may_have_overwritten(&self, key: &[u8], seq: Seq) -> Option<&str> {
        let part = self.0.iter().find(|part| part.has_key(key) && *part.seqs.end() > seq)?;
        Some(&part.range.file)
    }

    /// Takes away what the log, which is whole from this entry on, has told again.
    pub(super) fn restored_from(&mut self, index: u64, report: &mut RepairReport) {
        self.0.retain(|part| {
            let is_restored = *part.seqs.start() >= seq_of(index, 0);
            if is_restored {
                report.notes.push(format!("{}: all that was lost of it is in the log", part.range.file));
            }
            !is_restored
        });
        report.lost_ranges = self.0.iter().map(|part| part.range.clone()).collect();
    }
}

impl LostPart {
    fn has_key(&self, key: &[u8]) -> bool {
        self.range.from.as_ref().is_none_or(|from| **from <= *key)
            && self.range.to.as_ref().is_none_or(|to| *key <= **to)
    }
}

fn read_rest(
    vfs: &Arc<dyn Vfs>,
    damaged: &DamagedTable,
    scratch: &mut Scratch,
) -> Result<Vec<LostKeys>, StoreError> {
    let (mut writer, mut is_empty) = (scratch.writer()?, true);
    let lost = table::salvage(vfs, &damaged.path, damaged.id, &mut |key, seq, slot| {
        is_empty = false;
        writer.add(key, seq, slot)
    });
    let lost = match lost {
        // A sector that cannot be read: nothing of the file is.
        Err(TableError::Io(_)) if is_empty => vec![LostKeys { from: None, to: None }],
        other => other?,
    };
    if is_empty {
        writer.abandon()?;
    } else {
        scratch.finish(writer)?;
    }
    Ok(lost)
}
