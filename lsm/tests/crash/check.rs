//! What must hold after a crash.

use std::sync::Arc;

use bytes::Bytes;
use kv_lsm::{Db, ScanRange, StoreError};
use kv_vfs::{MemVfs, Vfs};

use crate::coverage::Coverage;
use crate::history::{Contents, History};
use crate::run::Run;
use crate::script::{KEYS, key};
use crate::world::open;

/// What a scan finds, each key read by itself; keys that the scan left out are not there.
pub fn contents(db: &Db) -> Result<Contents, StoreError> {
    let mut found = Contents::new();
    for item in db.scan(ScanRange::default())? {
        let item = item?;
        let read = db.get(&item.key)?;
        let read = read.unwrap_or_else(|| panic!("{:?} is in the scan, but cannot be read", item.key));
        assert_eq!(read.revision, item.revision, "{:?}: the scan and the read differ", item.key);
        found.insert(item.key, read.value);
    }
    for absent in (0..KEYS).map(key).filter(|key| !found.contains_key(key)) {
        assert!(db.get(&absent)?.is_none(), "{absent:?} can be read, but is not in the scan");
    }
    Ok(found)
}

/// Opens what a crash left. It must open, with an allowed state, which the run's history then is. `None`
/// where nothing could be opened, and nothing had to: the crash was before the first open was through.
pub fn open_found(vfs: &MemVfs, run: &mut Run) -> Option<Db> {
    let was_opened = run.opened;
    open_found_if(vfs, run, |_| !was_opened)
}

/// As [`open_found`], where some errors are allowed.
pub fn open_found_if(vfs: &MemVfs, run: &mut Run, allowed: impl Fn(&StoreError) -> bool) -> Option<Db> {
    let db = match open(&shared(vfs)) {
        Ok(db) => db,
        Err(error) if allowed(&error) => return None,
        Err(error) => panic!("does not open: {error}"),
    };
    let found = contents(&db).unwrap();
    let state = run.history.find(&found);
    run.history.settle(state.unwrap_or_else(|| panic!("{}", run.history.explain(&found))));
    run.opened = true;
    Some(db)
}

/// What a crash left must open, with an allowed state.
pub fn glance(vfs: &MemVfs, run: &Run, coverage: &Coverage) -> Option<(Db, Run)> {
    let mut run = run.clone();
    coverage.note("crash");
    let Some(db) = open_found(vfs, &mut run) else {
        coverage.note("nothing to open");
        return None;
    };
    coverage.note_recovery(vfs);
    if db.store().torn_tail().is_some() {
        coverage.note("torn tail");
    }
    Some((db, run))
}

/// As [`glance`]; and then it must take another write, and hold all after a close.
pub fn check(vfs: &MemVfs, run: &Run, coverage: &Coverage) {
    let Some((db, mut run)) = glance(vfs, run, coverage) else { return };
    write_one_more(db, &mut run.history);
    let db = open(&shared(vfs)).unwrap();
    assert_eq!(db.store().torn_tail(), None, "after a clean close");
    let (found, expected) = (contents(&db).unwrap(), run.history.last());
    assert!(found == *expected, "after one more write: {}", run.history.explain(&found));
}

fn write_one_more(db: Db, history: &mut History) {
    let (key, value) = (Bytes::from("after"), Bytes::from(vec![7; 2000]));
    history.begin(&[(key.clone(), Some(value.clone()))]);
    db.put(&key, value.clone()).unwrap();
    assert_eq!(db.get(&key).unwrap().unwrap().value, value);
    db.close().unwrap();
}

/// The disk as the database takes it.
pub fn shared(vfs: &MemVfs) -> Arc<dyn Vfs> {
    Arc::new(vfs.clone())
}
