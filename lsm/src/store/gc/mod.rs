//! Value GC, done: the live values of some files go into a new one, and the manifest says where they are now.
//! No table is read but for its list of references, and none is written.
//!
//! ```text
//! mark: the references of all tables -> copy in key order -> footer: old place -> new place -> sync, directory
//!       -> still so? -> one change-set -> memory -> the old files go when nobody reads them
//! ```

mod audit;
mod claims;
mod collection;
mod decision;
mod marks;
mod output;
mod run;
mod space;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use claims::Resolver;
use claims::{Claim, Claims};
pub use collection::{Collected, Collection};
pub use decision::GcReport;
use decision::Watched;
use parking_lot::Mutex;
pub use run::GcRun;
use space::Occupancy;
pub(crate) use worker::Collector;

use super::Store;
use super::pins::Held;
use crate::error::StoreError;

/// What collections share.
#[derive(Debug, Default)]
pub(crate) struct Collecting {
    claims: Arc<Claims>,
    /// Files that could not be read, and why.
    damaged: Mutex<BTreeMap<u64, String>>,
    watched: Mutex<Watched>,
    pub(super) space: Occupancy,
    pub(super) held: Held,
    /// Whether the worker is to leave everything alone.
    paused: AtomicBool,
    /// What made the worker wait last.
    last_error: Mutex<Option<String>>,
    /// Sum over the collections that were done.
    done: Mutex<Collected>,
}

impl Store {
    /// Collects the files of these numbers: what is live in them goes into one new file, in key order, and they
    /// are removed once nobody reads them any more.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where one of them cannot be collected, [`StoreError::Cancelled`] where somebody else
    /// has changed what this was to change. After these and after most others everything is as before.
    pub fn collect(&self, files: &[u64]) -> Result<Collected, StoreError> {
        Self::drive(self.begin_collection(files)?)
    }

    /// Begins a collection, for the caller to drive.
    pub fn begin_collection(&self, files: &[u64]) -> Result<Collection, StoreError> {
        Collection::begin(&self.shared, files)
    }

    /// Sum over all collections since the store was opened.
    #[must_use]
    pub fn collected(&self) -> Collected {
        *self.shared.collecting.done.lock()
    }
}
