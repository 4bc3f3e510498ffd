//! Whether a history can be explained: a register with compare-and-set for each key, searched by porcupine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kv_client::Revision;
use porcupine_rs::{CheckResult, Model, Operation, check_operations_timeout};

use super::history::{Call, Outcome, Record, Seen};

/// The search may take so long; it takes milliseconds on a history that is linearizable.
const SEARCH_TIME_MAX: Duration = Duration::from_secs(120);

/// An operation on one key, with what it was answered.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Get(Option<u64>),
    /// `None`: a deletion.
    Set(Option<u64>),
    Swapped {
        expect: Option<u64>,
        value: u64,
    },
    Refused {
        expect: Option<u64>,
        found: Found,
    },
    /// A compare-and-set that may have found what it expected.
    MaybeSwapped {
        expect: Option<u64>,
        value: u64,
    },
}

/// What a refused compare-and-set says to have found.
#[derive(Clone, Copy, Debug)]
pub enum Found {
    Version(Option<u64>),
    /// A revision that nobody has seen the value of.
    Unseen,
}

/// One key: the number of its value.
#[derive(Clone, Debug)]
pub struct Register;

impl Model for Register {
    type State = Option<u64>;
    type Op = Op;
    type Metadata = ();

    fn init() -> Option<u64> {
        None
    }

    fn step(state: &Option<u64>, op: &Op) -> (bool, Option<u64>) {
        match *op {
            Op::Get(found) => (found == *state, *state),
            Op::Set(value) => (true, value),
            Op::Swapped { expect, value } => (expect == *state, Some(value)),
            Op::Refused { expect, found: Found::Version(found) } => {
                (found == *state && expect != *state, *state)
            }
            Op::Refused { expect, found: Found::Unseen } => (state.is_some() && expect != *state, *state),
            Op::MaybeSwapped { expect, value } if expect == *state => (true, Some(value)),
            Op::MaybeSwapped { .. } => (true, *state),
        }
    }
}

/// Checks a whole history.
///
/// # Errors
/// What is wrong with it.
pub fn check(history: &[Record]) -> Result<(), String> {
    revisions_never_go_back(history)?;
    let keys: BTreeSet<usize> = history.iter().map(|record| record.key).collect();
    for key in keys {
        let of_key: Vec<Record> = history.iter().filter(|record| record.key == key).copied().collect();
        match check_operations_timeout(&operations(&of_key)?, SEARCH_TIME_MAX) {
            CheckResult::Ok => {}
            CheckResult::Illegal => return Err(format!("key {key}: not linearizable")),
            CheckResult::Unknown => return Err(format!("key {key}: the search took too long")),
        }
    }
    Ok(())
}

/// The records of one key as porcupine takes them.
///
/// A write of unknown outcome may take effect at any later time, which is a return at infinity. As each value
/// is written by one call, most of them are decided by what others saw: a value that was seen was written
/// before the first who saw it had returned; a value that was never seen explains nothing and is left out,
/// which spares a search that doubles with each such write. Not left out are deletions, and, where a refused
/// compare-and-set found a revision whose value nobody saw, the writes that could be that.
fn operations(history: &[Record]) -> Result<Vec<Operation<Register>>, String> {
    let values = values(history)?;
    let mut seen_at: BTreeMap<u64, i64> = BTreeMap::new();
    for record in history {
        if let Some(value) = saw(record, &values) {
            let at = seen_at.entry(value).or_insert(i64::MAX);
            *at = record.returned.min(*at);
        }
    }
    let refused_by_unseen = history.iter().any(
        |record| matches!(record.outcome, Outcome::Conflict(Some(current)) if !values.contains_key(&current)),
    );
    let operations = history.iter().filter_map(|record| {
        let (op, return_time) = match (record.call, record.outcome) {
            (_, Outcome::Unknown) => maybe(record.call, &seen_at, refused_by_unseen)?,
            (call, outcome) => (definite(call, outcome, &values), record.returned),
        };
        let (client_id, call_time) = (Some(record.client), record.called);
        Some(Operation { client_id, call_time, return_time, op, metadata: None })
    });
    Ok(operations.collect())
}

