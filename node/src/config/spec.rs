//! How settings are described, and the macro that declares them.

use super::settings::{EngineSettings, LimitSettings, RaftSettings, Settings};
use super::value::{Raw, Value};
use super::{ConfigError, Loaded, Origin, show_size};

/// What a setting takes. Ranges are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A path.
    Directory,
    /// `HOST:PORT`.
    Address,
    /// `ID=HOST:PORT,...`.
    Members,
    /// On or off.
    Switch,
    /// A [`LogLevel`](super::LogLevel).
    Level,
    /// A number of something.
    Count {
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// A number of bytes, with or without a unit.
    Bytes {
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// A number of milliseconds.
    Millis {
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
}

impl Kind {
    pub(super) const fn count(min: u64, max: u64) -> Self {
        Self::Count { min, max }
    }

    pub(super) const fn bytes(min: u64, max: u64) -> Self {
        Self::Bytes { min, max }
    }

    pub(super) const fn millis(min: u64, max: u64) -> Self {
        Self::Millis { min, max }
    }

    pub(super) fn expected(self) -> &'static str {
        match self {
            Kind::Directory => "a path",
            Kind::Address => "HOST:PORT",
            Kind::Members => "ID=HOST:PORT,...",
            Kind::Switch => "true or false",
            Kind::Level => "one of off, error, warn, info, debug, trace",
            Kind::Count { .. } => "a whole number",
            Kind::Bytes { .. } => "a number of bytes such as 65536 or \"64MiB\"",
            Kind::Millis { .. } => "a whole number of milliseconds",
        }
    }

    /// What stands for the value in `--help`.
    pub(super) fn value_name(self) -> &'static str {
        match self {
            Kind::Directory => "DIR",
            Kind::Address => "HOST:PORT",
            Kind::Members => "ID=HOST:PORT,...",
            Kind::Switch => "true|false",
            Kind::Level => "LEVEL",
            Kind::Count { .. } => "N",
            Kind::Bytes { .. } => "BYTES",
            Kind::Millis { .. } => "MS",
        }
    }

    pub(super) fn range(self) -> Option<(u64, u64)> {
        match self {
            Kind::Count { min, max } | Kind::Bytes { min, max } | Kind::Millis { min, max } => {
                Some((min, max))
            }
            _ => None,
        }
    }

    /// A number of this kind, for people.
    pub(super) fn number(self, number: u64) -> String {
        if matches!(self, Kind::Bytes { .. }) { show_size(number) } else { number.to_string() }
    }
}

/// One setting.
#[derive(Debug)]
pub struct Spec {
    /// Its name, with its section: `engine.compression`.
    pub key: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Its flag without the dashes, where it has one.
    pub flag: Option<&'static str>,
    pub(super) doc: &'static str,
    pub(super) field: fn(&Settings) -> &dyn Value,
    pub(super) field_mut: fn(&mut Settings) -> &mut dyn Value,
}

impl Spec {
    /// What it does, in a sentence or two.
    #[must_use]
    pub fn effect(&self) -> &'static str {
        self.doc.trim()
    }

    /// Its environment variable: `KVNODE_ENGINE_COMPRESSION`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{}{}", super::env::PREFIX, self.key.replace('.', "_").to_ascii_uppercase())
    }

    /// Its section and its name in there; the section is empty at the top.
    #[must_use]
    pub fn section_and_name(&self) -> (&'static str, &'static str) {
        self.key.split_once('.').unwrap_or(("", self.key))
    }

    /// Its value in `settings` as TOML; `None`: not set.
    #[must_use]
    pub fn show(&self, settings: &Settings) -> Option<String> {
        (self.field)(settings).show(self.kind)
    }
}

/// Every setting, in the order of declaration: those without a section first.
pub fn all() -> impl Iterator<Item = &'static Spec> {
    [Settings::SPECS, LimitSettings::SPECS, EngineSettings::SPECS, RaftSettings::SPECS].into_iter().flatten()
}

/// A layer's wish: this setting shall have this value.
#[derive(Debug)]
pub(super) struct Assignment {
    pub spec: &'static Spec,
    pub raw: Raw,
    pub origin: Origin,
}

impl Assignment {
    pub fn apply(self, to: &mut Loaded) -> Result<(), ConfigError> {
        let Self { spec, raw, origin } = self;
        match (spec.field_mut)(&mut to.settings).set(spec.kind, raw) {
            Ok(()) => to.origins.note(spec.key, origin),
            Err(why) => return Err(ConfigError::Value { at: origin, key: spec.key, why }),
        }
        Ok(())
    }
}

/// A struct whose fields are settings, and where it stands in [`Settings`].
pub(super) trait Section {
    const SPECS: &'static [Spec];
    fn of(settings: &Settings) -> &Self;
    fn of_mut(settings: &mut Settings) -> &mut Self;
}

/// Declares a struct of settings: `name: type = default, kind [, flag "name"];`, the doc comment being the
/// setting's effect. Fields that are sections of their own follow after `sections`.
macro_rules! section {
    (
        $(#[doc = $struct_doc:literal])+
        $name:ident at $prefix:literal, $of:expr, $of_mut:expr;
        $(
            $(#[doc = $doc:literal])+
            $field:ident: $type:ty = $default:expr, $kind:expr $(, flag $flag:literal)?;
        )+
        $(sections { $( $(#[doc = $sub_doc:literal])+ $sub:ident: $sub_type:ty, )+ })?
    ) => {
        $(#[doc = $struct_doc])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nDefault: `", stringify!($default), "`.")]
                pub $field: $type,
            )+
            $($( $(#[doc = $sub_doc])+ pub $sub: $sub_type, )+)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ $($($sub: <$sub_type>::default(),)+)? }
            }
        }

        impl Section for $name {
            const SPECS: &'static [Spec] = &[$(
                Spec {
                    key: concat!($prefix, stringify!($field)),
                    kind: $kind,
                    flag: section!(@flag $($flag)?),
                    doc: concat!($($doc),+),
                    field: |settings| &<$name as Section>::of(settings).$field,
                    field_mut: |settings| &mut <$name as Section>::of_mut(settings).$field,
                },
            )+];

            fn of(settings: &Settings) -> &Self {
                let of: fn(&Settings) -> &Self = $of;
                of(settings)
            }

            fn of_mut(settings: &mut Settings) -> &mut Self {
                let of_mut: fn(&mut Settings) -> &mut Self = $of_mut;
                of_mut(settings)
            }
        }
    };
    (@flag) => { None };
    (@flag $flag:literal) => { Some($flag) };
}
pub(super) use section;
