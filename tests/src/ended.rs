//! How a program ended.

use std::process::Output;

/// What a program left behind.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Standard output of a program that must have ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "standard error: {}", self.stderr);
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// One JSON document, from a program that must have ended with this code.
    #[track_caller]
    pub fn json(self, code: i32) -> serde_json::Value {
        let text = self.expect(code);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Standard error of a program that must have failed with this code, said each of these texts there,
    /// and nothing more on standard output.
    #[track_caller]
    pub fn fails(self, code: i32, texts: &[&str]) -> String {
        assert_eq!(self.code, Some(code), "standard error: {}", self.stderr);
        for text in texts {
            assert!(self.stderr.contains(text), "{text:?} is not in {}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        assert!(self.stdout.is_empty(), "on standard output: {}", String::from_utf8_lossy(&self.stdout));
        self.stderr
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { code: output.status.code(), stdout: output.stdout, stderr }
    }
}
