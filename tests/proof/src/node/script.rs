//! What is done to a node: the same for each seed.

use std::time::Duration;

use bytes::Bytes;
use kv_vlog::{Compression, Expect, Expiry, LogTime, Op, OpValue, Payload, StoredValue};

use super::model::FIRST_TIME;
use crate::dice::{Dice, key};

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Step {
    /// Entries of the leader's term.
    Append(Vec<Payload>),
    /// Waits until all that was asked for is durable.
    Sync,
    /// So many more entries, at most, are committed and applied; of them ones which are not durable here.
    Commit(u64),
    /// A vote in a new term.
    Vote,
    /// A new leader, who voids up to so many uncommitted entries.
    NewLeader(u64),
    /// Memtables to tables.
    Flush,
    /// Gives up entries that are in tables, all but so many.
    Purge(u64),
    /// A new leader's snapshot takes the place of everything: what is committed, and these entries behind it.
    Install(Vec<Payload>),
    /// Time passes, and background work is done.
    Pass(Duration),
    /// A clean close and an open.
    Close,
    /// The end of the process without a close, and an open.
    Stop,
    /// A clean close, a rewrite of the manifest by the operator's tool, and an open.
    Rewrite,
}

/// Keys that are written.
pub const KEYS: u64 = 12;

const STEPS: usize = 90;

/// What an entry says.
pub fn payload(dice: &mut Dice) -> Payload {
    match dice.below(12) {
        0 => Payload::Blank,
        1 => Payload::Membership(dice.bytes(60, 1)),
        2..5 => Payload::Ops((0..2 + dice.below(4)).map(|_| op(dice)).collect()),
        _ => Payload::Ops(vec![op(dice)]),
    }
}

fn op(dice: &mut Dice) -> Op {
    let key = key(dice.below(KEYS));
    match dice.below(10) {
        0..2 => Op::Delete { key },
        2 => Op::Check { key, expect: Expect::Absent },
        3 => {
            // Some at once, some never in this script.
            let expires = Expiry::at(FIRST_TIME + dice.below(300) as LogTime);
            let value = OpValue::Full(stored(&key, dice.value(), expires));
            Op::Put { key, value }
        }
        _ => put(key, dice.value()),
    }
}

fn put(key: Bytes, value: Bytes) -> Op {
    let value = OpValue::Full(stored(&key, value, Expiry::NEVER));
    Op::Put { key, value }
}

/// The value as the engine stores it.
pub fn stored(key: &[u8], value: Bytes, expires: Expiry) -> StoredValue {
    StoredValue::expiring(key, value, &Compression::default(), expires)
}

/// Entries of many groups that nobody waits for, and then a flush: it gets its turn while the log has
/// written the first group alone.
fn burst(dice: &mut Dice) -> [Step; 3] {
    let entry = |number| Payload::Ops(vec![put(key(number), dice.bytes(5_000, 1))]);
    [Step::Append((0..8).map(entry).collect()), Step::Commit(8), Step::Flush]
}

/// Entries are voided, and recovery then begins behind the segment that says so.
fn truncation_below_the_replay_position(dice: &mut Dice) -> [Step; 7] {
    let append = Step::Append((0..4).map(|_| payload(dice)).collect());
    [append, Step::Sync, Step::Commit(1), Step::NewLeader(4), Step::Stop, Step::Flush, Step::Stop]
}

/// Entries in a sealed segment are voided by a truncation that stands in the next one, behind which no entry
/// stays; recovery then begins behind both. That they are void, only the header of the segment that it begins
/// with says.
fn truncation_that_only_a_header_says(dice: &mut Dice) -> [Step; 10] {
    let mut entry = |length| Payload::Ops(vec![put(key(0), dice.bytes(length, 1))]);
    // The last one does not fit into the segment of the others.
    let append = Step::Append(vec![entry(100), entry(100), entry(70_000)]);
    let committed = [Step::Sync, Step::Commit(u64::MAX), append, Step::Sync, Step::Commit(1)];
    let [a, b, c, d, e] = committed;
    [a, b, c, d, e, Step::NewLeader(2), Step::Sync, Step::Stop, Step::Flush, Step::Stop]
}

/// A snapshot that comes while entries of the old leader are not committed, and writes behind it.
fn install(dice: &mut Dice) -> [Step; 5] {
    let mut append = |count| Step::Append((0..count).map(|_| payload(dice)).collect());
    let (before, after) = (append(2), append(2));
    let installed = (0..5).map(|_| payload(dice)).collect();
    [before, Step::Install(installed), after, Step::Commit(1), Step::Flush]
}

fn step(dice: &mut Dice) -> Step {
    match dice.below(17) {
        0..6 => Step::Append((0..1 + dice.below(3)).map(|_| payload(dice)).collect()),
        6..9 => Step::Sync,
        9..12 => Step::Commit(1 + dice.below(9)),
        12 => Step::Vote,
        13 => Step::NewLeader(dice.below(5)),
        14 => Step::Flush,
        15 => Step::Purge(dice.below(6)),
        _ => Step::Pass(Duration::from_millis(dice.below(100))),
    }
}

/// The whole script.
pub fn script(dice: &mut Dice) -> Vec<Step> {
    let mut steps: Vec<_> = (0..STEPS).map(|_| step(dice)).collect();
    let mut insert = |at: usize, more: Vec<Step>| drop(steps.splice(at..at, more));
    insert(STEPS, vec![Step::Sync, Step::Commit(99), Step::Flush, Step::Purge(2), Step::Close]);
    insert(STEPS * 5 / 6, truncation_below_the_replay_position(dice).into());
    insert(STEPS * 4 / 5, truncation_that_only_a_header_says(dice).into());
    insert(STEPS * 3 / 4, install(dice).into());
    insert(STEPS * 2 / 3, vec![Step::Rewrite]);
    insert(STEPS / 2, burst(dice).into());
    insert(STEPS / 3, vec![Step::Stop]);
    insert(STEPS / 5, install(dice).into());
    steps
}
