//! The checker itself: histories whose verdict is known.

use super::history::{Call, Outcome, Record, Seen};
use super::model::check;

fn seen(value: u64) -> Seen {
    Seen { value, revision: value * 10 }
}

fn record(called: i64, returned: i64, call: Call, outcome: Outcome) -> Record {
    Record { client: 0, key: 0, called, returned, call, outcome }
}

fn put(called: i64, returned: i64, value: u64) -> Record {
    record(called, returned, Call::Put { value }, Outcome::Done(seen(value).revision))
}

fn get(called: i64, returned: i64, value: Option<u64>) -> Record {
    record(called, returned, Call::Get, Outcome::Found(value.map(seen)))
}

fn swap(called: i64, returned: i64, expect: Option<u64>, value: u64, outcome: Outcome) -> Record {
    record(called, returned, Call::CompareAndSet { expect: expect.map(seen), value }, outcome)
}

fn unknown(record: Record) -> Record {
    Record { outcome: Outcome::Unknown, ..record }
}

#[track_caller]
fn refused(history: &[Record]) {
    assert!(check(history).is_err(), "accepted: {history:?}");
}

#[track_caller]
fn accepted(history: &[Record]) {
    assert_eq!(check(history), Ok(()), "{history:?}");
}

#[test]
fn a_stale_read_is_found() {
    accepted(&[put(0, 1, 1), put(2, 5, 2), get(3, 4, Some(1)), get(6, 7, Some(2))]);
    refused(&[put(0, 1, 1), put(2, 3, 2), get(4, 5, Some(1))]);
    refused(&[put(0, 1, 1), get(2, 3, None)]);
    // Once seen, a write that is still under way stays seen.
    refused(&[put(0, 1, 1), put(2, 9, 2), get(3, 4, Some(2)), get(5, 6, Some(1))]);
}

#[test]
fn a_lost_update_is_found() {
    let done = Outcome::Done;
    accepted(&[put(0, 1, 1), swap(2, 3, Some(1), 2, done(20)), swap(4, 5, Some(2), 3, done(30))]);
    refused(&[put(0, 1, 1), swap(2, 3, Some(1), 2, done(20)), swap(2, 5, Some(1), 3, done(30))]);
    refused(&[put(0, 1, 1), swap(2, 3, None, 2, done(20))]);
}

#[test]
fn a_refusal_without_a_reason_is_found() {
    let conflict = |value: Option<u64>| Outcome::Conflict(value.map(|value| seen(value).revision));
    accepted(&[put(0, 1, 1), put(2, 3, 2), swap(4, 5, Some(1), 3, conflict(Some(2)))]);
    refused(&[put(0, 1, 1), swap(4, 5, Some(1), 3, conflict(Some(1)))]);
    refused(&[put(0, 1, 1), put(2, 3, 2), swap(4, 5, Some(1), 3, conflict(Some(1)))]);
    refused(&[put(0, 1, 1), swap(4, 5, Some(1), 3, conflict(None))]);
}

#[test]
fn a_write_of_unknown_outcome_may_happen_late_but_once() {
    accepted(&[put(0, 1, 1), unknown(put(2, 3, 2)), get(4, 5, Some(1)), get(6, 7, Some(2))]);
    accepted(&[put(0, 1, 1), unknown(put(2, 3, 2)), get(4, 5, Some(1)), get(6, 7, Some(1))]);
    refused(&[put(0, 1, 1), unknown(put(2, 3, 2)), get(4, 5, Some(2)), get(6, 7, Some(1))]);
    refused(&[put(0, 1, 1), unknown(put(2, 3, 2)), get(4, 5, Some(2)), put(6, 7, 3), get(8, 9, Some(2))]);
    // Not before it was asked for.
    refused(&[put(0, 1, 1), get(2, 3, Some(2)), unknown(put(4, 5, 2))]);
    let delete = record(2, 3, Call::Delete, Outcome::Unknown);
    accepted(&[put(0, 1, 1), delete, get(4, 5, Some(1)), get(6, 7, None)]);
    refused(&[put(0, 1, 1), delete, get(4, 5, None), get(6, 7, Some(1))]);
}

#[test]
fn a_swap_of_unknown_outcome_happens_only_to_what_it_expects() {
    let swap = |expect| swap(2, 3, expect, 2, Outcome::Unknown);
    accepted(&[put(0, 1, 1), swap(Some(1)), get(4, 5, Some(2))]);
    accepted(&[put(0, 1, 1), swap(Some(1)), get(4, 5, Some(1))]);
    refused(&[put(0, 1, 1), swap(None), get(4, 5, Some(2))]);
}

#[test]
fn a_refusal_by_a_version_that_nobody_read_needs_someone_who_wrote_it() {
    let by_unseen = Outcome::Conflict(Some(25));
    accepted(&[put(0, 1, 1), unknown(put(2, 3, 2)), swap(4, 5, Some(1), 3, by_unseen)]);
    refused(&[put(0, 1, 1), swap(4, 5, Some(1), 3, by_unseen)]);
}

#[test]
fn a_value_that_nobody_wrote_is_found() {
    refused(&[put(0, 1, 1), get(2, 3, Some(7))]);
}

#[test]
fn a_revision_that_goes_back_or_changes_is_found() {
    let at =
        |called, value, revision| record(called, called + 1, Call::Put { value }, Outcome::Done(revision));
    let other_key = |record| Record { key: 1, ..record };
    accepted(&[at(0, 1, 10), other_key(at(2, 2, 20))]);
    refused(&[at(0, 1, 20), other_key(at(2, 2, 10))]);
    refused(&[at(0, 1, 10), record(2, 3, Call::Get, Outcome::Found(Some(Seen { value: 1, revision: 11 })))]);
    refused(&[at(0, 1, 10), at(0, 2, 10)]);
}
