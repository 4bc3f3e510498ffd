//! `docs/config.md`, made from the declarations.

use std::fmt::Write;

use super::{Kind, Settings, Spec, all};

const INTRODUCTION: &str = "\
# Settings of kvnode

This file is generated from `node/src/config/settings.rs`, and a test holds it to that: after a change there, run
`KV_BLESS=1 cargo test -p kvnode --lib reference` and commit the result.

A value is looked for in four places; each overrides the ones before it:

1. the default below;
2. the TOML file that `--config FILE` names;
3. the environment: `KVNODE_` and the name in capitals, with `_` for the dot (`engine.compression` is
   `KVNODE_ENGINE_COMPRESSION`);
4. the flag, where there is one.

`kvnode --print-config` prints the settings in force as such a file, with a comment behind each that says where it comes
from. `kvnode --check-config` only says whether they are valid. Unknown names are errors, in the file and in the
environment (the variables that Kubernetes makes for a service called `kvnode` are left alone). With any error the exit
status is 2.

Names end in their unit: `_bytes` takes a number or a text with a unit (`65536`, `\"64KiB\"`, `\"8 MB\"`; KiB, MiB, GiB, TiB are
powers of 1024, KB, MB, GB, TB of 1000), `_ms` milliseconds. Ranges are inclusive. What is not set by default can be unset
again by an empty text.

This version has no TLS: it listens on loopback addresses only, for clients and for HTTP, unless `insecure_plaintext` is
set. `join` is refused: all nodes of a cluster are started with the same `initial_cluster`.
";

/// The reference of all settings, in Markdown.
#[must_use]
pub fn reference() -> String {
    let defaults = Settings::default();
    let mut out = String::from(INTRODUCTION);
    let mut section = None;
    for spec in all() {
        let (in_section, _) = spec.section_and_name();
        if section != Some(in_section) {
            section = Some(in_section);
            let title = if in_section.is_empty() { "Node".into() } else { format!("`[{in_section}]`") };
            let _ = write!(
                out,
                "\n## {title}\n\n| Setting | Flag | Default | Takes | Effect |\n|---|---|---|---|---|\n"
            );
        }
        out.push_str(&row(spec, &defaults));
    }
    out
}

fn row(spec: &Spec, defaults: &Settings) -> String {
    let flag = spec.flag.map_or(String::new(), |flag| format!("`--{flag}`"));
    let default = spec.show(defaults).map_or("not set".into(), |value| format!("`{value}`"));
    let takes = match (spec.kind, spec.kind.range()) {
        (Kind::Count { min, .. }, Some((_, max))) if max == i64::MAX as u64 => format!("number from {min}"),
        (kind, Some((min, max))) => {
            let unit = match kind {
                Kind::Bytes { .. } => "bytes",
                Kind::Millis { .. } => "milliseconds",
                _ => "number",
            };
            format!("{unit}, {} to {}", kind.number(min), kind.number(max))
        }
        (kind, None) => format!("`{}`", kind.value_name().replace('|', "\\|")),
    };
    format!("| `{}` | {flag} | {default} | {takes} | {} |\n", spec.key, spec.effect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "documentation is no data directory")]
    fn the_reference_is_what_the_code_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/config.md");
        if std::env::var_os("KV_BLESS").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == reference(), "docs/config.md is out of date; its first lines say how to renew it");
    }
}
