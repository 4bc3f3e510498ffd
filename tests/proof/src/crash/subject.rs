//! What is run on the disk.

use std::sync::Arc;

use kv_lsm::StoreError;
use kv_vfs::{MemVfs, Vfs};

use crate::coverage::Coverage;
use crate::world::Life;

/// What is known of the data: what was asked for, and what of that was acknowledged.
pub trait Known: Clone + Default + Send + 'static {
    /// Names what was asked for and is not acknowledged.
    fn under_way(&self, note: &mut dyn FnMut(&str));
}

/// A program that keeps data.
pub trait Subject: Copy + Send + Sync + 'static {
    /// What it is called in messages.
    const NAME: &'static str;
    /// What its workloads must have reached: see [`Coverage::note_point`] and [`Known::under_way`].
    const REQUIRED: &'static [&'static str];
    /// See [`Known`].
    type Known: Known;
    /// Its open data.
    type Opened;

    /// Runs the workload of this seed on an empty disk. Everything is known before it is asked for, and
    /// acknowledged only once the program has said so. After an error it tries one more write, and notes
    /// whether that was refused ([`Life::note_refused`]).
    fn run(self, seed: u64, vfs: &Arc<dyn Vfs>, life: &Arc<Life<Self::Known>>) -> Result<(), StoreError>;

    /// Opens what is on the disk.
    fn open(self, vfs: &Arc<dyn Vfs>, life: &Arc<Life<Self::Known>>) -> Result<Self::Opened, StoreError>;

    /// Panics unless the data is what may be there; from then on nothing but that may be.
    fn compare(self, opened: &Self::Opened, life: &Arc<Life<Self::Known>>, coverage: &Coverage);

    /// Goes on with the data: changes it, closes it, opens it again; panics unless all is there then.
    fn go_on(self, opened: Self::Opened, disk: &MemVfs, life: &Arc<Life<Self::Known>>, seed: u64);

    /// Ends the process without a clean close.
    fn stop(self, opened: Self::Opened);
}
