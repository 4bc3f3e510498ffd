//! Keys are bytes; people read and type text.
//!
//! Text form: printable ASCII stands for itself, a backslash is `\\`, every other byte is `\xNN` (two hex
//! digits). So what is printed is plain ASCII, can be typed back in a shell, and never confuses a terminal.
//! What is typed may hold other bytes as they are.

use std::fmt::Write as _;

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadEscape {
    /// Position of the backslash, in bytes.
    pub offset: usize,
}

impl std::error::Error for BadEscape {}

impl std::fmt::Display for BadEscape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the backslash at byte {} starts no escape: write \\\\ for a backslash and \\xNN for any byte",
            self.offset
        )
    }
}

/// The text form of some bytes.
pub fn format(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                // Writing to a String does not fail.
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text
}

/// The text form of the first bytes of `bytes`, at most `width_max` characters long; `...` at its end
/// says that something is left out.
pub fn preview(bytes: &[u8], width_max: usize) -> String {
    const CUT: &str = "...";
    // No byte takes less than one character, so more than `width_max` bytes cannot be needed.
    let head = bytes.get(..width_max).unwrap_or(bytes);
    let text = format(head);
    if text.len() <= width_max && head.len() == bytes.len() {
        return text;
    }
    let mut shown = String::new();
    for byte in head {
        let one = format(std::slice::from_ref(byte));
        if shown.len() + one.len() + CUT.len() > width_max {
            break;
        }
        shown.push_str(&one);
    }
    shown + CUT
}

/// The bytes a text stands for.
///
/// # Errors
/// A backslash that starts neither `\\` nor `\xNN`.
pub fn parse(text: &[u8]) -> Result<Vec<u8>, BadEscape> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (byte, after) =
            unescape(after).ok_or(BadEscape { offset: text.len().saturating_sub(after.len() + 1) })?;
        bytes.push(byte);
        rest = after;
    }
    Ok(bytes)
}

/// What stands after a backslash: the byte meant, and the text behind the escape.
fn unescape(text: &[u8]) -> Option<(u8, &[u8])> {
    match text {
        [b'\\', rest @ ..] => Some((b'\\', rest)),
        [b'x', high, low, rest @ ..] => Some((hex_digit(*high)? << 4 | hex_digit(*low)?, rest)),
        _ => None,
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_a_round_trip() {
        for byte in 0..=u8::MAX {
            for bytes in [vec![byte], vec![b'a', byte, b'0'], vec![byte, b'x', b'4', b'1'], vec![b'\\', byte]]
            {
                let text = format(&bytes);
                assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{text:?}");
                assert_eq!(parse(text.as_bytes()), Ok(bytes), "{text:?}");
            }
        }
        let all: Vec<u8> = (0..=u8::MAX).collect();
        assert_eq!(parse(format(&all).as_bytes()), Ok(all));
    }

    #[test]
    fn text_stays_readable() {
        assert_eq!(format(b"dir/a b\\c\n\xff"), "dir/a b\\\\c\\x0a\\xff");
        assert_eq!(parse(b"\\xFF\\xfe\\\\"), Ok(b"\xff\xfe\\".to_vec()));
        assert_eq!(parse("ü".as_bytes()), Ok("ü".as_bytes().to_vec()));
    }

    #[test]
    fn a_wrong_escape_is_named_by_its_place() {
        for (text, offset) in
            [("\\", 0), ("ab\\n", 2), ("\\x", 0), ("\\x4", 0), ("\\\\\\xg0", 2), ("a\\x4 ", 1)]
        {
            assert_eq!(parse(text.as_bytes()), Err(BadEscape { offset }), "{text:?}");
        }
    }

    #[test]
    fn a_preview_is_never_wider_and_never_cuts_an_escape() {
        assert_eq!(preview(b"short", 40), "short");
        assert_eq!(preview(&[b'a'; 40], 40), "a".repeat(40));
        assert_eq!(preview(&[b'a'; 41], 40), format!("{}...", "a".repeat(37)));
        assert_eq!(preview(&[0; 40], 40), format!("{}...", "\\x00".repeat(9)));
        assert_eq!(preview(&[], 40), "");
    }
}
