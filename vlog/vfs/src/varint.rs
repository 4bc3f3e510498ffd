//! LEB128 integers: seven bits a byte, least significant first.

/// Most bytes a `u64` takes.
pub const MAX_BYTES: usize = 10;

/// Appends `v`.
pub fn put(buf: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        buf.push(v as u8 | 0x80);
        v >>= 7;
    }
    buf.push(v as u8);
}

/// Reads an integer from the front; returns it and the rest. `None` where it is cut short, longer than
/// it needs to be, or does not fit 64 bits.
#[must_use]
#[inline]
pub fn get(bytes: &[u8]) -> Option<(u64, &[u8])> {
    // One or two bytes, as most are.
    match bytes {
        [byte, rest @ ..] if *byte < 0x80 => Some((u64::from(*byte), rest)),
        [low, high @ 1..0x80, rest @ ..] => Some((u64::from(*low & 0x7f) | u64::from(*high) << 7, rest)),
        _ => get_long(bytes),
    }
}

fn get_long(bytes: &[u8]) -> Option<(u64, &[u8])> {
    match bytes.first_chunk().map(|word| u64::from_le_bytes(*word)) {
        // The last byte of the integer is the first one without the high bit.
        Some(word) if !word & HIGH_BITS != 0 => {
            let len = (!word & HIGH_BITS).trailing_zeros() as usize / 8 + 1;
            let last = word >> (8 * (len - 1)) & 0xff;
            let overlong = len > 1 && last == 0;
            let (_, rest) = bytes.split_at_checked(len)?;
            (!overlong).then(|| (joined(word & u64::MAX >> (64 - 8 * len)), rest))
        }
        _ => get_bytewise(bytes),
    }
}

/// The high bits of eight bytes.
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// The low seven bits of each of eight bytes, side by side: first of two bytes each, then of four, then of all.
fn joined(word: u64) -> u64 {
    let pairs = word & 0x007f_007f_007f_007f | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4
}

/// What is longer than eight bytes, or stands close to the end of them.
fn get_bytewise(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut v = 0u64;
    for (n, byte) in bytes.iter().take(MAX_BYTES).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if n == MAX_BYTES - 1 && bits > 1 {
            return None;
        }
        v |= bits << (7 * n);
        if byte & 0x80 == 0 {
            let overlong = n > 0 && *byte == 0;
            return (!overlong).then(|| (v, bytes.get(n + 1..).unwrap_or_default()));
        }
    }
    None
}

/// How many bytes [`put`] appends for `v`.
#[must_use]
pub fn len(v: u64) -> usize {
    (64 - (v | 1).leading_zeros()).div_ceil(7) as usize
}

/// Appends bytes with their length before them.
pub fn put_bytes(buf: &mut Vec<u8>, bytes: &[u8]) {
    put(buf, bytes.len() as u64);
    buf.extend_from_slice(bytes);
}

/// Reads what [`put_bytes`] wrote; returns it and the rest.
#[must_use]
pub fn get_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = get(bytes)?;
    rest.split_at_checked(usize::try_from(len).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn comes_back(v: u64, rest: Vec<u8>) {
            let mut buf = Vec::new();
            put(&mut buf, v);
            prop_assert_eq!(buf.len(), len(v));
            buf.extend_from_slice(&rest);
            prop_assert_eq!(get(&buf), Some((v, &rest[..])));
        }

        #[test]
        fn every_length_comes_back(bits in 0u32..=64, v: u64, rest: Vec<u8>) {
            let v = v.checked_shr(64 - bits).unwrap_or(0);
            let mut buf = Vec::new();
            put(&mut buf, v);
            let len = buf.len();
            buf.extend_from_slice(&rest);
            prop_assert_eq!(get(&buf), Some((v, &rest[..])));
            prop_assert_eq!(get(&buf), get_bytewise(&buf));
            prop_assert_eq!(get(&buf[..len - 1]), None);
        }

        #[test]
        fn random_bytes_never_panic_and_have_one_encoding(bytes: Vec<u8>) {
            if let Some((v, rest)) = get(&bytes) {
                let mut again = Vec::new();
                put(&mut again, v);
                prop_assert_eq!(&bytes[..bytes.len() - rest.len()], &again[..]);
            }
            prop_assert_eq!(get(&bytes), get_bytewise(&bytes));
            let _ = get_bytes(&bytes);
        }
    }

    #[test]
    fn refuses_what_is_cut_short_overlong_or_too_large() {
        assert_eq!(get(&[]), None);
        assert_eq!(get(&[0x80]), None);
        assert_eq!(get(&[0x80, 0]), None);
        assert_eq!(get(&[0xff; 11]), None);
        assert_eq!(get(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]), None);
        assert_eq!(get_bytes(&[5, 1, 2]), None);
    }
}