/// The value of each revision.
fn values(history: &[Record]) -> Result<BTreeMap<Revision, u64>, String> {
    let (mut values, mut revisions) = (BTreeMap::new(), BTreeMap::new());
    for record in history {
        let Some(Seen { value, revision }) = record.shown() else { continue };
        let (other, at) =
            (*values.entry(revision).or_insert(value), *revisions.entry(value).or_insert(revision));
        if (other, at) != (value, revision) {
            let key = record.key;
            return Err(format!(
                "key {key}: value {value} has revision {revision}, and also {at}, or revision {revision} is \
                 also value {other}"
            ));
        }
    }
    Ok(values)
}

/// The value that must have been there before the record's return, and that it did not write itself.
fn saw(record: &Record, values: &BTreeMap<Revision, u64>) -> Option<u64> {
    match (record.call, record.outcome) {
        (Call::Get, Outcome::Found(found)) => found.map(|seen| seen.value),
        (Call::CompareAndSet { expect, .. }, Outcome::Done(_)) => expect.map(|seen| seen.value),
        (Call::CompareAndSet { .. }, Outcome::Conflict(current)) => values.get(&current?).copied(),
        _ => None,
    }
}

/// A write of unknown outcome and when it must have returned; `None`: it can be left out.
fn maybe(call: Call, seen_at: &BTreeMap<u64, i64>, all: bool) -> Option<(Op, i64)> {
    let (Call::Put { value } | Call::CompareAndSet { value, .. }) = call else {
        return (call == Call::Delete).then_some((Op::Set(None), i64::MAX));
    };
    let expect = match call {
        Call::CompareAndSet { expect, .. } => Some(expect.map(|seen| seen.value)),
        _ => None,
    };
    match (expect, seen_at.get(&value)) {
        (None, Some(at)) => Some((Op::Set(Some(value)), *at)),
        (Some(expect), Some(at)) => Some((Op::Swapped { expect, value }, *at)),
        (None, None) => all.then_some((Op::Set(Some(value)), i64::MAX)),
        (Some(expect), None) => all.then_some((Op::MaybeSwapped { expect, value }, i64::MAX)),
    }
}

fn definite(call: Call, outcome: Outcome, values: &BTreeMap<Revision, u64>) -> Op {
    match (call, outcome) {
        (Call::Put { value }, Outcome::Done(_)) => Op::Set(Some(value)),
        (Call::Delete, Outcome::Done(_)) => Op::Set(None),
        (Call::CompareAndSet { expect, value }, Outcome::Done(_)) => {
            Op::Swapped { expect: expect.map(|seen| seen.value), value }
        }
        (Call::CompareAndSet { expect, .. }, Outcome::Conflict(current)) => {
            let found = match current.map(|current| values.get(&current)) {
                None => Found::Version(None),
                Some(Some(value)) => Found::Version(Some(*value)),
                Some(None) => Found::Unseen,
            };
            Op::Refused { expect: expect.map(|seen| seen.value), found }
        }
        (Call::Get, Outcome::Found(found)) => Op::Get(found.map(|seen| seen.value)),
        (call, outcome) => unreachable!("{call:?} was answered with {outcome:?}"),
    }
}

/// A write has a larger revision than everything, of any key, that was answered before it was asked for; a
/// read sees no smaller one than was answered for its key.
fn revisions_never_go_back(history: &[Record]) -> Result<(), String> {
    let mut by_call: Vec<&Record> = history.iter().collect();
    by_call.sort_by_key(|record| record.called);
    let mut by_return = by_call.clone();
    by_return.sort_by_key(|record| record.returned);
    let mut returned = by_return.into_iter().peekable();
    let (mut newest, mut newest_of) = (0, BTreeMap::new());
    for record in by_call {
        while let Some(earlier) = returned.next_if(|earlier| earlier.returned < record.called) {
            let Some(revision) = earlier.revision() else { continue };
            newest = revision.max(newest);
            let of_key = newest_of.entry(earlier.key).or_insert(0);
            *of_key = revision.max(*of_key);
        }
        let Some(revision) = record.revision() else { continue };
        let of_key = newest_of.get(&record.key).copied().unwrap_or(0);
        let holds = match record.outcome {
            Outcome::Done(_) => revision > newest,
            _ => revision >= of_key,
        };
        if !holds {
            return Err(format!("a revision went back from {newest} (of the key: {of_key}): {record:?}"));
        }
    }
    Ok(())
}
