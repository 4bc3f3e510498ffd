//! The state of a node on its way to another one: a head, pages of records in key order, an end.

use bytes::Bytes;
use kv_api::beside;
use kv_lsm::{Expiry, ExportRecord, ExportValue, LogTime};
use serde::{Deserialize, Serialize};

use super::value::WireValue;
use super::{At, Malformed, WireVote};

/// What a snapshot stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHead {
    /// The leader's vote.
    pub vote: WireVote,
    /// The last entry it includes.
    pub at: At,
    /// What time it was then, as the log tells it.
    pub time: LogTime,
    /// The membership as of that entry: where it was decided, and itself as the log stores it.
    pub membership: (Option<At>, Bytes),
}

/// Answer to the beginning of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotBegun {
    /// Pages are to name this number.
    Transfer(u64),
    /// There is a newer leader or candidate.
    HigherVote(WireVote),
}

/// Some records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPage {
    /// Which transfer it belongs to.
    pub transfer: u64,
    /// Its place among the pages, from 0.
    pub number: u64,
    /// In key order, and behind those of the page before.
    pub records: Vec<WireRecord>,
}

/// A key and its newest version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireRecord {
    key: Bytes,
    seq: u64,
    slot: WireSlot,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum WireSlot {
    /// The value, and when it goes away.
    Inline(#[serde(with = "beside")] Bytes, u32),
    Stored(WireValue),
}

impl From<ExportRecord> for WireRecord {
    fn from(record: ExportRecord) -> Self {
        let ExportRecord { key, seq, value } = record;
        let slot = match value {
            ExportValue::Inline(bytes, expires) => WireSlot::Inline(bytes, expires.stored()),
            ExportValue::Stored(value) => WireSlot::Stored(value.into()),
        };
        Self { key, seq, slot }
    }
}

impl WireRecord {
    /// The record that came; whoever stores it verifies its value.
    pub(crate) fn unpack(self) -> Result<ExportRecord, Malformed> {
        let Self { key, seq, slot } = self;
        let value = match slot {
            WireSlot::Inline(bytes, expires) => ExportValue::Inline(bytes, Expiry::from_stored(expires)),
            WireSlot::Stored(value) => ExportValue::Stored(value.try_into()?),
        };
        Ok(ExportRecord { key, seq, value })
    }
}
