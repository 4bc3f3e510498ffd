//! The places in the engine that do file operations, found by running it.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;

use kv_vfs::{FaultVfs, MemVfs, OpKind, Vfs};
use parking_lot::Mutex;

use crate::crash::Subject;
use crate::world::{Life, shared};

/// The engine's sources, from the root of the repository.
pub(super) const SOURCES: [&str; 4] = ["vlog/src/", "manifest/src/", "lsm/src/", "vlog/vfs/src/dirs.rs"];

/// A line of the engine that does operations of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// The source file, from the root of the repository.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// What it does.
    pub op: OpKind,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {:?}", self.file, self.line, self.op)
    }
}

/// Runs a workload; gives for each place the numbers of its operations among those of their kind.
pub(super) fn record<S: Subject>(subject: S, seed: u64) -> BTreeMap<Site, Vec<u64>> {
    watched(&MemVfs::new(), |vfs| subject.run(seed, vfs, &Life::new(S::Known::default())).unwrap())
}

/// Operations by kind and by where the thread is: their numbers among those of their kind.
type Stacks = BTreeMap<(OpKind, Vec<usize>), Vec<u64>>;

/// As [`record`], of anything.
pub(super) fn watched(disk: &MemVfs, run: impl FnOnce(&Arc<dyn Vfs>)) -> BTreeMap<Site, Vec<u64>> {
    watched_on(FaultVfs::new(shared(disk)), run)
}

/// As [`watched`], where operations fail by rules that are set already.
pub(super) fn watched_on(vfs: FaultVfs, run: impl FnOnce(&Arc<dyn Vfs>)) -> BTreeMap<Site, Vec<u64>> {
    let stacks: Arc<Mutex<Stacks>> = Arc::default();
    let seen = stacks.clone();
    vfs.observe(move |op, number| seen.lock().entry((op, stack())).or_default().push(number));
    run(&(Arc::new(vfs.clone()) as _));
    // What goes on after it is none of it.
    vfs.observe(|_, _| {});
    let mut sites: BTreeMap<Site, Vec<u64>> = BTreeMap::new();
    // Names are looked up once for each stack, not for each operation: that takes milliseconds.
    for ((op, stack), numbers) in &*stacks.lock() {
        if let Some((file, line)) = stack.iter().find_map(|ip| place(*ip)) {
            sites.entry(Site { file, line, op: *op }).or_default().extend(numbers);
        }
    }
    sites.values_mut().for_each(|numbers| numbers.sort_unstable());
    sites
}

/// Where the thread is: instruction pointers, innermost first.
fn stack() -> Vec<usize> {
    let mut stack = Vec::new();
    backtrace::trace(|frame| {
        stack.push(frame.ip() as usize);
        stack.len() < 40
    });
    stack
}

/// The innermost line of the engine at this instruction, which may have been inlined into others.
fn place(ip: usize) -> Option<(String, u32)> {
    let mut found = None;
    // A stack names where each call returns to: the call itself is before that.
    backtrace::resolve(ip.checked_sub(1)? as *mut c_void, |symbol| {
        let file = symbol.filename().map(|file| file.to_string_lossy().replace('\\', "/"));
        let file = file.and_then(|file| {
            let at = SOURCES.iter().find_map(|source| file.rfind(source))?;
            Some(file[at..].to_owned())
        });
        found = found.take().or(file.zip(symbol.lineno()));
    });
    found
}
