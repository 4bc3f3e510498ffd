//! The names of all files in a data directory.
//!
//! Tables, segments and manifests draw their numbers from one counter, which never goes back, so a
//! number found in a log line or in a directory means one file and one only.

/// The file that names the manifest in use.
pub const CURRENT: &str = "CURRENT";
/// The file whose lock a process holds while it works in the directory.
pub const LOCK: &str = "LOCK";
/// Ends the name of a file that is being written and counts only once renamed.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

const TABLE_SUFFIX: &str = ".sst";
const SEGMENT_SUFFIX: &str = ".seg";
/// Ends the name of a segment's file that is given up and kept to be written again.
const FREE_SUFFIX: &str = ".free";
/// Ends the name of a file that nothing needs any more, while the disk gets it back piece by piece.
const GONE_SUFFIX: &str = ".gone";
const MANIFEST_PREFIX: &str = "MANIFEST-";

/// What a name in a data directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileName {
    /// A table, by its file number.
    Table(u64),
    /// A segment's file, by its file number.
    Segment(u64),
    /// A file that held a segment and will hold another one, by the number it had.
    Free(u64),
    /// What is left of a table or of a segment's file that nothing needs any more, by the number it had.
    Gone(u64),
    /// A manifest, by its file number.
    Manifest(u64),
    /// [`CURRENT`].
    Current,
    /// [`LOCK`].
    Lock,
    /// One of the other names with [`TEMPORARY_SUFFIX`] behind it.
    Temporary,
}

impl FileName {
    /// The file number in it.
    #[must_use]
    pub fn number(self) -> Option<u64> {
        match self {
            Self::Table(n) | Self::Segment(n) | Self::Free(n) | Self::Gone(n) | Self::Manifest(n) => Some(n),
            Self::Current | Self::Lock | Self::Temporary => None,
        }
    }
}

/// Name of the table with this file number: `00000012.sst`.
#[must_use]
pub fn table_name(number: u64) -> String {
    format!("{number:08}{TABLE_SUFFIX}")
}

/// Name of the segment file with this number: `00000012.seg`.
#[must_use]
pub fn segment_name(number: u64) -> String {
    format!("{number:08}{SEGMENT_SUFFIX}")
}

/// Name of the file with this number while no segment is in it: `00000012.free`.
#[must_use]
pub fn free_name(number: u64) -> String {
    format!("{number:08}{FREE_SUFFIX}")
}

/// Name of the file with this number while it is removed piece by piece: `00000012.gone`.
#[must_use]
pub fn gone_name(number: u64) -> String {
    format!("{number:08}{GONE_SUFFIX}")
}

/// Name of the manifest with this file number: `MANIFEST-000012`.
#[must_use]
pub fn manifest_name(number: u64) -> String {
    format!("{MANIFEST_PREFIX}{number:06}")
}

/// Name under which `name` is written before it is renamed into place.
#[must_use]
pub fn temporary_name(name: &str) -> String {
    format!("{name}{TEMPORARY_SUFFIX}")
}

/// What the name stands for; `None` for a name that this program never gives, among them other spellings
/// of a number (`12.sst`): taking two names for one file would be worse than not knowing one.
#[must_use]
pub fn parse(name: &str) -> Option<FileName> {
    if let Some(inner) = name.strip_suffix(TEMPORARY_SUFFIX) {
        return match parse(inner)? {
            FileName::Temporary | FileName::Lock => None,
            _ => Some(FileName::Temporary),
        };
    }
    match name {
        CURRENT => return Some(FileName::Current),
        LOCK => return Some(FileName::Lock),
        _ => {}
    }
    let (parsed, spelled) = if let Some(digits) = name.strip_suffix(TABLE_SUFFIX) {
        let number = decimal(digits)?;
        (FileName::Table(number), table_name(number))
    } else if let Some(digits) = name.strip_suffix(SEGMENT_SUFFIX) {
        let number = decimal(digits)?;
        (FileName::Segment(number), segment_name(number))
    } else if let Some(digits) = name.strip_suffix(FREE_SUFFIX) {
        let number = decimal(digits)?;
        (FileName::Free(number), free_name(number))
    } else if let Some(digits) = name.strip_suffix(GONE_SUFFIX) {
        let number = decimal(digits)?;
        (FileName::Gone(number), gone_name(number))
    } else {
        let number = decimal(name.strip_prefix(MANIFEST_PREFIX)?)?;
        (FileName::Manifest(number), manifest_name(number))
    };
    (spelled == name).then_some(parsed)
}

fn decimal(digits: &str) -> Option<u64> {
    // `u64::from_str` also takes a leading `+`; the comparison of spellings in `parse` refuses that.
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for number in [0, 1, 12, 999_999, 1_000_000, 99_999_999, 100_000_000, u64::MAX] {
            assert_eq!(parse(&table_name(number)), Some(FileName::Table(number)));
            assert_eq!(parse(&segment_name(number)), Some(FileName::Segment(number)));
            assert_eq!(parse(&free_name(number)), Some(FileName::Free(number)));
            assert_eq!(parse(&gone_name(number)), Some(FileName::Gone(number)));
            assert_eq!(parse(&manifest_name(number)), Some(FileName::Manifest(number)));
            assert_eq!(parse(&temporary_name(&table_name(number))), Some(FileName::Temporary));
        }
        assert_eq!(table_name(12), "00000012.sst");
        assert_eq!(segment_name(12), "00000012.seg");
        assert_eq!(free_name(12), "00000012.free");
        assert_eq!(gone_name(12), "00000012.gone");
        assert_eq!(manifest_name(12), "MANIFEST-000012");
        assert_eq!(parse("CURRENT"), Some(FileName::Current));
        assert_eq!(parse("CURRENT.tmp"), Some(FileName::Temporary));
        assert_eq!(parse("LOCK"), Some(FileName::Lock));
    }

    #[test]
    fn other_names_are_not_ours() {
        let foreign = [
            "",
            ".sst",
            "12.sst",
            "000000012.sst",
            "+0000012.sst",
            "-0000012.sst",
            "00000012.SST",
            "00000012.sst.bak",
            "0000001a.seg",
            "12.free",
            "12.gone",
            "MANIFEST-",
            "MANIFEST-12",
            "MANIFEST-0000012",
            "current",
            "notes.tmp",
            ".tmp",
            "LOCK.tmp",
            "CURRENT.tmp.tmp",
            "99999999999999999999.sst",
            "00000012.sst ",
        ];
        for name in foreign {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
