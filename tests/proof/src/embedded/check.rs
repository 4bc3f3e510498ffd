//! Reading everything.

use kv_lsm::{Db, ScanRange, StoreError};

use super::history::Contents;
use super::script::KEYS;
use crate::dice::key;

/// What a scan finds, each key read by itself; keys that the scan left out are not there.
///
/// # Errors
/// Those of reading.
///
/// # Panics
/// Where the scan and the reads differ.
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
