//! Whether what value GC goes by is true of a running store.

use crate::error::StoreError;
use crate::gc::{Counted, Miscount, audit};
use crate::store::Store;

impl Store {
    /// Reads all versions in all tables, past the cache, and names the files of which value GC believes something else
    /// than these say. There are none, ever: for tests, and for whoever wants to be sure.
    ///
    /// # Errors
    /// Damage in a table; a failed read.
    pub fn gc_audit(&self) -> Result<Vec<Miscount>, StoreError> {
        // Tables and manifest at one moment; the view keeps the tables.
        let (view, state) = {
            let _structure = self.shared.structure.lock();
            (self.shared.core.view(), self.shared.changes.state())
        };
        let mut counted = Counted::default();
        for table in view.tables.iter() {
            counted.add(table.reader.verify_counting()?);
        }
        Ok(audit(&state, &counted))
    }
}
