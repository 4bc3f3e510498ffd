//! Settings: what a node can be told, and where each value came from.
//!
//! Four layers, each over the one before: built-in defaults, the file of `--config`, the environment
//! (`KVNODE_*`), flags. Every layer hands raw values to the same typed setters, so a value is judged by
//! one rule wherever it was written, and a complaint names the place: file and line, variable or flag.
//!
//! Each setting is declared once, in `settings.rs`; parsing, printing, suggestions, `--help` and
//! `docs/config.md` all follow from that declaration. Adding a setting is adding one line there.

mod address;
mod args;
mod env;
mod error;
mod file;
mod origin;
mod print;
mod reference;
mod settings;
mod size;
mod spec;
mod validate;
mod value;

use std::ffi::OsString;
use std::path::Path;

pub use address::{Address, AddressError, Cluster, ClusterError, Member};
pub use args::{Args, Task};
pub use error::ConfigError;
pub use file::ConfigFile;
pub use origin::{Origin, Origins};
pub use reference::reference;
pub use settings::{EngineSettings, LimitSettings, RaftSettings, Settings};
pub use size::{parse_size, show_size};
pub use spec::{Kind, Spec, all};
pub use validate::Invalid;
pub use value::LogLevel;

/// Settings with the origin of each value. Not yet validated: see [`Loaded::validate`].
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub settings: Settings,
    /// Where each came from.
    pub origins: Origins,
}

impl Loaded {
    /// Checks the values against each other; the error names the origin of the one that is at fault.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.settings.validate().map_err(|Invalid { key, why }| ConfigError::Invalid {
            key,
            at: self.origins.of(key).clone(),
            why,
        })
    }

    /// The settings as a TOML file that gives the same settings again, each with a comment that says where
    /// its value comes from.
    #[must_use]
    pub fn to_toml(&self) -> String {
        print::to_toml(self)
    }
}

/// Puts the layers together: defaults, then the file that `args` name, then `env`, then the flags in `args`.
pub fn load(args: &Args, env: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Loaded, ConfigError> {
    let file = args.config.as_deref().map(|path: &Path| ConfigFile::read(path)).transpose()?;
    layer(args, env, file.as_ref())
}

/// [`load`] with the file already read.
fn layer(
    args: &Args,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    file: Option<&ConfigFile>,
) -> Result<Loaded, ConfigError> {
    let mut assignments = match file {
        Some(file) => file.assignments()?,
        None => Vec::new(),
    };
    assignments.extend(env::assignments(env)?);
    assignments.extend(args.assignments());
    let mut loaded = Loaded { settings: Settings::default(), origins: Origins::default() };
    for assignment in assignments {
        assignment.apply(&mut loaded)?;
    }
    Ok(loaded)
}

#[cfg(test)]
mod tests;
