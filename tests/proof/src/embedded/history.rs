//! What may be found after a crash: the states that the database went through and that are not past.

use std::collections::BTreeMap;

use bytes::Bytes;

/// All keys with their values.
pub type Contents = BTreeMap<Bytes, Bytes>;

/// See the module.
#[derive(Clone, Debug)]
pub struct History {
    /// Each state the writes lead to, in the order of the log, from the oldest one that may be found on; the
    /// newest may have been given up with an error. Never empty.
    states: Vec<Contents>,
}

impl Default for History {
    fn default() -> Self {
        Self { states: vec![Contents::new()] }
    }
}

impl History {
    /// What a read sees once everything is applied.
    #[must_use]
    pub fn last(&self) -> &Contents {
        &self.states[self.states.len() - 1]
    }

    /// How many states may be found.
    #[must_use]
    pub fn states(&self) -> usize {
        self.states.len()
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
        self.states.drain(..self.states.len() - 1);
    }

    /// Whether these contents are one of the states. If so, from now on nothing else may be found: somebody
    /// has read it, or built upon it.
    pub fn settle(&mut self, contents: &Contents) -> bool {
        let Some(at) = self.states.iter().rposition(|state| state == contents) else { return false };
        self.states = vec![self.states.swap_remove(at)];
        true
    }

    /// Whether these contents are one of the states.
    #[must_use]
    pub fn allows(&self, contents: &Contents) -> bool {
        self.states.contains(contents)
    }

    /// Says how contents differ from the nearest of the states that are allowed.
    #[must_use]
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
        let nearest = self.states.iter().map(differences).min_by_key(Vec::len).unwrap_or_default();
        format!("{} states are allowed; the nearest differs in:\n{}", self.states.len(), nearest.concat())
    }
}
