//! How the process ends: its exit code, and the message of what went wrong.

use kv_client::{Error, Limit};

/// Exit codes that scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Something failed.
    Error = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The cluster does not work as it should.
    Unhealthy = 3,
    /// There is no such key.
    NotFound = 4,
    /// Nothing was done: it needs `--yes`.
    Refused = 5,
    /// Stored bytes are damaged.
    Corruption = 6,
    /// No node answers in time.
    Unreachable = 7,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ends without a result: goes to standard error as text, whatever form the result has.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What happened and what to do.
    message: String,
}

impl std::error::Error for Failure {}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Failure {
    /// A failure with this exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// A failure that has no exit code of its own.
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(Exit::Error, message)
    }

    /// Puts more behind the message.
    pub fn and(self, more: &str) -> Self {
        Self { message: format!("{}{more}", self.message), ..self }
    }

    /// Puts what it happened to before the message.
    pub fn of(self, what: impl std::fmt::Display) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match &error {
            _ if error.is_unreachable() => Exit::Unreachable,
            // Some node was there, but none did it in time.
            Error::Deadline { .. } => Exit::Unreachable,
            Error::Corrupt(_) => Exit::Corruption,
            _ => Exit::Error,
        };
        let hint = match &error {
            Error::Unreachable { .. } => "; is a node running there? (--endpoints)",
            Error::Deadline { may_have_happened: true, .. } | Error::Unknown(_) => {
                "; read it again before you repeat it"
            }
            Error::Deadline { .. } => "; ask `kvadmin cluster status`, or give more --timeout",
            Error::TooLarge { limit: Limit::Value, .. } => "; `kvadmin import` stores longer files in parts",
            Error::Compacted { .. } => {
                " (what is kept: engine.keep_versions, engine.keep_age_ms of the node)"
            }
            _ => "",
        };
        Self::new(exit, format!("{error}{hint}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::error(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_exit_codes_of_the_contract() {
        let endpoint = || "127.0.0.1:1".to_owned();
        let too_large = Error::TooLarge { limit: Limit::Value, max: 5, actual: 6 };
        let unreachable = Error::Unreachable { endpoints: vec![endpoint()], last: "refused".into() };
        for (error, code, hint) in [
            (unreachable, 7, "--endpoints"),
            (Error::NotKvnode { endpoint: endpoint(), reason: "HTTP".into() }, 7, "no kvnode"),
            (Error::VersionMismatch { endpoint: endpoint(), ours: 1, theirs: 2 }, 7, "version"),
            (Error::Deadline { may_have_happened: false, last: "no leader".into() }, 7, "cluster status"),
            (Error::Deadline { may_have_happened: true, last: String::new() }, 7, "before you repeat"),
            (Error::Unknown("lost".into()), 1, "before you repeat"),
            (too_large, 1, "kvadmin import"),
            (Error::Corrupt("file 5".into()), 6, "file 5"),
            (Error::SnapshotExpired, 1, "start it again"),
            (Error::Compacted { oldest: 9 }, 1, "revision 9 (what is kept: engine.keep_versions"),
        ] {
            let failure = Failure::from(error.clone()).of("a/b");
            assert_eq!(failure.exit as u8, code, "{error:?}");
            let text = failure.to_string();
            assert!(text.starts_with("a/b: ") && text.contains(hint), "{text}");
        }
    }
}
