//! What is known of a node's data.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kv_vlog::{Entry, Expect, Expiry, LogTime, Op, OpValue, Payload, Position, Vote, seq_of};

use crate::crash::Known;

/// What the log is asked for. It has one order, so what a crash leaves is what the first so many requests
/// make, and at least those that were acknowledged.
#[derive(Clone, Debug)]
pub enum Request {
    Append(Arc<Entry>),
    Truncate(u64),
    Vote(Vote),
    /// All entries are in a snapshot, and none in the log.
    Install(Arc<Vec<Arc<Entry>>>),
}

/// What the log comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// From index 0 on, purged ones included.
    pub entries: Vec<Arc<Entry>>,
    pub vote: Option<Vote>,
}

/// All keys with version, value, and when it goes away.
pub type Contents = BTreeMap<Bytes, (u64, Bytes, Expiry)>;

/// An entry as a leader makes it: with each one it is later, but a blank one says nothing of that.
pub fn entry(at: Position, payload: Payload) -> Entry {
    let time = if payload == Payload::Blank { 0 } else { FIRST_TIME + at.index as LogTime };
    Entry { at, time, payload }
}

/// What time it is at the first entry.
pub const FIRST_TIME: LogTime = 1_700_000_000;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// What is durable for certain.
    durable: Log,
    /// How many requests that took.
    acknowledged: usize,
    /// Asked for since, in order.
    pending: Vec<Request>,
    /// Entries below this index are committed.
    pub committed: u64,
    /// Entries below this index are purged; the first for certain, the second perhaps.
    pub purged: u64,
    pub purging: u64,
    /// Entries below this index are in tables.
    pub flushed: u64,
    /// The term of the last leader.
    pub term: u64,
}

impl Known for Model {
    fn under_way(&self, note: &mut dyn FnMut(&str)) {
        for request in &self.pending {
            match request {
                Request::Append(entry) => operations_under_way(&entry.payload, note),
                Request::Truncate(_) => note("a truncation"),
                Request::Vote(_) => note("a vote"),
                Request::Install(_) => note("an installation"),
            }
        }
        if self.purging > self.purged {
            note("a purge");
        }
    }
}

fn operations_under_way(payload: &Payload, note: &mut dyn FnMut(&str)) {
    match payload {
        Payload::Blank => note("a blank entry"),
        Payload::Membership(_) => note("a membership"),
        Payload::Ops(ops) if ops.len() > 1 => note("a batch"),
        Payload::Ops(_) => {}
    }
    for op in payload.ops() {
        match op {
            Op::Put { value: OpValue::Full(value), .. } if value.expires != Expiry::NEVER => {
                note("a put that expires");
            }
            Op::Put { .. } => note("a put"),
            Op::Delete { .. } => note("a delete"),
            Op::Check { .. } => note("a condition"),
        }
    }
}

impl Log {
    fn take(&mut self, request: &Request) {
        match request {
            Request::Append(entry) => {
                assert_eq!(entry.at.index, self.entries.len() as u64);
                self.entries.push(entry.clone());
            }
            Request::Truncate(next) => self.entries.truncate(*next as usize),
            Request::Vote(vote) => self.vote = Some(*vote),
            Request::Install(entries) => self.entries = entries.to_vec(),
        }
    }

    /// What the entries below this index come to, when applied.
    pub fn contents(&self, next: u64) -> Contents {
        let (mut contents, mut time) = (Contents::new(), 0);
        for entry in self.entries.iter().take(next as usize) {
            time = entry.time.max(time);
            // Nothing that an entry says can be about what has expired before.
            contents.retain(|_, (.., expires)| !expires.is_past(time));
            apply(&mut contents, entry);
        }
        contents.retain(|_, (.., expires)| !expires.is_past(time));
        contents
    }

    /// What time it is with the entries below this index.
    pub fn time(&self, next: u64) -> LogTime {
        self.entries.iter().take(next as usize).map(|entry| entry.time).max().unwrap_or_default()
    }

    /// The newest membership below this index.
    pub fn membership(&self, next: u64) -> Option<(Position, Bytes)> {
        let newest = self.entries.iter().take(next as usize).rev();
        newest.into_iter().find_map(|entry| match &entry.payload {
            Payload::Membership(blob) => Some((entry.at, blob.clone())),
            _ => None,
        })
    }
}

fn apply(contents: &mut Contents, entry: &Entry) {
    let holds = |op: &Op| match op {
        Op::Check { key, expect: Expect::Absent } => !contents.contains_key(key),
        Op::Check { key, expect: Expect::Seq(seq) } => contents.get(key).is_some_and(|(at, ..)| at == seq),
        Op::Put { .. } | Op::Delete { .. } => true,
    };
    if !entry.payload.ops().iter().all(holds) {
        return;
    }
    for (number, op) in (0..).zip(entry.payload.ops()) {
        match op {
            Op::Put { key, value: OpValue::Full(value) } => {
                let (expires, value) = (value.expires, value.decode().expect("made here"));
                contents.insert(key.clone(), (seq_of(entry.at.index, number), value, expires));
            }
            Op::Put { value: OpValue::At { .. }, .. } => unreachable!("the model holds values"),
            Op::Delete { key } => drop(contents.remove(key)),
            Op::Check { .. } => {}
        }
    }
}

impl Model {
    /// Notes a request; returns its number, to be acknowledged by.
    pub fn ask(&mut self, request: Request) -> usize {
        self.pending.push(request);
        self.acknowledged + self.pending.len()
    }

    /// All requests up to this number are durable.
    pub fn acknowledge(&mut self, number: usize) {
        for request in self.pending.drain(..number.saturating_sub(self.acknowledged)) {
            self.durable.take(&request);
            self.acknowledged += 1;
        }
    }

    /// Whether an installation was asked for last.
    pub fn is_installing(&self) -> bool {
        matches!(self.pending.last(), Some(Request::Install(_)))
    }

    /// An installation that was asked for last did not happen.
    pub fn withdraw_install(&mut self) {
        self.pending.pop_if(|request| matches!(request, Request::Install(_)));
        self.purging = self.purged;
    }

    /// What the log comes to with everything that was asked for.
    pub fn log(&self) -> Log {
        self.after(self.pending.len())
    }

    fn after(&self, requests: usize) -> Log {
        let mut log = self.durable.clone();
        self.pending.iter().take(requests).for_each(|request| log.take(request));
        log
    }

    /// Takes this log for what is there, if it is one that may be; `readable`: from this index on there are
    /// entries in it. From now on nothing else may be there.
    pub fn settle(&mut self, found: &[Entry], readable: u64, end: u64, vote: Option<Vote>) -> bool {
        let may_be = |log: &Log| {
            let entries = log.entries.iter().skip(readable as usize).map(Arc::as_ref);
            log.vote == vote && log.entries.len() as u64 == end && entries.eq(found)
        };
        let Some(log) = (0..=self.pending.len()).rev().map(|k| self.after(k)).find(may_be) else {
            return false;
        };
        self.committed = self.committed.min(log.entries.len() as u64);
        self.durable = log;
        self.acknowledged += self.pending.len();
        self.pending.clear();
        true
    }

    /// What may be there, for a message.
    pub fn explain(&self) -> String {
        let show = |log: Log| {
            let terms: Vec<_> = log.entries.iter().map(|entry| entry.at.term).collect();
            format!("vote {:?}, {} entries of terms {terms:?}", log.vote, terms.len())
        };
        let logs: Vec<_> = (0..=self.pending.len()).map(|k| show(self.after(k))).collect();
        logs.join("\n  or ")
    }
}
