//! What clients asked, and what they were answered.

use std::fmt::Write as _;

use kv_client::Revision;

/// A version of a key that someone has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Number of the value; each is written by one call only, so that it names the write.
    pub value: u64,
    /// Its revision.
    pub revision: Revision,
}

/// A call on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Get,
    Put {
        value: u64,
    },
    Delete,
    /// `None`: the key must be absent.
    CompareAndSet {
        expect: Option<Seen>,
        value: u64,
    },
}

/// What became of a call. Calls that certainly did nothing are not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of a get.
    Found(Option<Seen>),
    /// Of a write.
    Done(Revision),
    /// Of a compare-and-set: the key had this revision.
    Conflict(Option<Revision>),
    /// Of a write: it may have happened, or may still.
    Unknown,
}

/// A call and its outcome.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub client: u32,
    pub key: usize,
    /// Nanoseconds since the test began.
    pub called: i64,
    pub returned: i64,
    pub call: Call,
    pub outcome: Outcome,
}

impl Record {
    /// The version that it wrote, with an answer that says so.
    pub fn written(&self) -> Option<Seen> {
        match (self.call, self.outcome) {
            (Call::Put { value } | Call::CompareAndSet { value, .. }, Outcome::Done(revision)) => {
                Some(Seen { value, revision })
            }
            _ => None,
        }
    }

    /// The version that it showed to exist: written, or read.
    pub fn shown(&self) -> Option<Seen> {
        match self.outcome {
            Outcome::Found(found) => found,
            _ => self.written(),
        }
    }

    /// The newest revision that is known to exist once it has returned.
    pub fn revision(&self) -> Option<Revision> {
        match self.outcome {
            Outcome::Found(found) => found.map(|seen| seen.revision),
            Outcome::Done(revision) => Some(revision),
            Outcome::Conflict(current) => current,
            Outcome::Unknown => None,
        }
    }
}

/// One line for each record, by the time of the call.
pub fn to_text(history: &[Record]) -> String {
    let mut sorted = history.to_vec();
    sorted.sort_by_key(|record| record.called);
    let mut text = String::from("key client called_us returned_us call outcome\n");
    for Record { client, key, called, returned, call, outcome } in sorted {
        let (called, returned) = (called / 1000, returned / 1000);
        writeln!(text, "{key} {client} {called} {returned} {call:?} {outcome:?}").unwrap();
    }
    text
}
