//! What a directory records of the options that it was made with, held against those that it is opened with.
//!
//! The comparator is the order of the keys in every table: it has to be the same for ever. The others say what shape
//! the levels have. With others nothing is read wrongly, but compaction would quietly rewrite most of the tables, to and
//! fro where two programs open a directory in turn; so a change has to be asked for.

use std::collections::BTreeMap;

use super::view::LEVELS;
use crate::error::StoreError;
use crate::options::Options;

type Recorded = BTreeMap<String, String>;

const COMPARATOR: &str = "comparator";
const BYTEWISE: &str = "bytewise";
const MULTIPLIER: &str = "level_multiplier";
const BASE: &str = "base_bytes";

/// What a directory has that does not say so: all that programs could write before it was recorded. Not the defaults
/// of today, which may change.
const UNRECORDED: [(&str, &str); 4] =
    [(COMPARATOR, BYTEWISE), ("levels", "7"), (MULTIPLIER, "10"), (BASE, "268435456")];

/// What a new directory records.
pub(super) fn to_record(options: &Options) -> Recorded {
    let record = [
        (COMPARATOR, BYTEWISE.to_owned()),
        ("levels", LEVELS.to_string()),
        (MULTIPLIER, options.level_multiplier.to_string()),
        (BASE, options.base_bytes.to_string()),
    ];
    record.map(|(name, value)| (name.to_owned(), value)).into()
}

/// What is to be recorded from now on; `None`: what is.
///
/// # Errors
/// [`StoreError::Invalid`]: an option that differs and may not, or may but was not accepted.
pub(super) fn compare(recorded: &Recorded, options: &Options) -> Result<Option<Recorded>, StoreError> {
    known(recorded)?;
    let wanted = to_record(options);
    let differs = wanted.iter().map(|(name, now)| (name, value(recorded, name), now));
    match differs.clone().find(|(_, was, now)| was != now) {
        None => Ok(None),
        Some(_) if options.accept_level_options => Ok(Some(wanted)),
        Some((name, was, now)) => {
            let made =
                if recorded.contains_key(name) { "" } else { " (the value of before it was recorded)" };
            Err(StoreError::Invalid(format!(
                "the directory was made with {name} = {was}{made}, and is opened with {now}: open it with {was}, or \
                 with accept_level_options as well, to have the tables brought into the new shape and {now} recorded"
            )))
        }
    }
}

/// Refuses a directory whose keys are in another order, or of which something is recorded that this program does
/// not know.
///
/// # Errors
/// [`StoreError::Invalid`].
pub(crate) fn known(recorded: &Recorded) -> Result<(), StoreError> {
    let comparator = value(recorded, COMPARATOR);
    if comparator != BYTEWISE {
        return Err(StoreError::Invalid(format!(
            "the directory was made with {COMPARATOR} = {comparator}, and this program knows {BYTEWISE} only: use a \
             program that knows {comparator}, and have it export the data to bring it here"
        )));
    }
    match recorded.iter().find(|(name, _)| UNRECORDED.iter().all(|(known, _)| known != name)) {
        Some((name, value)) => Err(StoreError::Invalid(format!(
            "the directory was made with {name} = {value}, which this program does not know: use a newer one"
        ))),
        None => Ok(()),
    }
}

/// The options of a store that takes the place of one of which this is recorded: its levels have the same shape,
/// unless others are accepted.
///
/// # Errors
/// Those of [`known`].
pub(crate) fn carried_on(recorded: &Recorded, options: Options) -> Result<Options, StoreError> {
    known(recorded)?;
    let number = |name: &str| recorded.get(name).and_then(|value| value.parse().ok());
    if options.accept_level_options {
        return Ok(options);
    }
    Ok(Options {
        level_multiplier: number(MULTIPLIER).unwrap_or(options.level_multiplier),
        base_bytes: number(BASE).unwrap_or(options.base_bytes),
        ..options
    })
}

fn value<'a>(recorded: &'a Recorded, name: &str) -> &'a str {
    let before = UNRECORDED.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
    recorded.get(name).map_or(before, String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(recorded: &Recorded, options: &Options) -> String {
        compare(recorded, options).unwrap_err().to_string()
    }

    fn with(recorded: &Recorded, name: &str, value: &str) -> Recorded {
        let mut changed = recorded.clone();
        changed.insert(name.into(), value.into());
        changed
    }

    #[test]
    fn what_was_recorded_is_opened() {
        let options = Options { base_bytes: 5, level_multiplier: 3, ..Options::default() };
        assert_eq!(compare(&to_record(&options), &options).unwrap(), None);
    }

    #[test]
    fn each_option_that_differs_is_named_with_both_values() {
        let options = Options::default();
        let recorded = to_record(&options);
        for name in ["levels", MULTIPLIER, BASE] {
            let why = why(&with(&recorded, name, "12345"), &options);
            assert!(why.contains(&format!("{name} = 12345")), "{why}");
            assert!(why.contains(&format!("opened with {}:", recorded[name])), "{why}");
            assert!(why.contains("accept_level_options"), "{why}");
        }
    }

    #[test]
    fn another_shape_is_recorded_once_it_is_accepted() {
        let accepting = Options { level_multiplier: 4, accept_level_options: true, ..Options::default() };
        let recorded = to_record(&Options::default());
        let changed = compare(&recorded, &accepting).unwrap().unwrap();
        assert_eq!(changed, with(&recorded, MULTIPLIER, "4"));
        assert_eq!(compare(&changed, &accepting).unwrap(), None, "it is, now");
    }

    #[test]
    fn an_older_directory_has_what_there_was() {
        for recorded in [Recorded::new(), with(&Recorded::new(), COMPARATOR, BYTEWISE)] {
            assert_eq!(compare(&recorded, &Options::default()).unwrap(), None);
            let why = why(&recorded, &Options { level_multiplier: 4, ..Options::default() });
            assert!(why.contains("level_multiplier = 10 (the value of before it was recorded)"), "{why}");
        }
    }

    #[test]
    fn nothing_accepts_another_order_or_the_unknown() {
        let accepting = Options { accept_level_options: true, ..Options::default() };
        let recorded = to_record(&accepting);
        assert!(why(&with(&recorded, COMPARATOR, "reverse"), &accepting).contains("comparator = reverse"));
        assert!(why(&with(&recorded, "shards", "4"), &accepting).contains("shards = 4"));
    }

    #[test]
    fn a_store_in_its_place_has_the_same_shape() {
        let old = Options { base_bytes: 5, level_multiplier: 3, ..Options::default() };
        let carried = carried_on(&to_record(&old), Options::default()).unwrap();
        assert_eq!((carried.base_bytes, carried.level_multiplier), (5, 3));
        let mine = Options { accept_level_options: true, ..Options::default() };
        assert_eq!(carried_on(&to_record(&old), mine).unwrap().level_multiplier, 10);
    }
}
