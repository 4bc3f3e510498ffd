//! How the program ends: exit codes, and the one message that goes with them.

use std::fmt;
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::datadir::DataDirError;

/// Exit codes of `kvnode`; scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Stopped by a signal, or did what it was asked to.
    Stopped = 0,
    /// Something in the way that an operator can remove: a limit, a lock, a port, a directory that is
    /// not ours or of a newer version.
    Refused = 1,
    /// A flag or the configuration is wrong.
    Config = 2,
    /// Data on disk is damaged.
    Damaged = 6,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        ExitCode::from(code as u8)
    }
}

/// Why the program ends before it was told to: a code for scripts, a message for people that says what
/// happened and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the process exits with.
    pub code: Code,
    /// One message, without a leading name or a final dot.
    pub message: String,
}

impl Failure {
    /// Something is in the way: exit code 1.
    pub fn refused(message: impl fmt::Display) -> Self {
        Self { code: Code::Refused, message: message.to_string() }
    }

    /// A flag or the configuration is wrong: exit code 2.
    pub fn config(message: impl fmt::Display) -> Self {
        Self { code: Code::Config, message: message.to_string() }
    }

    /// Data on disk is damaged: exit code 6.
    pub fn damaged(message: impl fmt::Display) -> Self {
        Self { code: Code::Damaged, message: message.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<ConfigError> for Failure {
    fn from(e: ConfigError) -> Self {
        Self::config(e)
    }
}

impl From<DataDirError> for Failure {
    fn from(e: DataDirError) -> Self {
        match e {
            DataDirError::Damaged { .. } => Self::damaged(e),
            _ => Self::refused(e),
        }
    }
}
