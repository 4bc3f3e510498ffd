//! What a damaged directory must come to.

use std::path::PathBuf;

use kv_lsm::offline;
use kv_lsm::{ScanRange, Store, StoreError};
use kv_vfs::{MemVfs, Survival};
use kv_vlog::VlogError;

use super::fixture::Fixture;
use crate::world::{dir, shared};

/// How it was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Verdict {
    /// The directory does not open.
    Refused = 0,
    /// It opens, and reading what is damaged gives an error.
    Noticed = 1,
    /// All is there: the damage hit what nobody needs.
    NoEffect = 2,
}

/// Opens the directory and reads everything: each thing is what was written, or an error that says what the
/// damage is. Else says what is wrong with that.
pub(super) fn judge(fixture: &Fixture, disk: &MemVfs, damaged: &[PathBuf]) -> Result<Verdict, String> {
    let untouched = disk.crash_clone(&Survival::Everything);
    let errors = match fixture.open(disk) {
        Err(error) => {
            check_message(&error, damaged)?;
            check_tool(&untouched, damaged)?;
            return Ok(Verdict::Refused);
        }
        Ok(store) => {
            let read = Reading { fixture, store: &store }.everything();
            store.stop();
            read?
        }
    };
    errors.iter().try_for_each(|error| check_message(error, damaged))?;
    if errors.is_empty() {
        return Ok(Verdict::NoEffect);
    }
    check_tool(&untouched, damaged)?;
    Ok(Verdict::Noticed)
}

/// An error is for somebody who has to do something about it.
fn check_message(error: &StoreError, damaged: &[PathBuf]) -> Result<(), String> {
    let text = error.to_string();
    let names = |path: &PathBuf| path.file_name().is_some_and(|name| text.contains(&*name.to_string_lossy()));
    let checks = [
        (error.is_damage(), "is not called damage"),
        (damaged.iter().any(names), "does not name the file"),
        (text.contains("kvadmin"), "does not say what helps"),
    ];
    match checks.iter().find(|(holds, _)| !holds) {
        Some((_, why)) => Err(format!("the error {why}: {text}")),
        None => Ok(()),
    }
}

/// The tool that the error names must find something, too.
fn check_tool(disk: &MemVfs, damaged: &[PathBuf]) -> Result<(), String> {
    let report =
        offline::check(&shared(disk), dir(), &|_| {}).map_err(|e| format!("the check fails: {e}"))?;
    let named = |problem: &offline::Problem| damaged.iter().any(|path| path.ends_with(&problem.file));
    if report.problems.iter().any(named) {
        return Ok(());
    }
    Err(format!("the check does not name the file: {:?}, {:?}", report.problems, report.notes))
}

struct Reading<'a> {
    fixture: &'a Fixture,
    store: &'a Store,
}

impl Reading<'_> {
    /// The errors met; or what was read and is not what was written.
    fn everything(&self) -> Result<Vec<StoreError>, String> {
        let mut errors = Vec::new();
        self.keys(&mut errors)?;
        self.scan(&mut errors)?;
        self.log(&mut errors)?;
        Ok(errors)
    }

    fn keys(&self, errors: &mut Vec<StoreError>) -> Result<(), String> {
        for (key, (revision, value, _)) in &self.fixture.contents {
            match self.store.get(key, None) {
                Ok(Some(found)) if (found.revision, &found.value) == (*revision, value) => {}
                Ok(found) => return Err(format!("{key:?} reads as {:?}", found.map(|found| found.revision))),
                Err(error) => errors.push(error),
            }
            let (from, to) = (value.len() / 3, value.len() / 2);
            match self.store.get(key, Some(from as u64..to as u64)) {
                Ok(Some(found)) if found.value == value.slice(from..to) => {}
                Ok(_) => return Err(format!("a part of {key:?} reads otherwise")),
                Err(error) => errors.push(error),
            }
        }
        Ok(())
    }

    fn scan(&self, errors: &mut Vec<StoreError>) -> Result<(), String> {
        let mut keys = self.fixture.contents.keys();
        let scan = match self.store.scan(ScanRange::default()) {
            Ok(scan) => scan,
            Err(error) => {
                errors.push(error);
                return Ok(());
            }
        };
        for item in scan {
            match item {
                Ok(item) if keys.next() == Some(&item.key) => {}
                Ok(item) => return Err(format!("the scan has {:?} where another key comes", item.key)),
                // It ends there: nobody takes what came until now for all.
                Err(error) => {
                    errors.push(error);
                    return Ok(());
                }
            }
        }
        match keys.next() {
            None => Ok(()),
            Some(missing) => Err(format!("the scan leaves out {missing:?} and what follows")),
        }
    }

    fn log(&self, errors: &mut Vec<StoreError>) -> Result<(), String> {
        let log = self.store.log();
        if (log.state(), log.vote()) != (self.fixture.state, self.fixture.vote) {
            return Err(format!("the log is {:?} with vote {:?}", log.state(), log.vote()));
        }
        for entry in &self.fixture.entries {
            let index = entry.at.index;
            match log.entries(index..index + 1, 0, true) {
                Ok(found) if found == std::slice::from_ref(entry) => {}
                Ok(_) => return Err(format!("entry {index} reads otherwise")),
                Err(error @ VlogError::Corruption { .. }) => errors.push(error.into()),
                Err(error) => return Err(format!("entry {index}: {error}")),
            }
        }
        Ok(())
    }
}
