//! The command line: which task, which file, and the flag layer.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::spec::{Assignment, Kind, Spec, all};
use super::value::Raw;
use super::{Origin, Settings};

/// What the program was started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// To be a node.
    Run,
    /// To say whether the configuration is valid.
    Check,
    /// To show the configuration.
    Print,
}

/// A parsed command line.
#[derive(Clone, Debug)]
pub struct Args {
    /// What to do.
    pub task: Task,
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Flags that set something, by key.
    settings: Vec<(&'static str, String)>,
}

impl Args {
    /// Parses a command line, the program's name first.
    ///
    /// # Errors
    /// Also for `--help` and `--version`: let [`clap::Error::exit`] deal with it.
    pub fn parse<T: Into<OsString> + Clone>(args: impl IntoIterator<Item = T>) -> Result<Self, clap::Error> {
        let matches = command().try_get_matches_from(args)?;
        let task = match (matches.get_flag("check-config"), matches.get_flag("print-config")) {
            (true, _) => Task::Check,
            (_, true) => Task::Print,
            _ => Task::Run,
        };
        let settings = flagged().filter_map(|(spec, _)| Some((spec.key, given(&matches, spec)?))).collect();
        Ok(Self { task, config: matches.get_one("config").cloned(), settings })
    }

    pub(super) fn assignments(&self) -> impl Iterator<Item = Assignment> {
        flagged().flat_map(|(spec, flag)| {
            let values = self.settings.iter().filter(|(key, _)| *key == spec.key);
            values.map(move |(_, value)| Assignment {
                spec,
                raw: Raw::Word(value.clone()),
                origin: Origin::Flag(flag),
            })
        })
    }
}

fn flagged() -> impl Iterator<Item = (&'static Spec, &'static str)> {
    all().filter_map(|spec| Some((spec, spec.flag?)))
}

fn given(matches: &ArgMatches, spec: &Spec) -> Option<String> {
    if spec.kind == Kind::Switch {
        return matches.get_flag(spec.key).then(|| "true".into());
    }
    matches.get_one::<String>(spec.key).cloned()
}

fn command() -> Command {
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
    };
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help("Settings file (TOML); the environment (KVNODE_*) and flags override it")
        .value_parser(value_parser!(PathBuf));
    Command::new("kvnode")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A node of the replicated key-value store for large values")
        .after_help("Every setting: docs/config.md. Exit status: 0 stopped by SIGTERM, 1 refused, 2 wrong flag or configuration, 6 damaged data.")
        .arg(config)
        .args(flagged().map(|(spec, flag)| setting(spec, flag)))
        .arg(
            switch("check-config", "Say whether the configuration is valid, and exit")
                .conflicts_with("print-config"),
        )
        .arg(switch("print-config", "Print the settings in force and where each comes from, and exit"))
}

fn setting(spec: &'static Spec, flag: &'static str) -> Arg {
    let arg = Arg::new(spec.key).long(flag);
    if spec.kind == Kind::Switch {
        return arg.help(spec.effect()).action(ArgAction::SetTrue);
    }
    let help = match spec.show(&Settings::default()) {
        Some(default) => format!("{} [default: {}]", spec.effect(), default.trim_matches('"')),
        None => spec.effect().to_owned(),
    };
    arg.help(help).value_name(spec.kind.value_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_sound() {
        command().debug_assert();
    }

    /// The contract in the design: scripts rely on these.
    #[test]
    fn the_flags_are_those_of_the_contract() {
        let flags: Vec<_> =
            command().get_arguments().filter_map(|arg| Some(arg.get_long()?.to_owned())).collect();
        assert_eq!(
            flags,
            [
                "config",
                "data-dir",
                "listen",
                "http",
                "node-id",
                "initial-cluster",
                "join",
                "insecure-plaintext",
                "check-config",
                "print-config"
            ]
        );
    }

    #[test]
    fn tasks_exclude_each_other() {
        assert_eq!(Args::parse(["kvnode"]).unwrap().task, Task::Run);
        assert_eq!(Args::parse(["kvnode", "--check-config"]).unwrap().task, Task::Check);
        assert_eq!(Args::parse(["kvnode", "--print-config"]).unwrap().task, Task::Print);
        assert!(Args::parse(["kvnode", "--print-config", "--check-config"]).is_err());
    }
}
