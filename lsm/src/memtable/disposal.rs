//! Freeing memtables: for a million entries that takes a fifth of a second, which must not be the time of a write or a read
//! that happens to be the last to look at one.

use std::sync::Arc;

use kv_vfs::Wake;
use parking_lot::Mutex;

use super::version::Tree;

/// The entries of memtables that nobody has any more, until a worker frees them. Never more than what memtables held a
/// moment ago.
#[derive(Debug, Default)]
pub(crate) struct Disposal(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    trees: Vec<Tree>,
    /// Who frees them; `None`: whoever brings them.
    worker: Option<Arc<dyn Wake>>,
}

impl Disposal {
    /// From now on this worker is woken to call [`Disposal::free`].
    pub(crate) fn attach(&self, worker: Arc<dyn Wake>) {
        self.0.lock().worker = Some(worker);
    }

    /// The worker does not do so any more.
    pub(crate) fn detach(&self) {
        self.0.lock().worker = None;
        self.free();
    }

    /// Frees what is there.
    pub(crate) fn free(&self) {
        let trees = std::mem::take(&mut self.0.lock().trees);
        drop(trees); // nobody waits for the lock meanwhile
    }

    /// How many memtables wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().trees.len()
    }

    pub(super) fn take(&self, tree: Tree) {
        let mut state = self.0.lock();
        let Some(worker) = state.worker.clone().filter(|_| !tree.is_empty()) else { return };
        state.trees.push(tree);
        drop(state);
        worker.wake();
    }
}

#[cfg(test)]
mod tests {
    use kv_vfs::{Executor, ManualClock, Step, SteppedExecutor, Worker};

    use super::*;
    use crate::key::Slot;
    use crate::memtable::Memtable;

    struct Frees(Arc<Disposal>);

    impl Worker for Frees {
        fn step(&mut self) -> Step {
            self.0.free();
            Step::Idle
        }
    }

    /// Broken by: entries that are freed by who happens to be the last reader, or by nobody.
    #[test]
    fn the_entries_are_freed_by_the_worker_once_nobody_reads_them() {
        let executor = SteppedExecutor::new(Arc::new(ManualClock::default()));
        let disposal = Arc::new(Disposal::default());
        disposal.attach(executor.spawn("frees", Box::new(Frees(disposal.clone()))));
        executor.run_until_idle();
        let waiting = || disposal.waiting();
        let memtable = Arc::new(Memtable::with(&disposal));
        memtable.insert(b"key", 1, Slot::Tombstone);
        let cursor = memtable.cursor();
        drop(memtable);
        assert_eq!(waiting(), 0, "it is still read");
        drop(cursor);
        assert_eq!(waiting(), 1);
        executor.run_until_idle();
        assert_eq!(waiting(), 0);

        let late = Memtable::with(&disposal);
        late.insert(b"key", 1, Slot::Tombstone);
        disposal.detach();
        drop(late);
        assert_eq!(waiting(), 0, "nobody would free it");
    }
}
