//! The embedded database: batches, conditions, writes that nobody waits for.
//!
//! What was acknowledged on the way is kept in a [`history::History`]; a crash must leave one of the states
//! that it allows.

mod check;
mod history;
mod run;
mod script;

use std::sync::Arc;

use kv_lsm::{Db, StoreError};
use kv_vfs::{MemVfs, Vfs};

use crate::coverage::Coverage;
use crate::crash::{Known, Subject};
use crate::world::{Life, dir, shared};
pub use check::contents;
pub use history::{Contents, History};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Embedded;

impl Known for History {
    fn under_way(&self, note: &mut dyn FnMut(&str)) {
        if self.states() > 1 {
            note("a write");
        }
    }
}

impl Subject for Embedded {
    const NAME: &'static str = "embedded";
    const REQUIRED: &'static [&'static str] = &[
        "a write under way",
        "Create segment by vlog-writer",
        "Rename segment by vlog-writer",
        "Rename segment while recovering",
        "Sync segment by vlog-writer",
        "Sync table by flusher",
        "Sync table by compactor",
        "Remove table by compactor",
        "in close",
        "in compact_range",
        "in gc",
        "torn tail",
        "Create table while recovering",
        "Remove table while recovering",
        "Remove segment while recovering",
    ];
    type Known = History;
    type Opened = Db;

    fn run(self, seed: u64, vfs: &Arc<dyn Vfs>, life: &Arc<Life<History>>) -> Result<(), StoreError> {
        run::run(seed, vfs, life)
    }

    fn open(self, vfs: &Arc<dyn Vfs>, life: &Arc<Life<History>>) -> Result<Db, StoreError> {
        Db::open_in(&life.environment(vfs), dir(), life.options())
    }

    fn compare(self, opened: &Db, life: &Arc<Life<History>>, coverage: &Coverage) {
        let found = contents(opened).unwrap();
        let mut history = life.known();
        assert!(history.settle(&found), "{}", history.explain(&found));
        if opened.store().torn_tail().is_some() {
            coverage.note("torn tail");
        }
    }

    fn go_on(self, opened: Db, disk: &MemVfs, life: &Arc<Life<History>>, seed: u64) {
        run::go_on(opened, &shared(disk), life, seed);
    }

    fn stop(self, opened: Db) {
        drop(opened);
    }
}
