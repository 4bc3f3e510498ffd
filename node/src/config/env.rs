//! The environment layer: `KVNODE_` and the setting's name in capitals.

use std::ffi::OsString;

use super::error::hint;
use super::spec::{Assignment, Spec, all};
use super::value::Raw;
use super::{ConfigError, Origin};

pub(super) const PREFIX: &str = "KVNODE_";

/// What the environment sets, in order of the names.
pub(super) fn assignments(
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<Assignment>, ConfigError> {
    let known: Vec<(String, &'static Spec)> = all().map(|spec| (spec.variable(), spec)).collect();
    let mut ours: Vec<(String, OsString)> = env
        .into_iter()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
        .filter(|(name, _)| name.starts_with(PREFIX) && !is_service_link(name))
        .collect();
    ours.sort();
    ours.into_iter().map(|(name, value)| assignment(&known, name, value)).collect()
}

fn assignment(
    known: &[(String, &'static Spec)],
    name: String,
    value: OsString,
) -> Result<Assignment, ConfigError> {
    let Some((_, spec)) = known.iter().find(|(known, _)| *known == name) else {
        let hint = hint(&name, known.iter().map(|(known, _)| known.as_str()));
        return Err(ConfigError::Unknown { at: Origin::Environment(name), what: "setting".into(), hint });
    };
    let origin = Origin::Environment(name);
    match value.into_string() {
        Ok(text) => Ok(Assignment { spec, raw: Raw::Word(text), origin }),
        Err(_) => Err(ConfigError::Value { at: origin, key: spec.key, why: "is not UTF-8".into() }),
    }
}

/// Kubernetes gives every pod variables that describe its services: beside a service called `kvnode` these
/// are `KVNODE_SERVICE_HOST`, `KVNODE_PORT_7400_TCP` and so on. They are not meant for us.
fn is_service_link(name: &str) -> bool {
    ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"].iter().any(|end| name.ends_with(end))
        || ["_SERVICE_PORT_", "_TCP", "_UDP"].iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_links_are_left_alone_and_no_setting_looks_like_one() {
        for name in [
            "KVNODE_SERVICE_HOST",
            "KVNODE_SERVICE_PORT",
            "KVNODE_SERVICE_PORT_HTTP",
            "KVNODE_PORT",
            "KVNODE_PORT_7400_TCP",
            "KVNODE_PORT_7400_TCP_ADDR",
        ] {
            assert!(is_service_link(name), "{name}");
        }
        for spec in all() {
            assert!(!is_service_link(&spec.variable()), "{}", spec.key);
        }
    }
}
