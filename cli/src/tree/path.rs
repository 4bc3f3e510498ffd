//! Which keys can be paths of files, and which get in each other's way.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Why a key is not written as a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsafe {
    /// Nothing is left behind the prefix.
    Empty,
    /// It begins with `/`.
    Absolute,
    /// It has `.`, `..` or nothing between two slashes or at its end.
    Component,
    /// It has a NUL byte.
    Nul,
}

impl std::fmt::Display for Unsafe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "nothing of the key is left behind the prefix; choose a shorter prefix",
            Self::Absolute => {
                "behind the prefix it begins with a slash; choose a prefix that ends with the slash"
            }
            Self::Component => "'.', '..' and empty names cannot be files",
            Self::Nul => "a file name cannot hold a NUL byte",
        })
    }
}

/// The path, below the target, of the file for a key whose prefix is stripped.
///
/// # Errors
/// The file would not be below the target, or another key could mean the same file.
pub fn relative(name: &[u8]) -> Result<&Path, Unsafe> {
    if name.is_empty() {
        return Err(Unsafe::Empty);
    }
    if name.contains(&0) {
        return Err(Unsafe::Nul);
    }
    if name.starts_with(b"/") {
        return Err(Unsafe::Absolute);
    }
    let bad = |component: &[u8]| matches!(component, b"" | b"." | b"..");
    if name.split(|byte| *byte == b'/').any(bad) {
        return Err(Unsafe::Component);
    }
    Ok(Path::new(OsStr::from_bytes(name)))
}

/// The key of a file: prefix and path below the imported directory.
pub fn key(prefix: &[u8], relative: &Path) -> Vec<u8> {
    [prefix, relative.as_os_str().as_bytes()].concat()
}

/// Finds names that need a directory where another name is a file. Feed it names in ascending order.
///
/// It remembers only the names that the last one begins with, as lengths.
#[derive(Default)]
pub struct Ancestors {
    last: Vec<u8>,
    /// Ascending lengths of those prefixes of `last` that are names themselves.
    lengths: Vec<usize>,
}

impl Ancestors {
    /// Adds a name; returns the file that is in its way.
    pub fn add(&mut self, name: &[u8]) -> Option<PathBuf> {
        let common = self.last.iter().zip(name).take_while(|(a, b)| a == b).count();
        while self.lengths.last().is_some_and(|length| *length > common) {
            self.lengths.pop();
        }
        let file = self.lengths.iter().find(|length| name.get(**length) == Some(&b'/'));
        let file = file.and_then(|length| name.get(..*length)).map(|file| OsStr::from_bytes(file).into());
        self.last.truncate(common);
        self.last.extend_from_slice(name.get(common..).unwrap_or_default());
        if file.is_none() {
            self.lengths.push(name.len());
        }
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_stay_below_the_target_are_paths() {
        for good in [&b"a"[..], b"a/b", b"...", b".a", b"a\n b", b"\xff/\x01", b"..a/b.."] {
            assert_eq!(relative(good).map(|path| path.as_os_str().as_bytes()), Ok(good));
        }
        for (name, why) in [
            (&b""[..], Unsafe::Empty),
            (b"/", Unsafe::Absolute),
            (b"/etc/passwd", Unsafe::Absolute),
            (b".", Unsafe::Component),
            (b"..", Unsafe::Component),
            (b"../a", Unsafe::Component),
            (b"a/../b", Unsafe::Component),
            (b"a/./b", Unsafe::Component),
            (b"a//b", Unsafe::Component),
            (b"a/", Unsafe::Component),
            (b"a\0b", Unsafe::Nul),
        ] {
            assert_eq!(relative(name), Err(why), "{name:?}");
        }
    }

    #[test]
    fn a_file_in_the_way_of_a_directory_is_found() {
        // Sorted: between `a` and `a/b` other names may lie.
        let names = ["a", "a!", "a-b", "a/b", "a/b/c", "aa", "b/c", "b/c/d", "b/d", "c"];
        let mut ancestors = Ancestors::default();
        let found: Vec<_> = names
            .iter()
            .filter_map(|name| Some((*name, ancestors.add(name.as_bytes())?.display().to_string())))
            .collect();
        let expected =
            [("a/b", "a"), ("a/b/c", "a"), ("b/c/d", "b/c")].map(|(name, file)| (name, file.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn ancestors_agree_with_a_set() {
        let mut names: Vec<String> = (0..3000_u32)
            .map(|n| {
                let mut rest = n.wrapping_mul(2_654_435_761);
                let length = 1 + rest % 6;
                (0..length)
                    .map(|_| {
                        rest = rest.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        ["a", "b", "/", "!"][(rest >> 24) as usize % 4]
                    })
                    .collect()
            })
            .filter(|name: &String| relative(name.as_bytes()).is_ok())
            .collect();
        names.sort();
        names.dedup();
        let set: std::collections::BTreeSet<_> = names.iter().cloned().collect();
        let mut ancestors = Ancestors::default();
        for name in &names {
            let in_way = name.match_indices('/').any(|(at, _)| set.contains(&name[..at]));
            assert_eq!(ancestors.add(name.as_bytes()).is_some(), in_way, "{name}");
        }
    }
}
