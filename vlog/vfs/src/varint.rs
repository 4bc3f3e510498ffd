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
pub fn get(bytes: &[u8]) -> Option<(u64, &[u8])> {
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
        fn random_bytes_never_panic_and_have_one_encoding(bytes: Vec<u8>) {
            if let Some((v, rest)) = get(&bytes) {
                let mut again = Vec::new();
                put(&mut again, v);
                prop_assert_eq!(&bytes[..bytes.len() - rest.len()], &again[..]);
            }
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
