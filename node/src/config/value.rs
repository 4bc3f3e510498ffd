//! Raw values as layers give them, and the types that take them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{Address, Cluster, Kind, parse_size, show_size};

/// A value as a layer has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Raw {
    /// From the environment or a flag: text that may mean anything.
    Word(String),
    /// A TOML string.
    Text(String),
    /// A TOML integer.
    Integer(i64),
    /// A TOML boolean.
    Bool(bool),
    /// A TOML array of strings.
    List(Vec<String>),
    /// Something else in TOML that no setting takes; said in words.
    Other(String),
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Raw::Word(text) => write!(f, "{text:?}"),
            Raw::Text(text) => write!(f, "the string {text:?}"),
            Raw::Integer(number) => write!(f, "the integer {number}"),
            Raw::Bool(on) => write!(f, "the boolean {on}"),
            Raw::List(_) => f.write_str("an array"),
            Raw::Other(words) => f.write_str(words),
        }
    }
}

/// A type that a setting can have.
pub(super) trait Value {
    /// Takes a raw value, or says what was expected.
    fn set(&mut self, kind: Kind, raw: Raw) -> Result<(), String>;
    /// The value as TOML that [`Value::set`] takes again; `None`: not set.
    fn show(&self, kind: Kind) -> Option<String>;
    /// Whether the value lies in the range its kind allows.
    fn check(&self, _kind: Kind) -> Result<(), String> {
        Ok(())
    }
}

fn unexpected(expected: &str, found: &Raw) -> String {
    format!("expected {expected}, found {found}")
}

fn text(expected: &str, raw: Raw) -> Result<String, String> {
    match raw {
        Raw::Word(text) | Raw::Text(text) => Ok(text),
        other => Err(unexpected(expected, &other)),
    }
}

/// A TOML string.
pub(super) fn quoted(text: impl Into<String>) -> String {
    toml::Value::String(text.into()).to_string()
}

impl Value for u64 {
    fn set(&mut self, kind: Kind, raw: Raw) -> Result<(), String> {
        let number = match (kind, &raw) {
            (Kind::Bytes { .. }, Raw::Word(text) | Raw::Text(text)) => parse_size(text)?,
            (_, Raw::Word(text)) if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() => {
                text.parse().map_err(|_| format!("{text:?} is too large"))?
            }
            (_, &Raw::Integer(number)) if number >= 0 => number.unsigned_abs(),
            _ => return Err(unexpected(kind.expected(), &raw)),
        };
        number.check(kind)?;
        *self = number;
        Ok(())
    }

    fn show(&self, kind: Kind) -> Option<String> {
        Some(match kind {
            Kind::Bytes { .. } if show_size(*self) != self.to_string() => quoted(show_size(*self)),
            _ => self.to_string(),
        })
    }

    fn check(&self, kind: Kind) -> Result<(), String> {
        let Some((min, max)) = kind.range() else { return Ok(()) };
        if (min..=max).contains(self) {
            return Ok(());
        }
        Err(format!("{} is out of range: {} to {}", kind.number(*self), kind.number(min), kind.number(max)))
    }
}

impl Value for u32 {
    fn set(&mut self, kind: Kind, raw: Raw) -> Result<(), String> {
        let mut wide = 0_u64;
        wide.set(kind, raw)?;
        *self = u32::try_from(wide).map_err(|_| format!("{wide} is out of range: up to {}", u32::MAX))?;
        Ok(())
    }

    fn show(&self, kind: Kind) -> Option<String> {
        u64::from(*self).show(kind)
    }

    fn check(&self, kind: Kind) -> Result<(), String> {
        u64::from(*self).check(kind)
    }
}

impl Value for bool {
    fn set(&mut self, kind: Kind, raw: Raw) -> Result<(), String> {
        *self = match &raw {
            Raw::Bool(on) => *on,
            Raw::Word(word) if word == "true" || word == "1" => true,
            Raw::Word(word) if word == "false" || word == "0" => false,
            _ => return Err(unexpected(kind.expected(), &raw)),
        };
        Ok(())
    }

    fn show(&self, _kind: Kind) -> Option<String> {
        Some(self.to_string())
    }
}

impl Value for PathBuf {
    fn set(&mut self, kind: Kind, raw: Raw) -> Result<(), String> {
        let text = text(kind.expected(), raw)?;
        if text.is_empty() || text.contains('\0') {
            return Err(unexpected(kind.expected(), &Raw::Word(text)));
        }
        *self = text.into();
        Ok(())
    }

    fn show(&self, _kind: Kind) -> Option<String> {
        Some(quoted(self.to_string_lossy()))
    }
}

impl Value for Address {
    fn set(&mut self, kind: Kind, raw: Raw) -> Result<(), String> {
        let text = text(kind.expected(), raw)?;
        *self = text.parse().map_err(|e: super::AddressError| e.to_string())?;
        Ok(())
    }

    fn show(&self, _kind: Kind) -> Option<String> {
        Some(quoted(self.to_string()))
    }
}

/// An empty text unsets it again, so that a higher layer can undo a lower one.
impl<T: FromStr<Err: fmt::Display> + fmt::Display> Value for Option<T>
where
    T: Textual,
{
    fn set(&mut self, kind: Kind, raw: Raw) -> Result<(), String> {
        let text = match raw {
            Raw::List(list) if T::LIST => list.join(","),
            other => text(kind.expected(), other)?,
        };
        *self = if text.is_empty() { None } else { Some(text.parse().map_err(|e: T::Err| e.to_string())?) };
        Ok(())
    }

    fn show(&self, _kind: Kind) -> Option<String> {
        self.as_ref().map(|value| quoted(value.to_string()))
    }
}

/// What can be optional.
pub(super) trait Textual {
    /// Whether a TOML array of its parts will do too.
    const LIST: bool;
}

impl Textual for Address {
    const LIST: bool = false;
}

impl Textual for Cluster {
    const LIST: bool = true;
}

/// How much the node says of its doings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What went wrong.
    Error,
    /// And what may go wrong.
    Warn,
    /// And what happens now and then.
    Info,
    /// And what happens often.
    Debug,
    /// And everything else.
    Trace,
}

impl LogLevel {
    const ALL: [LogLevel; 6] = [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// Its name, which is also the `tracing` filter of that level.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// The level for libraries: at most their warnings, unless details are asked for.
    #[must_use]
    pub fn name_of_libraries(self) -> &'static str {
        match self {
            Self::Info => Self::Warn.name(),
            other => other.name(),
        }
    }
}

impl Value for LogLevel {
    fn set(&mut self, kind: Kind, raw: Raw) -> Result<(), String> {
        let text = text(kind.expected(), raw)?;
        let level = Self::ALL.into_iter().find(|level| level.name() == text);
        *self = level.ok_or_else(|| unexpected(kind.expected(), &Raw::Word(text)))?;
        Ok(())
    }

    fn show(&self, _kind: Kind) -> Option<String> {
        Some(quoted(self.name()))
    }
}
