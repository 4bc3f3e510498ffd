//! The new store: the newest version of each key, with its value.

use bytes::Bytes;
use kv_vlog::{LogTime, NoValue, Position, SalvagedValues};

use super::inventory::Inventory;
use super::lost::Lost;
use super::report::RepairReport;
use super::scratch::Scratch;
use crate::cursor::Cursor;
use crate::error::StoreError;
use crate::key::{Seq, Slot};
use crate::merge::MergeCursor;
use crate::offline::{ContentHash, Progress};
use crate::store::{ExportRecord, ExportValue, Receiver, pointer, visible_after};

/// Merges all versions that were found, and gives the newest of each key to the new store.
pub(super) struct Build<'a> {
    pub values: &'a SalvagedValues,
    pub lost: &'a Lost,
    pub report: &'a mut RepairReport,
    pub at: Position,
    /// What time it was then.
    pub time: LogTime,
    pub progress: &'a dyn Fn(Progress),
    pub total_bytes: u64,
}

impl Build<'_> {
    pub(super) fn run(
        self,
        inventory: &Inventory,
        scratch: &Scratch,
        into: &mut Receiver,
    ) -> Result<(), StoreError> {
        let tables = inventory.tables.iter().chain(&scratch.tables);
        let mut merge = MergeCursor::new(tables.map(|table| Box::new(table.cursor()) as Box<_>).collect());
        merge.seek_first()?;
        let mut hash = ContentHash::default();
        while merge.valid() {
            let (key, found) = self.newest(&mut merge)?;
            let Some((seq, slots)) = found else { continue };
            if slots.iter().any(|slot| slot.is_gone(self.time)) {
                continue;
            }
            match self.read(&key, seq, &slots) {
                Ok((value, stored)) => {
                    if let Some(table) = self.lost.may_have_overwritten(&key, seq) {
                        let why = format!("{table} may have held a newer version, or its deletion");
                        self.report.doubtful_keys.add(&key, seq, why);
                    }
                    hash.add(&key, seq, &value);
                    self.report.keys += 1;
                    self.report.value_bytes += value.len() as u64;
                    into.add(ExportRecord { key, seq, value: stored })?;
                    let done_bytes = self.report.value_bytes;
                    let total_bytes = self.total_bytes.max(done_bytes);
                    (self.progress)(Progress { done_bytes, total_bytes });
                }
                Err(none) => {
                    self.report.lost_keys.add(&key, seq, none.to_string());
                    if let Some((file, offset)) = none.place {
                        self.report.problem(file, Some(offset), none.why);
                    }
                }
            }
        }
        self.report.content_hash = hash.finish();
        Ok(())
    }

    /// The key that comes next, with what all sources say of its newest version that counts.
    #[expect(clippy::type_complexity, reason = "a version, and what it may be")]
    fn newest(&self, merge: &mut MergeCursor) -> Result<(Bytes, Option<(Seq, Vec<Slot>)>), StoreError> {
        let key = Bytes::copy_from_slice(merge.key());
        let mut found: Option<(Seq, Vec<Slot>)> = None;
        while merge.valid() && merge.key() == key {
            let seq = merge.seq();
            match &mut found {
                _ if seq > visible_after(self.at.index) => {}
                None => found = Some((seq, vec![merge.slot()])),
                Some((newest, slots)) if *newest == seq => slots.push(merge.slot()),
                Some(_) => {}
            }
            merge.next()?;
        }
        Ok((key, found))
    }

    /// The value, as it is and as it is stored, wherever a source says that it is.
    fn read(&self, key: &[u8], seq: Seq, slots: &[Slot]) -> Result<(Bytes, ExportValue), NoValue> {
        let mut none = NoValue { place: None, why: String::new() };
        for slot in slots {
            match slot {
                Slot::Inline(value, expires) => {
                    return Ok((value.clone(), ExportValue::Inline(value.clone(), *expires)));
                }
                Slot::Pointer(at, _) => match self.values.value(pointer(at), key, seq) {
                    Ok(stored) => match stored.decode() {
                        Ok(value) => return Ok((value, ExportValue::Stored(stored))),
                        Err(why) => none.why = why,
                    },
                    Err(other) => none = other,
                },
                Slot::Tombstone => {}
            }
        }
        Err(none)
    }
}
