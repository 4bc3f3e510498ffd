//! Numbers that look random and are the same each time, and what is made of them.

use bytes::Bytes;

pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        // Seeds that differ little begin differently.
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678);
        for _ in 0..4 {
            dice.below(2);
        }
        dice
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of few keys, some a prefix of others.
    pub fn key(&mut self) -> Bytes {
        match self.below(60) {
            0 => Bytes::from_static(b"\0"),
            1 => Bytes::from_static(b"\xff\xff"),
            number => format!("key{number}").into(),
        }
    }

    /// Inline, separate, chunked; half of them can be compressed.
    pub fn value(&mut self) -> Bytes {
        let lengths = [0, 10, 10, 100, 100, 700, 700, 1_500, 1_500, 5_000, 30_000, 280_000];
        let kinds = if self.once_in(8) { 12 } else { 10 };
        let length = lengths[self.below(kinds) as usize];
        let step = if self.once_in(2) { 1 } else { 64 };
        let mut bytes = Vec::with_capacity(length + step);
        while bytes.len() < length {
            let byte = self.below(256) as u8;
            bytes.extend(std::iter::repeat_n(byte, step));
        }
        bytes.truncate(length);
        bytes.into()
    }
}
