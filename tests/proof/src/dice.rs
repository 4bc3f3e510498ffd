//! Numbers that look random and are the same each time, and what is made of them.

use bytes::Bytes;

/// See the module.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

/// The lengths of values: none, inline, separate, several to a segment, one to a segment, chunked.
const LENGTHS: [usize; 16] =
    [0, 100, 100, 100, 100, 700, 1_500, 1_500, 1_500, 5_000, 5_000, 5_000, 5_000, 5_000, 70_000, 280_000];

impl Dice {
    /// The next number.
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// The next number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A value; half of them can be compressed.
    pub fn value(&mut self) -> Bytes {
        let length = LENGTHS[self.below(LENGTHS.len() as u64) as usize];
        let step = if self.once_in(2) { 1 } else { 64 };
        self.bytes(length, step)
    }

    /// So many bytes, changing every `step` of them.
    pub fn bytes(&mut self, length: usize, step: usize) -> Bytes {
        let mut bytes = Vec::with_capacity(length + step);
        while bytes.len() < length {
            let byte = self.roll() as u8;
            bytes.extend(std::iter::repeat_n(byte, step));
        }
        bytes.truncate(length);
        bytes.into()
    }
}

/// A key by its number.
#[must_use]
pub fn key(number: u64) -> Bytes {
    // Of different lengths, and one a prefix of another.
    format!("key{number}").into()
}
