//! What can be wrong with a configuration; each message says where and what to do.

use super::Origin;

/// What is wrong with the configuration. The caller says it and exits.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration file {file}: {why}")]
    Unreadable {
        /// Its path, as given.
        file: String,
        /// Why not.
        why: String,
    },
    /// The file is not TOML.
    #[error("{at}: {why}")]
    Syntax {
        /// File and line.
        at: Origin,
        /// What the parser says.
        why: String,
    },
    /// There is no such setting.
    #[error("{at}: unknown {what}{hint}")]
    Unknown {
        /// Where it was set.
        at: Origin,
        /// What was found there.
        what: String,
        /// `; did you mean ...?`, or where to look.
        hint: String,
    },
    /// A value that the setting cannot have.
    #[error("{at}: {key}: {why}")]
    Value {
        /// Where it was set.
        at: Origin,
        /// The setting.
        key: &'static str,
        /// What was expected and what was found.
        why: String,
    },
    /// A value that does not go together with another.
    #[error("{key} ({at}): {why}")]
    Invalid {
        /// The setting.
        key: &'static str,
        /// Where it was set.
        at: Origin,
        /// The rule and the remedies.
        why: String,
    },
}

/// A hint for an unknown `name`: the most similar of the known ones, if any is similar at all.
///
/// A known name is also compared by its last part, so that `memtable_flush_bytes` outside its section
/// finds `engine.memtable_flush_bytes`.
pub(super) fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let distance = |known: &str| {
        let last = known.rsplit('.').next().unwrap_or(known);
        strsim::damerau_levenshtein(name, known).min(strsim::damerau_levenshtein(name, last) + 1)
    };
    let nearest = known.into_iter().map(|known| (distance(known), known)).min();
    match nearest {
        Some((distance, known)) if distance <= 2.max(name.chars().count() / 4) => {
            format!("; did you mean {known}?")
        }
        _ => "; `kvnode --print-config` lists what there is".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_is_the_nearest_name_or_none() {
        let known = ["listen", "http", "engine.compression", "engine.memtable_flush_bytes"];
        assert_eq!(hint("lsiten", known), "; did you mean listen?");
        assert_eq!(hint("memtable_flush_byte", known), "; did you mean engine.memtable_flush_bytes?");
        assert_eq!(hint("engine.compresion", known), "; did you mean engine.compression?");
        assert_eq!(hint("colour", known), "; `kvnode --print-config` lists what there is");
    }
}
