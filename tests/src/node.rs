//! A node in a process of its own.

use std::ffi::OsStr;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::Command;

use kv_client::Client;

use crate::{Ended, Process, kvadmin, programs};

/// A node that is to be started.
#[derive(Debug)]
pub struct Launch {
    command: Command,
    dir: PathBuf,
    listen: String,
}

impl Launch {
    /// kvnode on this data directory, listening on ports that are free.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self::program(&programs().kvnode, dir)
    }

    /// The same with another program that takes the same flags.
    #[must_use]
    pub fn program(program: &Path, dir: &Path) -> Self {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("KVNODE_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        Self { command, dir: dir.to_owned(), listen: "127.0.0.1:0".into() }
    }

    /// Sets a setting, by its name in the configuration file (`engine.compression`).
    #[must_use]
    pub fn setting(mut self, key: &str, value: impl Display) -> Self {
        let variable = format!("KVNODE_{}", key.replace('.', "_").to_ascii_uppercase());
        self.command.env(variable, value.to_string());
        self
    }

    /// Another address for clients.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        self.listen = address.to_owned();
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Another flag.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Starts it and waits for nothing.
    #[must_use]
    pub fn spawn(mut self) -> Process {
        self.command.arg("--data-dir").arg(&self.dir);
        self.command.arg(format!("--listen={}", self.listen)).arg("--http=127.0.0.1:0");
        Process::spawn(&mut self.command)
    }

    /// Starts it and waits until it says that it is ready.
    #[must_use]
    #[track_caller]
    pub fn start(self) -> Node {
        self.try_start()
            .unwrap_or_else(|ended| panic!("the node ended with {:?}: {}", ended.code, ended.stderr))
    }

    /// Starts it and waits until it says that it is ready, or ends.
    ///
    /// # Errors
    /// How it ended.
    #[track_caller]
    pub fn try_start(self) -> Result<Node, Ended> {
        let dir = self.dir.clone();
        let process = self.spawn();
        let Some(ready) = process.line() else { return Err(process.wait()) };
        let field = |name: &str| {
            let fields = ready.split(' ').filter_map(|field| field.split_once('='));
            let found = fields.into_iter().find(|(key, _)| *key == name);
            found.unwrap_or_else(|| panic!("no {name} in {ready}")).1.to_owned()
        };
        assert!(ready.starts_with("ready "), "{ready}");
        Ok(Node { listen: field("listen"), http: field("http"), dir, process })
    }

    /// Starts it and waits until it ends by itself.
    #[must_use]
    pub fn run(self) -> Ended {
        self.spawn().wait()
    }
}

/// A node that has said it is ready. Killed when dropped.
#[derive(Debug)]
pub struct Node {
    /// Where clients reach it.
    pub listen: String,
    /// Where its HTTP server is.
    pub http: String,
    /// Its data directory.
    pub dir: PathBuf,
    /// The process.
    pub process: Process,
}

impl Node {
    /// kvnode with default settings.
    #[must_use]
    #[track_caller]
    pub fn start(dir: &Path) -> Self {
        Launch::new(dir).start()
    }

    /// A client of it.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::builder().endpoints([&self.listen]).build().unwrap()
    }

    /// Runs kvadmin against it.
    #[must_use]
    pub fn kvadmin<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ended {
        kvadmin(&self.listen, args)
    }

    /// SIGKILL; it is gone on return.
    pub fn kill(self) -> Ended {
        self.process.kill()
    }

    /// SIGTERM; returns how it ended.
    #[must_use]
    pub fn terminate(self) -> Ended {
        self.process.terminate()
    }
}
