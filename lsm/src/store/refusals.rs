//! Tables that had no room on the disk: they are tried again, but who waits for one is told.

use parking_lot::Mutex;

use crate::error::StoreError;

/// How often, and why the last time.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<(u64, String)>);

impl Refusals {
    pub(crate) fn count(&self) -> u64 {
        self.0.lock().0
    }

    pub(crate) fn add(&self, error: &StoreError) {
        let mut refusals = self.0.lock();
        *refusals = (refusals.0 + 1, error.to_string());
    }

    /// An error if there were more than so many.
    pub(crate) fn since(&self, count: u64) -> Result<(), StoreError> {
        let refusals = self.0.lock();
        if refusals.0 == count { Ok(()) } else { Err(StoreError::NoRoom { why: refusals.1.clone() }) }
    }
}
