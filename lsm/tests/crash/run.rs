//! Runs the script until something fails, and keeps what was acknowledged.

use std::sync::Arc;

use kv_lsm::Durability;
use kv_lsm::{Applied, Db, StoreError, WriteBatch};
use kv_vfs::Vfs;
use kv_vlog::Expect;

use crate::check::contents;
use crate::history::History;
use crate::script::{Change, Step};
use crate::world::World;

/// How far a run came.
#[derive(Clone, Default)]
pub struct Run {
    pub history: History,
    /// Whether the database was ever open: before, a crash may leave nothing that can be opened.
    pub opened: bool,
    pub error: Option<Arc<StoreError>>,
}

/// Runs all steps on a disk, or those up to the first error. `watch` is called after each step, and `failed`
/// with what is open when a step has failed.
pub fn run_watched(
    vfs: &Arc<dyn Vfs>,
    script: &[Step],
    watch: &mut dyn FnMut(&Db),
    failed: &mut dyn FnMut(&Db, &StoreError, &mut History),
) -> Run {
    let mut run = Run::default();
    run.error = run.all(vfs, script, watch, failed).err().map(Arc::new);
    run
}

pub fn run(vfs: &Arc<dyn Vfs>, script: &[Step]) -> Run {
    run_watched(vfs, script, &mut |_| {}, &mut |_, _, _| {})
}

impl Run {
    fn all(
        &mut self,
        vfs: &Arc<dyn Vfs>,
        script: &[Step],
        watch: &mut dyn FnMut(&Db),
        failed: &mut dyn FnMut(&Db, &StoreError, &mut History),
    ) -> Result<(), StoreError> {
        let world = World::new(vfs);
        let mut db = world.open()?;
        self.opened = true;
        for step in script {
            match step {
                Step::Close => {
                    db.close()?;
                    self.history.acknowledge();
                    db = self.reopen(&world)?;
                }
                Step::Stop => {
                    drop(db);
                    db = self.reopen(&world)?;
                }
                step => {
                    if let Err(error) = self.step(&world, &db, step) {
                        failed(&db, &error, &mut self.history);
                        return Err(error);
                    }
                }
            }
            watch(&db);
        }
        db.close()?;
        self.history.acknowledge();
        Ok(())
    }

    /// Without a crash everything is there, acknowledged or not.
    fn reopen(&mut self, world: &World) -> Result<Db, StoreError> {
        let db = world.open()?;
        let found = contents(&db)?;
        assert!(found == *self.history.last(), "{}", self.history.explain(&found));
        Ok(db)
    }

    fn step(&mut self, world: &World, db: &Db, step: &Step) -> Result<(), StoreError> {
        match step {
            Step::Write(changes, durability) => {
                let mut batch = batch_of(changes);
                batch.durability(*durability);
                self.history.begin(changes);
                expect_done(db.write(batch)?);
                if *durability == Durability::Sync {
                    self.history.acknowledge();
                }
                self.read_back(db, changes)?;
            }
            Step::Update(changes) => {
                let (key, _) = &changes[0];
                let expect = match db.get(key)? {
                    Some(found) => Expect::Seq(found.revision),
                    None => Expect::Absent,
                };
                let mut batch = batch_of(changes);
                batch.check(key, expect);
                self.history.begin(changes);
                expect_done(db.write(batch)?);
                self.history.acknowledge();
                self.read_back(db, changes)?;
            }
            Step::Mistaken((key, value)) => {
                let is_there = self.history.last().contains_key(key);
                let mut batch = batch_of(&[(key.clone(), value.clone())]);
                batch.check(key, if is_there { Expect::Absent } else { Expect::Seq(1) });
                let applied = db.write(batch)?;
                assert!(matches!(applied, Applied::Refused { check: 0, .. }), "{applied:?}");
                // Its place in the log is durable, and with it all before.
                self.history.acknowledge();
            }
            Step::Flush => {
                db.store().flush()?;
                self.history.acknowledge();
            }
            Step::Pass(time) => world.pass(*time),
            Step::Close | Step::Stop => unreachable!("these take the database"),
        }
        Ok(())
    }

    fn read_back(&self, db: &Db, changes: &[Change]) -> Result<(), StoreError> {
        for (key, _) in changes {
            let found = db.get(key)?.map(|found| found.value);
            assert!(found.as_ref() == self.history.last().get(key), "{key:?} reads otherwise than written");
        }
        Ok(())
    }
}

fn batch_of(changes: &[Change]) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for (key, value) in changes {
        match value {
            Some(value) => batch.put(key, value.clone()),
            None => batch.delete(key),
        };
    }
    batch
}

fn expect_done(applied: Applied) {
    assert!(matches!(applied, Applied::Done { .. }), "{applied:?}");
}
