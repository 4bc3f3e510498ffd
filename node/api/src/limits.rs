//! Limits a node enforces and tells its clients at connect.

use serde::{Deserialize, Serialize};

use crate::{
    KvError, Limit,
    kv::{ScanRequest, WriteRequest},
};

/// Most operations a batch can ever have: their number has 16 bits in a revision.
pub const BATCH_OPS_MAX: u32 = 65_535;
/// Longest key a format can hold.
pub const KEY_BYTES_MAX: u32 = 64 << 10;
/// What an [`Item`](crate::kv::Item) adds to its key and value in a page: more than the wire needs.
pub const ITEM_BYTES: u64 = 42;
/// What an operation or check adds to its key and value in a frame: more than the wire needs.
pub const OP_BYTES: u64 = 18;
/// Shortest time to live, in milliseconds: the time that a cluster goes by has seconds.
pub const TTL_MS_MIN: u64 = 1_000;
/// Longest time to live, in milliseconds: 50 years. The time that a cluster goes by ends in 2106.
pub const TTL_MS_MAX: u64 = 50 * 365 * 86_400_000;
/// What a frame has besides: head, counts, cursor without its key. More than the wire needs.
pub const FRAME_BYTES_EXTRA: u64 = 256;

/// Limits that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidLimits(String);

/// Sizes in bytes, unless said otherwise. A request beyond one is refused with
/// [`KvError::TooLarge`], which names it. What keeps to the others fits into a frame:
/// [`validate`](Limits::validate) makes sure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Longest key. Default 64 KiB, which is also the most a format can hold.
    pub key_bytes_max: u32,
    /// Longest value, before compression. Default 64 MiB.
    pub value_bytes_max: u32,
    /// Longest batch: its keys and values together. Default 64 MiB + 1 MiB.
    pub batch_bytes_max: u32,
    /// Most operations in a batch, checks included. Default 65,535 (an operation's number has 16 bits).
    pub batch_ops_max: u32,
    /// Most bytes in a page of a scan, as [`Item::page_bytes`](crate::kv::Item::page_bytes) counts them;
    /// one item may exceed it alone. Default 4 MiB.
    pub page_bytes_max: u32,
    /// Longest frame either side may send; follows from the others. Default 67 MiB.
    pub frame_bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: u32 = 1 << 20;
        Self {
            key_bytes_max: 64 << 10,
            value_bytes_max: 64 * MIB,
            batch_bytes_max: 65 * MIB,
            batch_ops_max: 65_535,
            page_bytes_max: 4 * MIB,
            frame_bytes_max: 67 * MIB,
        }
    }
}

impl Limits {
    /// The longest frame that a request or reply within the other limits needs.
    pub fn frame_bytes_needed(&self) -> u64 {
        let key = u64::from(self.key_bytes_max);
        let batch = u64::from(self.batch_bytes_max) + OP_BYTES * u64::from(self.batch_ops_max);
        let item = key + u64::from(self.value_bytes_max) + ITEM_BYTES;
        // A page ends with the key of the next one.
        let page = item.max(u64::from(self.page_bytes_max)) + key;
        batch.max(page) + FRAME_BYTES_EXTRA
    }

    /// Whether they make sense together.
    ///
    /// # Errors
    /// Names the fields that do not agree.
    pub fn validate(&self) -> Result<(), InvalidLimits> {
        let fail = |what: String| Err(InvalidLimits(what));
        if self.key_bytes_max == 0 || self.key_bytes_max > KEY_BYTES_MAX {
            return fail(format!("key_bytes_max must be 1 to {KEY_BYTES_MAX}"));
        }
        if self.value_bytes_max == 0 || self.page_bytes_max == 0 {
            return fail("value_bytes_max and page_bytes_max must not be 0".into());
        }
        if self.batch_ops_max == 0 || self.batch_ops_max > BATCH_OPS_MAX {
            return fail(format!("batch_ops_max must be 1 to {BATCH_OPS_MAX}"));
        }
        let one = u64::from(self.key_bytes_max) + u64::from(self.value_bytes_max);
        if u64::from(self.batch_bytes_max) < one {
            return fail(format!("batch_bytes_max must hold one key and value of the longest: {one}"));
        }
        let frame = self.frame_bytes_needed();
        if u64::from(self.frame_bytes_max) < frame {
            return fail(format!("frame_bytes_max must be at least {frame} with these limits"));
        }
        Ok(())
    }

    /// Whether a key is short enough.
    ///
    /// # Errors
    /// [`KvError::TooLarge`] for [`Limit::Key`].
    pub fn check_key(&self, key: &[u8]) -> Result<(), KvError> {
        within(Limit::Key, self.key_bytes_max, key.len() as u64)
    }

    /// Whether a write keeps to the limits.
    ///
    /// # Errors
    /// [`KvError::TooLarge`] for the first limit it breaks.
    pub fn check_write(&self, request: &WriteRequest) -> Result<(), KvError> {
        within(Limit::BatchOps, self.batch_ops_max, request.ops_count())?;
        for check in &request.checks {
            self.check_key(&check.key)?;
        }
        for op in &request.ops {
            self.check_key(op.key())?;
            within(Limit::Value, self.value_bytes_max, op.value().map_or(0, |value| value.len() as u64))?;
            check_ttl(op.ttl_ms())?;
        }
        within(Limit::BatchBytes, self.batch_bytes_max, request.payload_bytes())
    }

    /// Whether the bounds of a scan are short enough.
    ///
    /// # Errors
    /// [`KvError::TooLarge`] for [`Limit::Key`].
    pub fn check_scan(&self, request: &ScanRequest) -> Result<(), KvError> {
        let cursor = request.cursor.as_ref().map(|cursor| &cursor.from);
        // The end of a prefix may be as long as the longest key; a successor has one byte more.
        [Some(&request.from), request.to.as_ref(), cursor]
            .into_iter()
            .flatten()
            .try_for_each(|key| within(Limit::Key, self.key_bytes_max.saturating_add(1), key.len() as u64))
    }
}

/// Whether a time to live makes sense.
///
/// # Errors
/// [`KvError::TooLarge`] for [`Limit::Ttl`]; [`KvError::Invalid`] where it is shorter than [`TTL_MS_MIN`].
pub fn check_ttl(ttl_ms: Option<u64>) -> Result<(), KvError> {
    match ttl_ms {
        Some(actual @ ..TTL_MS_MIN) => Err(KvError::Invalid(format!(
            "a time to live of {actual} ms; it takes {TTL_MS_MIN} ms at the least, or none for a value that stays"
        ))),
        Some(actual) if actual > TTL_MS_MAX => {
            Err(KvError::TooLarge { limit: Limit::Ttl, max: TTL_MS_MAX, actual })
        }
        _ => Ok(()),
    }
}

fn within(limit: Limit, max: u32, actual: u64) -> Result<(), KvError> {
    if actual > u64::from(max) {
        return Err(KvError::TooLarge { limit, max: u64::from(max), actual });
    }
    Ok(())
}
