//! The operator's tool.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::{Ended, programs};

/// kvadmin with these endpoints, to be given arguments and run.
#[must_use]
pub fn kvadmin_command(endpoints: &str) -> Command {
    let mut command = Command::new(&programs().kvadmin);
    command.env("KVADMIN_ENDPOINTS", endpoints).stdin(Stdio::null());
    command
}

/// Runs kvadmin to its end.
#[must_use]
pub fn kvadmin<A: AsRef<OsStr>>(endpoints: &str, args: impl IntoIterator<Item = A>) -> Ended {
    kvadmin_command(endpoints).args(args).output().unwrap().into()
}
