//! A disk that outlives the processes that use it, and what can happen to it.

use std::sync::Arc;

use kv_vfs::fault::{Fault, Rule, Times};
use kv_vfs::mem::Survival;
use kv_vfs::{FaultVfs, MemVfs, OpKind, Vfs};

/// More file operations than there will ever be.
const NEVER: u64 = 1 << 60;
/// Whatever changes what is on a disk.
const CHANGES: [OpKind; 10] = [
    OpKind::Create,
    OpKind::Write,
    OpKind::Sync,
    OpKind::SetLen,
    OpKind::Preallocate,
    OpKind::Rename,
    OpKind::Remove,
    OpKind::Link,
    OpKind::CreateDir,
    OpKind::SyncDir,
];

/// See the module.
#[derive(Clone, Debug)]
pub struct Disk {
    disk: MemVfs,
    /// What the process that uses it now sees of it.
    process: FaultVfs,
}

impl Disk {
    /// An empty one.
    pub fn new() -> Self {
        Self::with(MemVfs::new())
    }

    fn with(disk: MemVfs) -> Self {
        Self { process: FaultVfs::new(Arc::new(disk.clone())), disk }
    }

    /// For the process.
    pub fn vfs(&self) -> Arc<dyn Vfs> {
        Arc::new(self.process.clone())
    }

    /// The power goes before the `n`-th change from now; once gone, it does not come back.
    pub fn lose_power_after(&self, n: u64) {
        if !self.disk.is_off() {
            self.disk.stop_after(n);
        }
    }

    /// The power will not go.
    fn keep_power(&self) {
        self.lose_power_after(NEVER);
    }

    /// From the `nth` write or sync on, they fail.
    pub fn fail(&self, op: OpKind, nth: u64) {
        let (path_contains, times) = (String::new(), Times::Forever);
        self.process.fail(Rule { op, path_contains, nth, times, error: Fault::Eio });
    }

    /// What has not failed yet will not.
    pub fn mend(&self) {
        self.keep_power();
        self.process.clear();
    }

    /// Whether the power is gone.
    pub fn is_off(&self) -> bool {
        self.disk.is_off()
    }

    /// Whether a change has failed or would.
    pub fn is_bad(&self) -> bool {
        self.is_off() || self.process.failed() > 0
    }

    /// What the next process finds after a loss of power.
    pub fn after_power_loss(&self, survival: &Survival) -> Self {
        self.lose_power_after(1);
        Self::with(self.disk.crash_clone(survival))
    }

    /// What the next process finds after the death of this one, which can change nothing any more. What was
    /// not synced is not safe yet.
    pub fn after_kill(&self) -> Self {
        CHANGES.iter().for_each(|op| self.fail(*op, 1));
        Self::with(self.disk.clone())
    }
}
