//! Where a value came from.

use std::collections::BTreeMap;
use std::fmt;

/// Where the value of a setting came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    #[default]
    Default,
    /// A line of the configuration file.
    File {
        /// Its path, as given.
        file: String,
        /// From 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag, without its dashes.
    Flag(&'static str),
}

impl Origin {
    /// The kind of origin and its name, without a line number.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Origin::File { file, .. } => format!("file {file}"),
            other => other.to_string(),
        }
    }
}

/// With the line, for a complaint: `kvnode.toml:3`, `environment KVNODE_HTTP`, `flag --http`, `default`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { file, line } => write!(f, "{file}:{line}"),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

/// The origin of every setting.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// By key; a setting that is not in here has its default.
    set: BTreeMap<&'static str, Origin>,
}

impl Origins {
    /// Where the value of the setting `key` came from.
    #[must_use]
    pub fn of(&self, key: &str) -> &Origin {
        self.set.get(key).unwrap_or(&Origin::Default)
    }

    pub(super) fn note(&mut self, key: &'static str, origin: Origin) {
        self.set.insert(key, origin);
    }
}
