//! What may be found after a crash: the states that the database went through, and which of them are
//! past.

use std::collections::BTreeMap;

use bytes::Bytes;

/// All keys with their values.
pub type Contents = BTreeMap<Bytes, Bytes>;

/// See the module.
#[derive(Clone, Debug)]
pub struct History {
    /// Each state the writes lead to, in the order of the log; the newest may have been given up with an
    /// error. Never empty.
    states: Vec<Contents>,
    /// The oldest one that may be found. Invariant: smaller than the number of states.
    durable: usize,
}

impl Default for History {
    fn default() -> Self {
        Self { states: vec![Contents::new()], durable: 0 }
    }
}

impl History {
    /// What a read sees once everything is applied.
    pub fn last(&self) -> &Contents {
        &self.states[self.states.len() - 1]
    }

    /// A write begins: its state may be found from now on, whole or not at all.
    pub fn begin(&mut self, changes: &[(Bytes, Option<Bytes>)]) {
        let mut next = self.last().clone();
        for (key, value) in changes {
            match value {
                Some(value) => next.insert(key.clone(), value.clone()),
                None => next.remove(key),
            };
        }
        self.states.push(next);
    }

    /// All that was begun is acknowledged as durable.
    pub fn acknowledge(&mut self) {
        self.durable = self.states.len() - 1;
    }

    /// Which of the states these contents are; the newest, if several are equal.
    pub fn find(&self, contents: &Contents) -> Option<usize> {
        let newer = self.states[self.durable..].iter().rposition(|state| state == contents);
        newer.map(|at| at + self.durable)
    }

    /// From now on nothing but this state may be found: somebody has read it, or built upon it.
    pub fn settle(&mut self, at: usize) {
        assert!(at >= self.durable);
        self.states.truncate(at + 1);
        self.durable = at;
    }

    /// Says how contents differ from the nearest of the states that are allowed.
    pub fn explain(&self, contents: &Contents) -> String {
        let differences = |state: &Contents| {
            let keys = state.keys().chain(contents.keys());
            let mut keys: Vec<_> = keys.filter(|key| state.get(*key) != contents.get(*key)).collect();
            keys.sort();
            keys.dedup();
            let show = |value: Option<&Bytes>| {
                value.map_or("nothing".to_string(), |value| {
                    format!("{} bytes {:02x?}..", value.len(), &value[..value.len().min(8)])
                })
            };
            let line = |key: &Bytes| {
                let (expected, found) = (show(state.get(key)), show(contents.get(key)));
                format!("  {key:?}: {expected} expected, {found} found\n")
            };
            keys.into_iter().map(line).collect::<Vec<_>>()
        };
        let allowed = (self.durable..self.states.len()).map(|at| (at, differences(&self.states[at])));
        let (at, lines) = allowed.min_by_key(|(_, lines)| lines.len()).unwrap();
        format!(
            "states {} to {} are allowed; the nearest is {at}:\n{}",
            self.durable,
            self.states.len() - 1,
            lines.concat()
        )
    }
}
