//! Values of `bench`: incompressible, different for each key, checkable, and almost free to make.

use bytes::Bytes;

use super::shuffle::mix;

/// How far apart slices of the pool may begin.
const OFFSETS: usize = 1 << 20;

/// Key number and value length, at the front of each value.
const STAMP_BYTES: usize = 16;

/// What all keys of `bench` begin with.
pub const KEY_PREFIX: &[u8] = b"bench/";

/// Largest number of keys: their numbers have ten digits.
pub const KEYS_MAX: u64 = 10_000_000_000;

/// The key with a number.
pub fn key(number: u64) -> Bytes {
    Bytes::from(format!("bench/{number:010}"))
}

/// The number of a key that [`key`] made.
pub fn number(key: &[u8]) -> Option<u64> {
    let digits = key.strip_prefix(KEY_PREFIX).filter(|digits| digits.len() == 10)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Makes values: slices of one random pool, at places that depend on the key, stamped with its number.
pub struct Values {
    pool: Vec<u8>,
    value_bytes: usize,
}

impl Values {
    /// Values of this length.
    pub fn new(value_bytes: usize) -> Self {
        let words = (OFFSETS + value_bytes).div_ceil(8) as u64;
        Self { pool: (0..words).flat_map(|word| mix(word).to_le_bytes()).collect(), value_bytes }
    }

    /// The value of a key.
    pub fn of(&self, number: u64) -> Bytes {
        let start = (mix(!number) % OFFSETS as u64) as usize;
        // The pool is longer than any start and the length together.
        let slice = self.pool.get(start..start + self.value_bytes).unwrap_or_default();
        let mut value = slice.to_vec();
        for (byte, stamp) in value.iter_mut().zip(stamp(number, self.value_bytes)) {
            *byte = stamp;
        }
        value.into()
    }
}

/// Whether a value is one that `bench` wrote under this key: its number and length are stamped into it.
pub fn is_of(value: &[u8], number: u64) -> bool {
    value.iter().zip(stamp(number, value.len())).all(|(byte, stamp)| *byte == stamp)
}

fn stamp(number: u64, value_bytes: usize) -> [u8; STAMP_BYTES] {
    let stamp = u128::from(number) | u128::from(value_bytes as u64) << 64;
    stamp.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_belongs_to_its_key_and_has_its_length() {
        for value_bytes in [0, 1, 7, 8, 15, 16, 17, 4096] {
            let values = Values::new(value_bytes);
            let value = values.of(258);
            assert_eq!(value.len(), value_bytes);
            assert!(is_of(&value, 258));
            assert!(value_bytes < 1 || !is_of(&value, 259));
            assert!(value_bytes < 17 || !is_of(&value[1..], 258));
            assert!(value_bytes < 17 || !is_of(&value[..value_bytes - 1], 258));
            assert_eq!(value, Values::new(value_bytes).of(258), "the same at each run");
        }
    }

    #[test]
    fn values_differ_and_do_not_compress() {
        let values = Values::new(4096);
        let (one, other) = (values.of(1), values.of(2));
        let same = one.iter().zip(&other[..]).skip(STAMP_BYTES).filter(|(a, b)| a == b).count();
        assert!(same < 40, "{same} bytes alike");
        let mut counts = [0_u32; 256];
        one.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        assert!(counts.iter().all(|count| *count < 48), "bytes are spread evenly");
    }

    #[test]
    fn keys_have_ten_digits() {
        assert_eq!(key(0), "bench/0000000000");
        assert_eq!(key(KEYS_MAX - 1), "bench/9999999999");
        assert_eq!(number(&key(1234)), Some(1234));
        for other in ["bench/", "bench/12", "bench/+000000012", "bench/00000000120", "other/0000000000"] {
            assert_eq!(number(other.as_bytes()), None, "{other}");
        }
    }
}
