//! Runs the program.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::node::Node;

/// How a run ended.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

pub fn command(node: &Node) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvadmin"));
    command.env("KVADMIN_ENDPOINTS", &node.address).stdin(Stdio::null());
    command
}

pub fn kvadmin<A: AsRef<OsStr>>(node: &Node, args: impl IntoIterator<Item = A>) -> Run {
    finish(command(node).args(args), b"")
}

pub fn with_stdin(node: &Node, args: &[&str], stdin: &[u8]) -> Run {
    finish(command(node).args(args).stdin(Stdio::piped()), stdin)
}

/// Runs it where no node is.
pub fn alone<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvadmin"));
    finish(command.env("KVADMIN_ENDPOINTS", "127.0.0.1:1").stdin(Stdio::null()).args(args), b"")
}

fn finish(command: &mut Command, stdin: &[u8]) -> Run {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(stdin).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
    Run { code: output.status.code().unwrap(), stdout: output.stdout, stderr }
}

impl Run {
    /// Standard output of a run that must have ended like this.
    #[track_caller]
    pub fn stdout(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}", self.stderr);
        String::from_utf8(self.stdout).unwrap()
    }

    /// The same where it is no text.
    #[track_caller]
    pub fn bytes(self, code: i32) -> Vec<u8> {
        assert_eq!(self.code, code, "{}", self.stderr);
        self.stdout
    }

    #[track_caller]
    pub fn json(self, code: i32) -> serde_json::Value {
        serde_json::from_str(&self.stdout(code)).unwrap()
    }

    /// Standard error of a run that must have ended like this, and without a result.
    #[track_caller]
    pub fn failure(self, code: i32) -> String {
        assert_eq!((self.code, self.stdout.len()), (code, 0), "{}", self.stderr);
        self.stderr
    }
}
