//! Limits a node enforces and tells its clients at connect.

use serde::{Deserialize, Serialize};

/// Sizes in bytes, unless said otherwise. A request beyond one is refused with
/// [`KvError::TooLarge`](crate::KvError::TooLarge), which names it.
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
    /// Most bytes of keys and values in a page of a scan; one item may exceed it alone. Default 4 MiB.
    pub page_bytes_max: u32,
    /// Longest frame either side may send; follows from the others. Default 66 MiB.
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
            frame_bytes_max: 66 * MIB,
        }
    }
}
