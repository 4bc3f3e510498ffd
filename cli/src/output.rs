//! Standard output: the result of a command and nothing else, as text or as one JSON document.

use std::io::{BufWriter, ErrorKind, IsTerminal as _, Stdout, Write as _};

use base64::Engine as _;
use serde::{Serialize, Serializer};

use crate::exit::Failure;

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people: tables, text, raw bytes.
    Table,
    /// For programs: one JSON document.
    Json,
}

/// Standard output, buffered.
///
/// A reader that goes away (`kvadmin scan | head`) is no error: what is written from then on is dropped.
pub struct Output {
    format: Format,
    out: BufWriter<Stdout>,
    closed: bool,
}

impl Output {
    /// The process' standard output.
    pub fn new(format: Format) -> Self {
        Self { format, out: BufWriter::with_capacity(64 << 10, std::io::stdout()), closed: false }
    }

    /// Whether the result is wanted as JSON.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether a person looks at it.
    pub fn is_terminal(&self) -> bool {
        self.out.get_ref().is_terminal()
    }

    /// Whether nobody reads any more: a long command may stop.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// Standard output cannot be written to, a disk being full for instance.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.attempt(|out| out.write_all(bytes))
    }

    /// Writes a line of text.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.attempt(|out| writeln!(out, "{line}"))
    }

    /// Writes a value as JSON, and a line's end.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::error(format!("the result is no JSON: {error}")))?;
        self.line(&text)
    }

    /// Writes what is still buffered. Call it at the end of a command; dropping would hide an error.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.attempt(|out| out.flush())
    }

    fn attempt(
        &mut self,
        write: impl FnOnce(&mut BufWriter<Stdout>) -> std::io::Result<()>,
    ) -> Result<(), Failure> {
        if self.closed {
            return Ok(());
        }
        match write(&mut self.out) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => Err(Failure::error(format!("cannot write to standard output: {error}"))),
        }
    }
}

/// A JSON array that is written item by item, so that it need not fit into memory.
pub struct JsonArray {
    items: u64,
}

impl JsonArray {
    /// Opens the array.
    ///
    /// # Errors
    /// As [`Output::bytes`].
    pub fn begin(out: &mut Output) -> Result<Self, Failure> {
        out.bytes(b"[")?;
        Ok(Self { items: 0 })
    }

    /// Adds an item, on a line of its own.
    ///
    /// # Errors
    /// As [`Output::bytes`].
    pub fn item(&mut self, out: &mut Output, item: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(item)
            .map_err(|error| Failure::error(format!("the result is no JSON: {error}")))?;
        out.bytes(if self.items == 0 { b"\n  " } else { b",\n  " })?;
        self.items += 1;
        out.bytes(text.as_bytes())
    }

    /// Closes the array.
    ///
    /// # Errors
    /// As [`Output::bytes`].
    pub fn end(self, out: &mut Output) -> Result<(), Failure> {
        out.line(if self.items == 0 { "]" } else { "\n]" })
    }
}

/// Bytes that are base64 in JSON.
pub struct Base64<'a>(pub &'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_standard_base64_with_padding() {
        let json = serde_json::to_string(&[Base64(b"\xff\xfe\xfd\xfc"), Base64(b"")]).expect("JSON");
        assert_eq!(json, r#"["//79/A==",""]"#);
    }
}
