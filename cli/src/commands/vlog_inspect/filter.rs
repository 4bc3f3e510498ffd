//! Which records are shown.

use kv_vlog::{Entry, Op, Payload, Record};

use super::{Placed, op_kind, payload, value_op};
use crate::args::Shown;

/// What has to hold of a record; of its operations, those are left for which it does.
pub(super) struct Filter<'a>(pub &'a Shown);

impl Filter<'_> {
    /// Whether anything is asked for.
    pub(super) fn is_set(&self) -> bool {
        let Shown { from, from_index, to_index, term, kind, key, .. } = self.0;
        from.is_some()
            || from_index.is_some()
            || to_index.is_some()
            || term.is_some()
            || kind.is_some()
            || key.is_some()
    }

    /// What is shown of a record, if anything is.
    pub(super) fn part(&self, (offset, length, record): &Placed) -> Option<Placed> {
        if !self.is_set() {
            return Some((*offset, *length, record.clone()));
        }
        if self.0.from.is_some_and(|from| u64::from(*offset) < from) {
            return None;
        }
        let record = match record {
            Record::Entry(entry, offsets) => self.entry(entry, offsets)?,
            Record::Values(values) => {
                if !self.has_index(None) || self.0.term.is_some() {
                    return None;
                }
                let is_whole = self.is_kind("values");
                let wanted = |op: &Op| self.has_key(op) && (is_whole || self.is_kind("put"));
                let values: Vec<_> =
                    values.iter().filter(|value| wanted(&value_op(value))).cloned().collect();
                (!values.is_empty()).then_some(Record::Values(values))?
            }
            Record::Vote(vote) => self.mark("vote", Some(vote.term), record)?,
            Record::Truncate(_) => self.mark("truncate", None, record)?,
            Record::Footer => self.mark("footer", None, record)?,
        };
        Some((*offset, *length, record))
    }

    fn entry(&self, entry: &Entry, offsets: &[u32]) -> Option<Record> {
        if self.0.term.is_some_and(|term| entry.at.term != term) || !self.has_index(Some(entry.at.index)) {
            return None;
        }
        let is_whole = self.is_kind(payload(&entry.payload));
        let Payload::Ops(ops) = &entry.payload else {
            let shown = is_whole && self.0.key.is_none();
            return shown.then(|| Record::Entry(entry.clone(), offsets.to_vec()));
        };
        let wanted = |op: &Op| {
            // There are two kinds of checks.
            let kind = op_kind(op).split(' ').next().unwrap_or_default();
            self.has_key(op) && (is_whole || self.is_kind(kind))
        };
        let (ops, offsets): (Vec<Op>, Vec<u32>) =
            ops.iter().zip(offsets).filter(|(op, _)| wanted(op)).map(|(op, at)| (op.clone(), *at)).unzip();
        let entry = Entry { at: entry.at, time: entry.time, payload: Payload::Ops(ops) };
        (!offsets.is_empty()).then_some(Record::Entry(entry, offsets))
    }

    fn mark(&self, kind: &str, term: Option<u64>, record: &Record) -> Option<Record> {
        let is_term = self.0.term.is_none() || term == self.0.term;
        let shown = is_term && self.has_index(None) && self.is_kind(kind) && self.0.key.is_none();
        shown.then(|| record.clone())
    }

    fn is_kind(&self, kind: &str) -> bool {
        self.0.kind.as_ref().is_none_or(|wanted| wanted == kind)
    }

    /// What has no index is not shown where one is asked for.
    fn has_index(&self, index: Option<u64>) -> bool {
        let Shown { from_index, to_index, .. } = self.0;
        match index {
            Some(index) => {
                from_index.is_none_or(|from| index >= from) && to_index.is_none_or(|to| index <= to)
            }
            None => from_index.is_none() && to_index.is_none(),
        }
    }

    fn has_key(&self, op: &Op) -> bool {
        self.0.key.as_ref().is_none_or(|key| op.key() == &key.0[..])
    }
}
