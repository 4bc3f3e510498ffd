//! A running program: its output is collected while it runs, and it never outlives the test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, kill_process};

pub use rustix::process::Signal;

use crate::Ended;

/// After this long without a word a program hangs: the test fails instead of hanging with it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program that runs. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Receiver<Vec<u8>>,
    errors: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts it.
    #[must_use]
    pub fn spawn(command: &mut Command) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (sender, lines) = channel();
        let errors = Arc::<Mutex<Vec<u8>>>::default();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let kept = errors.clone();
        let readers = vec![
            std::thread::spawn(move || send_lines(out, &sender)),
            std::thread::spawn(move || keep(err, &kept)),
        ];
        Self { child, lines, errors, readers }
    }

    /// The next line on its standard output, once there is one; `None` when it has ended.
    pub fn line(&self) -> Option<String> {
        let line = self.next_line()?;
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn next_line(&self) -> Option<Vec<u8>> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("no word on standard output for {PATIENCE:?}; standard error: {}", self.stderr())
            }
        }
    }

    /// Writes a line to its standard input and returns the line it answers with.
    pub fn ask(&mut self, line: &str) -> String {
        let mut input = self.child.stdin.as_ref().unwrap();
        writeln!(input, "{line}").unwrap();
        self.line().unwrap_or_else(|| panic!("{line}: it has ended; standard error: {}", self.stderr()))
    }

    /// What it has written to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.errors.lock().unwrap()).into_owned()
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGTERM, then [`Process::wait`].
    #[must_use]
    pub fn terminate(self) -> Ended {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// SIGKILL; it is gone on return.
    pub fn kill(mut self) -> Ended {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.wait()
    }

    /// Waits for its end.
    #[must_use]
    pub fn wait(mut self) -> Ended {
        let mut stdout = Vec::new();
        while let Some(line) = self.next_line() {
            stdout.extend(line);
        }
        let status = self.child.wait().unwrap();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Ended { code: status.code(), stdout, stderr: self.stderr() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("standard error of process {}: {}", self.id(), self.stderr());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send_lines(out: ChildStdout, lines: &Sender<Vec<u8>>) {
    let mut out = BufReader::new(out);
    loop {
        let mut line = Vec::new();
        match out.read_until(b'\n', &mut line) {
            Ok(1..) if lines.send(line).is_ok() => {}
            _ => return,
        }
    }
}

fn keep(mut err: ChildStderr, kept: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(got @ 1..) = err.read(&mut buffer) {
        kept.lock().unwrap().extend(buffer.iter().take(got));
    }
}
