//! Values as they are stored, on their way to another node.

use bytes::Bytes;
use kv_api::beside;
use kv_vlog::{Codec, Expiry, StoredValue};
use serde::{Deserialize, Serialize};

use super::Malformed;

/// A value, not verified yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WireValue {
    codec: u8,
    crc: u32,
    value_bytes: u64,
    expires: u32,
    #[serde(with = "beside")]
    head: Bytes,
    #[serde(with = "beside")]
    pub(super) body: Bytes,
}

impl From<StoredValue> for WireValue {
    fn from(value: StoredValue) -> Self {
        let StoredValue { codec, crc, value_bytes, expires, head, body } = value;
        Self { codec: codec as u8, crc, value_bytes, expires: expires.stored(), head, body }
    }
}

impl TryFrom<WireValue> for StoredValue {
    type Error = Malformed;

    /// Its checksums are to be verified by whoever stores it.
    fn try_from(value: WireValue) -> Result<Self, Malformed> {
        let WireValue { codec, crc, value_bytes, expires, head, body } = value;
        let codec = Codec::try_from(codec).map_err(|e| Malformed(e.to_string()))?;
        Ok(Self { codec, crc, value_bytes, expires: Expiry::from_stored(expires), head, body })
    }
}
