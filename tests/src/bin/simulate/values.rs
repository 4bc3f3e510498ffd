//! Values that say which one they are, all of them different.

use bytes::Bytes;

/// Number of a value.
pub type ValueId = u64;

/// Inline, separate, several chunks: lengths around the borders.
const LENGTHS: [usize; 8] = [16, 100, 1_023, 1_024, 3_000, 9_000, 40_000, 300_000];

/// The value of this number.
pub fn bytes(id: ValueId) -> Bytes {
    let mix = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // The longest are rare: copying them is what a simulation spends its time with.
    let class = (mix >> 32) % 40;
    let length = LENGTHS.get(if class == 39 { 7 } else { class as usize % 7 }).copied().unwrap_or(16);
    let mut bytes = id.to_le_bytes().to_vec();
    let mut state = mix | 1;
    while bytes.len() < length {
        // Every second value does not compress.
        if id.is_multiple_of(2) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// The number of a value; `None` if it is none of them, or damaged.
pub fn id(value: &[u8]) -> Option<ValueId> {
    let id = ValueId::from_le_bytes(value.first_chunk::<8>().copied()?);
    (bytes(id) == value).then_some(id)
}
