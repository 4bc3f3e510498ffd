//! What must hold of a node's data after a crash.

use kv_lsm::{ScanRange, Store, StoreError};
use kv_vlog::Entry;

use super::model::{Contents, Model};
use crate::coverage::Coverage;
use crate::world::Life;

/// Compares what was opened with what is known, which it settles.
///
/// # Errors
/// Those of reading; what differs is a panic.
pub fn compare(store: &Store, life: &Life<Model>, coverage: &Coverage) -> Result<(), StoreError> {
    let state = store.log().state();
    let readable = state.purged.map_or(0, |at| at.index + 1);
    let end = state.last.map_or(0, |at| at.index + 1);
    let found = entries(store, readable, end)?;
    let mut known = life.known();
    let vote = store.log().vote();
    if !known.settle(&found, readable, end, vote) {
        let terms: Vec<_> = found.iter().map(|entry| entry.at.term).collect();
        let may_be = known.explain();
        panic!(
            "the log: vote {vote:?}, {end} entries, from {readable} on of terms {terms:?}; may be:\n  {may_be}"
        );
    }
    let (purged, purging) = (known.purged, known.purging);
    assert!(
        (purged..=purging).contains(&readable),
        "purged below {readable}; {purged} to {purging} is allowed"
    );
    known.purged = readable;
    let log = known.log();
    let flushed = store.flushed().map_or(0, |at| at.index + 1);
    assert!(flushed >= known.flushed, "in tables below {flushed}, but {} was durable", known.flushed);
    known.flushed = flushed;
    let applied = store.applied().map_or(0, |at| at.index + 1);
    assert!(
        applied >= flushed && applied <= known.committed.max(flushed),
        "applied below {applied}: {known:?}"
    );
    known.committed = known.committed.max(applied);
    drop(known);
    let (found, expected) = (contents(store)?, log.contents(applied));
    assert!(found == expected, "{}", explain(&found, &expected));
    assert_eq!(store.membership(), log.membership(applied));
    if store.torn_tail().is_some() {
        coverage.note("torn tail");
    }
    if applied < end {
        coverage.note("uncommitted entries");
    }
    Ok(())
}

/// Entries of the log, with their values.
fn entries(store: &Store, from: u64, end: u64) -> Result<Vec<Entry>, StoreError> {
    let read = |index: u64| {
        let mut found = store.log().entries(index..index + 1, 1, true)?;
        assert_eq!(found.len(), 1, "entry {index}");
        Ok(found.remove(0))
    };
    (from..end).map(read).collect()
}

/// What a scan finds, each key read by itself.
pub fn contents(store: &Store) -> Result<Contents, StoreError> {
    let mut found = Contents::new();
    for item in store.scan(ScanRange::default())? {
        let item = item?;
        let read = store.get(&item.key, None)?;
        let read = read.unwrap_or_else(|| panic!("{:?} is in the scan, but cannot be read", item.key));
        assert_eq!(read.revision, item.revision, "{:?}: the scan and the read differ", item.key);
        found.insert(item.key, (read.revision, read.value, read.expires));
    }
    Ok(found)
}

/// Says how contents differ.
pub fn explain(found: &Contents, expected: &Contents) -> String {
    let mut keys: Vec<_> = found.keys().chain(expected.keys()).collect();
    keys.sort();
    keys.dedup();
    let show = |contents: &Contents, key| match contents.get(key) {
        Some((seq, value, expires)) => format!("version {seq} of {} bytes, {expires:?}", value.len()),
        None => "nothing".into(),
    };
    let differs = keys.into_iter().filter(|key| found.get(*key) != expected.get(*key));
    let line = |key| format!("  {key:?}: {} expected, {} found\n", show(expected, key), show(found, key));
    format!("contents differ:\n{}", differs.map(line).collect::<String>())
}
