//! Numbers of bytes as people write them.

const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads `67108864`, `64MiB` or `8 MB`: a whole number and a unit in any case, bytes where there is none.
/// `KiB` and so on are powers of 1024, `KB` and so on of 1000; `K` alone is refused, for it may be either.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    if number.is_empty() {
        return Err(format!("expected a number of bytes such as 65536 or \"64MiB\", found {text:?}"));
    }
    let factor = match UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
        Some(&(_, factor)) => factor,
        None if unit.is_empty() => 1,
        None => {
            let names: Vec<_> = UNITS.iter().map(|(name, _)| *name).collect();
            return Err(format!("unknown unit {unit:?} in {text:?}; units are {}", names.join(", ")));
        }
    };
    let number = number.parse::<u64>().ok();
    number.and_then(|n| n.checked_mul(factor)).ok_or_else(|| format!("{text:?} is too large"))
}

/// Shows a number of bytes in the largest binary unit that divides it: `64MiB`, `100`.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let binary = UNITS.iter().rev().filter(|(name, _)| name.ends_with("iB"));
    let fits = |factor: u64| bytes != 0 && bytes.is_multiple_of(factor);
    match binary.into_iter().find(|(_, factor)| fits(*factor)) {
        Some((name, factor)) => format!("{}{name}", bytes / factor),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("10B", 10),
            ("64MiB", 64 << 20),
            ("8 MB", 8_000_000),
            ("1kib", 1024),
            ("1 KB", 1000),
            ("3GiB", 3 << 30),
            ("2TB", 2_000_000_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        let error = |text| parse_size(text).unwrap_err();
        let form = r#"expected a number of bytes such as 65536 or "64MiB", found "#;
        for text in ["", "MiB", "-1", "+5", " 5"] {
            assert_eq!(error(text), format!("{form}{text:?}"));
        }
        let units = "units are B, KB, MB, GB, TB, KiB, MiB, GiB, TiB";
        assert_eq!(error("64M"), format!(r#"unknown unit "M" in "64M"; {units}"#));
        assert_eq!(error("1.5GiB"), format!(r#"unknown unit ".5GiB" in "1.5GiB"; {units}"#));
        assert_eq!(error("99999999TiB"), r#""99999999TiB" is too large"#);
        assert_eq!(error("99999999999999999999"), r#""99999999999999999999" is too large"#);
    }

    #[test]
    fn a_shown_size_is_read_back() {
        for (bytes, text) in
            [(0, "0"), (1000, "1000"), (1024, "1KiB"), (65 << 20, "65MiB"), (1 << 30, "1GiB")]
        {
            assert_eq!(show_size(bytes), text);
            assert_eq!(parse_size(text), Ok(bytes));
        }
        assert_eq!(parse_size(&show_size(u64::MAX)), Ok(u64::MAX));
    }
}
