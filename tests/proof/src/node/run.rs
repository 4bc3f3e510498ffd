//! Runs a script on a node, and keeps what was asked for and what was acknowledged.

use std::sync::Arc;

use bytes::Bytes;
use kv_lsm::{ExportRecord, ExportValue, Store, StoreError};
use kv_manifest::Manifest;
use kv_vfs::{ManualClock, Vfs};
use kv_vlog::{Callback, Entry, Expiry, Payload, Position, Vote};

use super::check::{compare, contents, explain};
use super::model::{Contents, Model, Request, entry};
use super::script::{Step, payload, script, stored};
use super::{Node, Opened};
use crate::coverage::Coverage;
use crate::crash::Subject;
use crate::dice::Dice;
use crate::world::{Life, dir, options};

/// Runs all steps of a seed on an empty disk, or those up to the first error.
pub fn run(seed: u64, vfs: &Arc<dyn Vfs>, life: &Arc<Life<Model>>) -> Result<(), StoreError> {
    let mut opened = Node.open(vfs, life)?;
    for step in script(&mut Dice(seed)) {
        opened = match step {
            Step::Close => {
                close(opened, life)?;
                reopen(vfs, life)?
            }
            Step::Stop => {
                life.enter("stop");
                opened.store.stop();
                drop(opened);
                reopen(vfs, life)?
            }
            Step::Rewrite => {
                close(opened, life)?;
                life.enter("rewrite");
                Manifest::open(vfs.clone(), Arc::new(ManualClock::default()), dir())?.rewrite()?;
                reopen(vfs, life)?
            }
            step => {
                let driver = Driver { store: &opened.store, life };
                if let Err(error) = driver.step(step) {
                    driver.after_failure();
                    opened.store.stop();
                    return Err(error);
                }
                opened
            }
        };
    }
    close(opened, life)
}

fn compare_what_can_be_read(store: &Store, life: &Life<Model>) -> Result<(), StoreError> {
    let applied = store.applied().map_or(0, |at| at.index + 1);
    let (found, expected) = (contents(store)?, life.known().log().contents(applied));
    assert!(found == expected, "after a failure: {}", explain(&found, &expected));
    Ok(())
}

fn close(opened: Opened, life: &Life<Model>) -> Result<(), StoreError> {
    life.enter("close");
    opened.store.close()
}

/// Without a crash everything is there, acknowledged or not.
fn reopen(vfs: &Arc<dyn Vfs>, life: &Arc<Life<Model>>) -> Result<Opened, StoreError> {
    life.enter("open");
    let expected = life.known().log();
    let opened = Node.open(vfs, life)?;
    compare(&opened.store, life, &Coverage::default())?;
    assert!(life.known().log() == expected, "entries or the vote are missing after a close");
    Ok(opened)
}

/// After a crash: a new leader voids some, appends, commits all; then a flush, a purge, a close and an open.
pub fn go_on(opened: Opened, vfs: &Arc<dyn Vfs>, life: &Arc<Life<Model>>, seed: u64) {
    let mut dice = Dice(seed);
    let driver = Driver { store: &opened.store, life };
    let entries = (0..3).map(|_| payload(&mut dice)).collect();
    let mut steps = vec![Step::Vote, Step::NewLeader(dice.below(3)), Step::Append(entries)];
    steps.extend([Step::Sync, Step::Commit(u64::MAX), Step::Flush, Step::Purge(dice.below(3))]);
    for step in steps {
        driver.step(step).unwrap();
    }
    close(opened, life).unwrap();
    let opened = reopen(vfs, life).unwrap();
    assert_eq!(opened.store.torn_tail(), None, "after a clean close");
    assert_eq!(opened.store.applied().map_or(0, |at| at.index + 1), life.known().committed);
    opened.store.stop();
}

/// What a peer with these contents sends.
pub fn records_of(contents: &Contents) -> Vec<ExportRecord> {
    let record = |(key, (seq, value, expires)): (&Bytes, &(u64, Bytes, Expiry))| {
        let is_inline = (value.len() as u64) < options().separate_bytes_min;
        let value = if is_inline {
            ExportValue::Inline(value.clone(), *expires)
        } else {
            ExportValue::Stored(stored(key, value.clone(), *expires))
        };
        ExportRecord { key: key.clone(), seq: *seq, value }
    };
    contents.iter().map(record).collect()
}

struct Driver<'a> {
    store: &'a Store,
    life: &'a Arc<Life<Model>>,
}

