//! The file layer: TOML, whose spans let a complaint name the line.

use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::hint;
use super::spec::{Assignment, Spec, all};
use super::value::Raw;
use super::{ConfigError, Origin};

/// Longest configuration file, in bytes: a wrong path is not read for ever.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A configuration file, read but not parsed.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    name: String,
    text: String,
}

impl ConfigFile {
    /// Reads it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        match read_text(path) {
            Ok(text) => Ok(Self { name, text }),
            Err(e) => Err(ConfigError::Unreadable { file: name, why: e.to_string() }),
        }
    }

    /// What it sets, in no particular order.
    pub(super) fn assignments(&self) -> Result<Vec<Assignment>, ConfigError> {
        let root = DeTable::parse(&self.text).map_err(|e| ConfigError::Syntax {
            at: self.at(e.span().unwrap_or_default()),
            why: e.message().replace('\n', ", "),
        })?;
        let mut assignments = Vec::new();
        for (key, value) in root.get_ref() {
            match value.get_ref() {
                DeValue::Table(table) if is_section(key.get_ref()) => {
                    for (name, value) in table {
                        let full = format!("{}.{}", key.get_ref(), name.get_ref());
                        assignments.push(self.assignment(&full, name.span(), value.get_ref())?);
                    }
                }
                value => assignments.push(self.assignment(key.get_ref(), key.span(), value)?),
            }
        }
        Ok(assignments)
    }

    fn assignment(
        &self,
        key: &str,
        span: Range<usize>,
        value: &DeValue<'_>,
    ) -> Result<Assignment, ConfigError> {
        let origin = self.at(span);
        if let Some(spec) = all().find(|spec| spec.key == key) {
            return Ok(Assignment { spec, raw: raw(value), origin });
        }
        if is_section(key) {
            let what = format!("setting {key:?}: it is a section, to be written as [{key}]");
            return Err(ConfigError::Unknown { at: origin, what, hint: String::new() });
        }
        if value.is_table() && !key.contains('.') {
            let hint = hint(key, sections());
            return Err(ConfigError::Unknown { at: origin, what: format!("section {key:?}"), hint });
        }
        let hint = hint(key, all().map(|spec| spec.key));
        Err(ConfigError::Unknown { at: origin, what: format!("setting {key:?}"), hint })
    }

    fn at(&self, span: Range<usize>) -> Origin {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        let line = 1 + before.iter().filter(|&&b| b == b'\n').count();
        Origin::File { file: self.name.clone(), line }
    }

    #[cfg(test)]
    pub(super) fn in_memory(name: &str, text: &str) -> Self {
        Self { name: name.into(), text: text.into() }
    }
}

#[expect(clippy::disallowed_methods, reason = "the configuration file is no data directory")]
fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than 1 MiB"));
    }
    Ok(text)
}

fn sections() -> impl Iterator<Item = &'static str> {
    all().map(|spec: &Spec| spec.section_and_name().0).filter(|section| !section.is_empty())
}

fn is_section(key: &str) -> bool {
    sections().any(|section| section == key)
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Boolean(on) => Raw::Bool(*on),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Raw::Integer(number),
            Err(_) => Raw::Other(format!("the integer {number}, which is too large")),
        },
        DeValue::Array(items) => {
            let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
            texts.collect::<Option<_>>().map_or_else(|| Raw::Other("an array".into()), Raw::List)
        }
        DeValue::Float(number) => Raw::Other(format!("the number {}", number.as_str())),
        DeValue::Datetime(_) => Raw::Other("a date".into()),
        DeValue::Table(_) => Raw::Other("a table".into()),
    }
}
