//! What is live, counted anew from every version in every table, and held against what value GC goes by.

use std::collections::BTreeMap;
use std::fmt;

use kv_manifest::{SegmentRef, State};

use super::usage::files;

/// How many values of a segment are pointed to, and their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    segments: BTreeMap<u64, Live>,
}

/// Values, and how long their records are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// How many.
    pub values: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A file of values of which value GC believes something else than the tables say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miscount {
    /// Its number.
    pub file: u64,
    /// What value GC goes by.
    pub said: Live,
    /// What the versions in tables come to.
    pub found: Live,
}

impl Counted {
    /// Adds what the versions of a table point to.
    pub fn add(&mut self, refs: impl IntoIterator<Item = SegmentRef>) {
        for SegmentRef { segment, count, bytes } in refs {
            let live = self.segments.entry(segment).or_default();
            live.values = live.values.saturating_add(count);
            live.bytes = live.bytes.saturating_add(bytes);
        }
    }
}

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of {} values", self.bytes, self.values)
    }
}

impl fmt::Display for Miscount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { said, found, .. } = self;
        write!(f, "value GC takes {said} in it for live, but tables point to {found}")
    }
}

/// The files of which the state says something else than what was counted in all of its tables.
#[must_use]
pub fn audit(state: &State, counted: &Counted) -> Vec<Miscount> {
    let mut found: BTreeMap<u64, Live> = BTreeMap::new();
    for (segment, live) in &counted.segments {
        // No such segment: named as file 0, which none has.
        let file = state.segments.get(segment).map_or(0, |segment| segment.file);
        let sum = found.entry(file).or_default();
        sum.values = sum.values.saturating_add(live.values);
        sum.bytes = sum.bytes.saturating_add(live.bytes);
    }
    let said = files(state).into_iter();
    let said = said.map(|usage| (usage.file, Live { values: usage.live_values, bytes: usage.live_bytes }));
    let mut miscounts = Vec::new();
    for (file, said) in said {
        let found = found.remove(&file).unwrap_or_default();
        if said != found {
            miscounts.push(Miscount { file, said, found });
        }
    }
    miscounts.extend(found.into_iter().map(|(file, found)| Miscount { file, said: Live::default(), found }));
    miscounts
}

#[cfg(test)]
mod tests {
    use kv_manifest::{ChangeSet, Edit, Identity, TableMeta};

    use super::*;

    fn refs(segment: u64, count: u64, bytes: u64) -> SegmentRef {
        SegmentRef { segment, count, bytes }
    }

    /// Segment 1 in its own file; segment 2 moved into that of 3.
    fn state() -> State {
        let values = |segment, file| Edit::AddValueSegment {
            segment,
            file,
            generation: 0,
            epoch: 0,
            end: 4096,
            values: 9,
            value_bytes: 900,
        };
        let table = |id, smallest: &[u8], refs| {
            let (smallest, largest) = (smallest.to_vec(), smallest.to_vec());
            Edit::AddTable(TableMeta { id, smallest, largest, entries: 5, refs, ..TableMeta::default() })
        };
        let mut state = State::default();
        let mut apply = |number, edits| {
            state.apply(&ChangeSet { number, unix_ms: 0, cause: "test".into(), edits }).unwrap();
        };
        let begin =
            vec![Edit::Identity(Identity::default()), Edit::NextFile(20), values(1, 11), values(2, 12)];
        apply(1, begin);
        let refs_of = [vec![refs(1, 2, 200), refs(2, 1, 50)], vec![refs(2, 1, 60), refs(3, 4, 400)]];
        let [first, second] = refs_of;
        let remap = Edit::RemapSegment { segment: 2, file: 13 };
        apply(2, vec![values(3, 13), remap, table(14, b"a", first), table(15, b"b", second)]);
        state
    }

    fn counted(state: &State) -> Counted {
        let mut counted = Counted::default();
        state.tables.values().for_each(|table| counted.add(table.refs.clone()));
        counted
    }

    #[test]
    fn what_is_right_is_not_named() {
        assert_eq!(audit(&state(), &counted(&state())), []);
        assert_eq!(audit(&State::default(), &Counted::default()), []);
    }

    #[test]
    fn a_wrong_reference_is_named_with_its_file() {
        let right = counted(&state());
        let mut wrong = state();
        wrong.tables.get_mut(&15).unwrap().refs = vec![refs(2, 1, 61), refs(3, 4, 400)];
        let (said, found) = (Live { values: 6, bytes: 511 }, Live { values: 6, bytes: 510 });
        assert_eq!(audit(&wrong, &right), [Miscount { file: 13, said, found }]);
        assert!(audit(&wrong, &right)[0].to_string().contains("511 bytes of 6 values"));
        // A reference too many, and one to a segment that is not there.
        let mut more = right.clone();
        more.add([refs(1, 1, 100), refs(9, 1, 7)]);
        let named: Vec<_> = audit(&state(), &more).into_iter().map(|m| (m.file, m.found.bytes)).collect();
        assert_eq!(named, [(11, 300), (0, 7)]);
        // None at all.
        assert_eq!(audit(&state(), &Counted::default()).len(), 2);
    }
}
