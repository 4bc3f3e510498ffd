//! The settings in force, as a file.

use std::fmt::Write;

use super::{Loaded, all};

pub(super) fn to_toml(loaded: &Loaded) -> String {
    let mut out = String::from("# Settings in force, and where each comes from.\n");
    let mut section = "";
    for spec in all() {
        let (in_section, name) = spec.section_and_name();
        if in_section != section {
            section = in_section;
            let _ = writeln!(out, "\n[{section}]");
        }
        let origin = comment(&loaded.origins.of(spec.key).label());
        let _ = match spec.show(&loaded.settings) {
            Some(value) => writeln!(out, "{name} = {value}  # {origin}"),
            None => writeln!(out, "# {name} is not set  # {origin}"),
        };
    }
    out
}

/// A comment ends with its line and may hold no control character; a file name may.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
