//! CRC frames: `[payload length u32][crc32 u32 of the length's bytes and the payload][payload]`.

/// Bytes before the payload.
pub const HEADER: usize = 8;

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes end before the frame does.
    #[error("frame is cut short")]
    CutShort,
    /// The length is over the caller's limit.
    #[error("frame of {len} bytes is over the limit")]
    TooLong {
        /// What the frame says.
        len: u32,
    },
    /// The checksum does not match.
    #[error("checksum of the frame does not match")]
    BadCrc,
}

/// Appends a frame around `payload`.
///
/// # Panics
/// When the payload is 4 GiB or longer: its length would not fit.
pub fn encode(payload: &[u8], out: &mut Vec<u8>) {
    assert!(payload.len() <= u32::MAX as usize, "a frame holds less than 4 GiB");
    let len = (payload.len() as u32).to_le_bytes();
    out.extend_from_slice(&len);
    out.extend_from_slice(&crc(len, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// Reads a frame from the front, its payload at most `max_len` bytes; returns its payload and the rest.
///
/// # Errors
/// See [`FrameError`]; `TooLong` goes before `CutShort`, so that a damaged length is not taken for a torn
/// end.
pub fn decode(bytes: &[u8], max_len: u32) -> Result<(&[u8], &[u8]), FrameError> {
    let (len, rest) = bytes.split_first_chunk::<4>().ok_or(FrameError::CutShort)?;
    let (expected, rest) = rest.split_first_chunk::<4>().ok_or(FrameError::CutShort)?;
    let payload_len = u32::from_le_bytes(*len);
    if payload_len > max_len {
        return Err(FrameError::TooLong { len: payload_len });
    }
    let (payload, rest) = rest.split_at_checked(payload_len as usize).ok_or(FrameError::CutShort)?;
    if crc(*len, payload) != u32::from_le_bytes(*expected) {
        return Err(FrameError::BadCrc);
    }
    Ok((payload, rest))
}

/// Covers the length, so that no frame is all zeroes: the checksum of four zero bytes is not zero.
fn crc(len: [u8; 4], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&len);
    crc.update(payload);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_and_any_damage_is_noticed() {
        for payload in [&b""[..], b"x", b"hello world"] {
            let mut bytes = Vec::new();
            encode(payload, &mut bytes);
            bytes.extend_from_slice(b"rest");
            assert_eq!(decode(&bytes, 100), Ok((payload, &b"rest"[..])));
            let frame = HEADER + payload.len();
            for bit in 0..frame * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&flipped, 100).is_err());
            }
            for cut in 0..frame {
                assert_eq!(decode(&bytes[..cut], 100), Err(FrameError::CutShort));
            }
        }
        assert_eq!(decode(&[0; 64], 100), Err(FrameError::BadCrc));
        assert_eq!(decode(&[0xff; 64], 100), Err(FrameError::TooLong { len: u32::MAX }));
    }
}
