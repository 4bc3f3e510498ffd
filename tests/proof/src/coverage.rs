//! What a proof has reached: one that never saw a kind of thing proves nothing about it.

use std::collections::BTreeMap;

use kv_manifest::names::{self, FileName};
use kv_vfs::Op;
use parking_lot::Mutex;

/// How often each kind of thing was seen.
#[derive(Debug, Default)]
pub struct Coverage {
    seen: Mutex<BTreeMap<String, u64>>,
}

impl Coverage {
    /// One more of this kind.
    pub fn note(&self, what: impl Into<String>) {
        self.add(what, 1);
    }

    /// So many more of this kind.
    pub fn add(&self, what: impl Into<String>, times: u64) {
        *self.seen.lock().entry(what.into()).or_default() += times;
    }

    /// Notes a crash point: what the workload was at, who did the operation, on what kind of file.
    pub fn note_point(&self, stage: &str, worker: Option<String>, op: &Op) {
        self.note(format!("in {stage}"));
        let worker = worker.as_deref().unwrap_or("the caller");
        self.note(format!("{:?} {} by {worker}", op.kind, kind_of_file(op)));
    }

    /// Notes what opening the data has done to the disk.
    pub fn note_recovery(&self, ops: &[Op]) {
        ops.iter().for_each(|op| self.note(format!("{:?} {} while recovering", op.kind, kind_of_file(op))));
    }

    /// How often this was seen.
    #[must_use]
    pub fn count(&self, what: &str) -> u64 {
        self.seen.lock().get(what).copied().unwrap_or(0)
    }

    /// # Panics
    /// Unless each of these was seen.
    #[track_caller]
    pub fn require(&self, kinds: &[&str]) {
        let missing: Vec<_> = kinds.iter().filter(|kind| self.count(kind) == 0).collect();
        assert!(missing.is_empty(), "never reached: {missing:?}, only\n{}", self.table());
    }

    /// Everything seen, one line for each kind.
    #[must_use]
    pub fn table(&self) -> String {
        self.seen.lock().iter().map(|(what, times)| format!("{times:>9}  {what}\n")).collect()
    }
}

/// What kind of file an operation is about; by the new name, if it gives one.
fn kind_of_file(op: &Op) -> &'static str {
    let name = op.to.as_ref().unwrap_or(&op.path).file_name().and_then(|name| name.to_str());
    match name.and_then(names::parse) {
        Some(FileName::Manifest(_)) => "manifest",
        Some(FileName::Segment(_)) => "segment",
        Some(FileName::Free(_)) => "free file",
        Some(FileName::Gone(_)) => "file that goes",
        Some(FileName::Table(_)) => "table",
        Some(FileName::Current) => "CURRENT",
        Some(FileName::Temporary) => "temporary",
        Some(FileName::Lock) => "LOCK",
        None => "directory",
    }
}