impl Driver<'_> {
    fn step(&self, step: Step) -> Result<(), StoreError> {
        let log = self.store.log();
        match step {
            Step::Append(payloads) => {
                self.life.enter("append");
                payloads.into_iter().try_for_each(|payload| self.append(payload))?;
            }
            Step::Sync => {
                self.life.enter("append");
                log.wait_durable()?;
            }
            Step::Commit(more) => {
                self.life.enter("apply");
                self.commit(more)?;
            }
            Step::Vote => {
                self.life.enter("vote");
                let term = self.next_term();
                let vote = Vote { term, node: Some(term % 3), committed: false };
                log.save_vote(vote, self.ask(Request::Vote(vote)))?;
            }
            Step::NewLeader(void) => {
                self.life.enter("truncate");
                self.new_leader(void)?;
            }
            Step::Flush => {
                self.life.enter("flush");
                self.store.flush()?;
                self.life.known().flushed = self.store.applied().map_or(0, |at| at.index + 1);
            }
            Step::Purge(keep) => {
                self.life.enter("purge");
                self.purge(keep)?;
            }
            Step::Install(payloads) => {
                self.life.enter("install");
                self.install(payloads)?;
            }
            Step::Pass(time) => self.life.pass(time),
            Step::Close | Step::Stop | Step::Rewrite => unreachable!("these take the store"),
        }
        Ok(())
    }

    /// After a failure another write must be refused, or stay; and what can be read must be what was written.
    fn after_failure(&self) {
        let log = self.store.log();
        if log.check().is_err() {
            let index = log.state().last.map_or(0, |at| at.index + 1);
            let entry = Entry { at: Position { term: u64::MAX, index }, time: 0, payload: Payload::Blank };
            log.append(vec![entry], Box::new(|_| {})).unwrap_err();
            // An installation may be there or not: the next open tells.
            if !self.life.known().is_installing() {
                let _ = compare_what_can_be_read(self.store, self.life);
            }
            return self.life.note_refused(true);
        }
        // What failed without stopping the store has changed nothing.
        self.life.known().withdraw_install();
        let _ = compare_what_can_be_read(self.store, self.life);
        let written = self.append(Payload::Blank).and_then(|()| Ok(self.store.log().wait_durable()?));
        self.life.note_refused(written.is_err());
    }

    fn next_term(&self) -> u64 {
        let mut known = self.life.known();
        known.term += 1;
        known.term
    }

    /// Notes what is asked for; the callback notes that it is acknowledged.
    fn ask(&self, request: Request) -> Callback {
        let number = self.life.known().ask(request);
        let life = self.life.clone();
        Box::new(move |result| {
            if result.is_ok() {
                life.known().acknowledge(number);
            }
        })
    }

    fn append(&self, payload: Payload) -> Result<(), StoreError> {
        let (term, index) = {
            let known = self.life.known();
            (known.term, known.log().entries.len() as u64)
        };
        let entry = entry(Position { term, index }, payload);
        let acknowledge = self.ask(Request::Append(Arc::new(entry.clone())));
        Ok(self.store.log().append(vec![entry], acknowledge)?)
    }

    fn commit(&self, more: u64) -> Result<(), StoreError> {
        let log = self.life.known().log();
        let next = {
            let mut known = self.life.known();
            known.committed = known.committed.saturating_add(more).min(log.entries.len() as u64);
            known.committed
        };
        self.store.log().set_committed(next);
        let applied = self.store.applied().map_or(0, |at| at.index + 1);
        for index in applied..next {
            let entries = self.store.log().entries(index..index + 1, 0, false)?;
            assert_eq!(entries.len(), 1, "entry {index}");
            for entry in entries {
                self.store.apply(&entry)?;
            }
        }
        let (found, expected) = (contents(self.store)?, log.contents(next));
        assert!(found == expected, "{}", explain(&found, &expected));
        Ok(())
    }

    fn new_leader(&self, void: u64) -> Result<(), StoreError> {
        let term = self.next_term();
        let vote = Vote { term, node: Some(term % 3), committed: true };
        self.store.log().save_vote(vote, self.ask(Request::Vote(vote)))?;
        let next = {
            let known = self.life.known();
            known.committed.max((known.log().entries.len() as u64).saturating_sub(void))
        };
        // What it appends comes later, so that a crash may find the truncation alone.
        Ok(self.store.log().truncate(next, self.ask(Request::Truncate(next)))?)
    }

    /// The new leader's log is what is committed, and these behind it, so many that the log here is shorter.
    fn install(&self, payloads: Vec<Payload>) -> Result<(), StoreError> {
        let term = self.next_term();
        let (mut log, committed) = {
            let known = self.life.known();
            (known.log(), known.committed)
        };
        let voided = log.entries.len() as u64 - committed;
        log.entries.truncate(committed as usize);
        let blank = (0..voided).map(|_| Payload::Blank);
        for (index, payload) in (committed..).zip(payloads.into_iter().chain(blank)) {
            log.entries.push(Arc::new(entry(Position { term, index }, payload)));
        }
        let next = log.entries.len() as u64;
        let records = records_of(&log.contents(next));
        // A transfer that ends half-way leaves nothing.
        let mut half = self.store.receive()?;
        records.iter().take(records.len() / 2).try_for_each(|record| half.add(record.clone()))?;
        drop(half);
        let mut whole = self.store.receive()?;
        records.into_iter().try_for_each(|record| whole.add(record))?;
        let number = {
            let mut known = self.life.known();
            known.purging = next;
            known.ask(Request::Install(Arc::new(log.entries.clone())))
        };
        let at = Position { term: log.entries[next as usize - 1].at.term, index: next - 1 };
        assert!(
            self.store.install(whole, at, log.time(next), log.membership(next))?,
            "{at:?} was applied here already"
        );
        let mut known = self.life.known();
        known.acknowledge(number);
        (known.purged, known.flushed, known.committed) = (next, next, next);
        Ok(())
    }

    fn purge(&self, keep: u64) -> Result<(), StoreError> {
        let log = self.life.known().log();
        let flushed = self.store.flushed().map_or(0, |at| at.index + 1);
        let next = flushed.saturating_sub(keep);
        if next <= self.life.known().purging {
            return Ok(());
        }
        self.life.known().purging = next;
        self.store.purge(log.entries[next as usize - 1].at)?;
        self.life.known().purged = next;
        Ok(())
    }
}
