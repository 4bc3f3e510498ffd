//! Runs the script until something fails, and keeps what was acknowledged.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kv_lsm::{Applied, Db, Durability, ScanRange, StoreError, WriteBatch};
use kv_vfs::Vfs;
use kv_vlog::Expect;

use super::Embedded;
use super::check::contents;
use super::history::History;
use super::script::{Change, Step, script};
use crate::crash::Subject;
use crate::dice::{Dice, key};
use crate::world::Life;

/// Runs all steps of a seed on a disk, or those up to the first error.
pub fn run(seed: u64, vfs: &Arc<dyn Vfs>, life: &Arc<Life<History>>) -> Result<(), StoreError> {
    let mut db = Embedded.open(vfs, life)?;
    for step in script(seed) {
        db = match step {
            Step::Close => {
                close(db, life)?;
                reopen(vfs, life)?
            }
            Step::Stop => {
                life.enter("stop");
                drop(db);
                reopen(vfs, life)?
            }
            step => {
                let driver = Driver { db: &db, life };
                driver.step(&step).inspect_err(|_| driver.after_failure())?;
                db
            }
        };
    }
    close(db, life)
}

fn close(db: Db, life: &Life<History>) -> Result<(), StoreError> {
    life.enter("close");
    db.close()?;
    life.known().acknowledge();
    Ok(())
}

/// Without a crash everything is there, acknowledged or not.
fn reopen(vfs: &Arc<dyn Vfs>, life: &Arc<Life<History>>) -> Result<Db, StoreError> {
    life.enter("open");
    let db = Embedded.open(vfs, life)?;
    let found = contents(&db)?;
    let history = life.known();
    assert!(found == *history.last(), "{}", history.explain(&found));
    drop(history);
    Ok(db)
}

/// After a crash: another write, a close and an open.
pub fn go_on(db: Db, vfs: &Arc<dyn Vfs>, life: &Arc<Life<History>>, seed: u64) {
    let value = Dice(seed).value();
    let write = Step::Write(vec![(Bytes::from("after"), Some(value))], Durability::Sync);
    Driver { db: &db, life }.step(&write).unwrap();
    close(db, life).unwrap();
    let db = reopen(vfs, life).unwrap();
    assert_eq!(db.store().torn_tail(), None, "after a clean close");
}

struct Driver<'a> {
    db: &'a Db,
    life: &'a Arc<Life<History>>,
}

impl Driver<'_> {
    fn step(&self, step: &Step) -> Result<(), StoreError> {
        let db = self.db;
        match step {
            Step::Write(changes, durability) => {
                self.life.enter("write");
                let mut batch = batch_of(changes);
                batch.durability(*durability);
                self.life.known().begin(changes);
                expect_done(db.write(batch)?);
                if *durability == Durability::Sync {
                    self.life.known().acknowledge();
                }
                self.read_back(changes)?;
            }
            Step::Update(changes) => {
                let (key, _) = &changes[0];
                let expect = match db.get(key)? {
                    Some(found) => Expect::Seq(found.revision),
                    None => Expect::Absent,
                };
                let mut batch = batch_of(changes);
                batch.check(key, expect);
                self.life.known().begin(changes);
                expect_done(db.write(batch)?);
                self.life.known().acknowledge();
                self.read_back(changes)?;
            }
            Step::Mistaken((key, value)) => {
                let is_there = self.life.known().last().contains_key(key);
                let mut batch = batch_of(&[(key.clone(), value.clone())]);
                batch.check(key, if is_there { Expect::Absent } else { Expect::Seq(1) });
                let applied = db.write(batch)?;
                assert!(matches!(applied, Applied::Refused { check: 0, .. }), "{applied:?}");
                // Its place in the log is durable, and with it all before.
                self.life.known().acknowledge();
            }
            Step::Flush => {
                self.life.enter("flush");
                db.store().flush()?;
                self.life.known().acknowledge();
            }
            Step::Compact(from, to) => {
                self.life.enter("compact_range");
                db.store().compact_range(&ScanRange { from: key(*from), to: Some(key(*to)) })?;
                self.life.known().acknowledge();
            }
            Step::Collect => {
                // Nobody reads the log of this database: with time it is given up, but for its end.
                self.life.pass(Duration::from_secs(2));
                self.life.enter("gc");
                match db.store().gc_run() {
                    Ok(_) | Err(StoreError::Cancelled(_)) => {}
                    Err(error) => return Err(error),
                }
                self.life.enter("write");
            }
            Step::Checkpoint(number) => {
                self.life.enter("checkpoint");
                db.checkpoint(Path::new(&format!("/above/copy{number}")))?;
                self.life.known().acknowledge();
                self.life.enter("write");
            }
            Step::Pass(time) => self.life.pass(*time),
            Step::Close | Step::Stop => unreachable!("these take the database"),
        }
        Ok(())
    }

    /// After a failure another write must be refused, or stay. A refused one must leave nothing: the history
    /// does not know it. What can be read must be what was written.
    fn after_failure(&self) {
        let key = Bytes::from("late");
        match self.db.put(&key, "late") {
            Ok(_) => {
                self.life.known().begin(&[(key, Some("late".into()))]);
                self.life.known().acknowledge();
                self.life.note_refused(false);
            }
            Err(StoreError::Poisoned { .. }) => {
                // After a copy that failed the database goes on: this write has failed by itself, and may be there.
                if self.life.stage() == "checkpoint" {
                    self.life.known().begin(&[(key, Some("late".into()))]);
                }
                self.life.note_refused(true);
            }
            Err(error) => panic!("not said to be stopped: {error}"),
        }
        if let Ok(found) = contents(self.db) {
            let history = self.life.known();
            assert!(history.allows(&found), "after a failure: {}", history.explain(&found));
        }
    }

    fn read_back(&self, changes: &[Change]) -> Result<(), StoreError> {
        for (key, _) in changes {
            let found = self.db.get(key)?.map(|found| found.value);
            assert!(
                found.as_ref() == self.life.known().last().get(key),
                "{key:?} reads otherwise than written"
            );
        }
        Ok(())
    }
}

fn batch_of(changes: &[Change]) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for (key, value) in changes {
        match value {
            // Longer than any script takes: that there is an end to it is all that counts here.
            Some(value) if value.len() % 3 == 0 => {
                batch.put_for(key, value.clone(), Duration::from_secs(3_600))
            }
            Some(value) => batch.put(key, value.clone()),
            None => batch.delete(key),
        };
    }
    batch
}

fn expect_done(applied: Applied) {
    assert!(matches!(applied, Applied::Done { .. }), "{applied:?}");
}
