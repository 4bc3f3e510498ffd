//! What is held in memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use kv_lsm::{Environment, NewStore, Options, Store};
use kv_vfs::{ManualClock, RealVfs, SteppedExecutor};
use kv_vlog::{Entry, Payload, Position};

use super::run::put;

thread_local! {
    /// Bytes that this thread has allocated and not freed.
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// The system's allocator, which counts for each thread what it holds. A program that runs the scenarios has it
/// for its global one.
#[derive(Debug)]
pub struct Counting;

fn count(bytes: i64) {
    // A thread that ends still frees.
    let _ = HELD.try_with(|held| held.set(held.get() + bytes));
}

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call is passed on as it is; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(bytes as i64 - layout.size() as i64);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, bytes) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

fn held() -> i64 {
    HELD.with(Cell::get)
}

/// Entries of one round.
const ENTRIES: u64 = 40_000;

/// Scenario 30: Memory grows with the number of entries in a log that is not purged.
pub fn memory_grows_with_the_unpurged_log() {
    let (before, one) = (held(), vec![0u8; 1 << 20]);
    assert_eq!(held() - before, one.len() as i64, "this program does not count what it allocates");
    drop(one);
    // Files of the operating system: those in memory would be counted.
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    round(&store);
    let before = held();
    (0..3).for_each(|_| round(&store));
    let (grown, entries) = (held() - before, 3 * ENTRIES);
    assert_eq!(store.log().state().purged, None);
    eprintln!("{grown} bytes more for {entries} more entries");
    // An offset is four bytes, a key and its place many more.
    assert!(grown < entries as i64, "{grown} bytes more for {entries} more entries in the log");
    store.stop();
}

fn store(dir: &Path) -> Arc<Store> {
    let clock = Arc::new(ManualClock::default());
    let executor = Arc::new(SteppedExecutor::new(clock.clone()));
    let options = Options {
        segment_bytes: (512 << 10)..=(512 << 10),
        memtable_bytes_max: 1 << 20,
        tail_cache_bytes: 64 << 10,
        ..Options::default()
    };
    let new = NewStore { cluster_id: [3; 16], node_id: 1, incarnation: 1 };
    let environment = Environment { vfs: Arc::new(RealVfs), clock, executor };
    Store::open(&environment, dir, options, Some(new)).unwrap()
}

/// Overwrites the same few keys again and again; all of it is applied and in tables, and nothing is purged.
fn round(store: &Arc<Store>) {
    let first = store.log().state().last.map_or(0, |at| at.index + 1);
    for begin in (first..first + ENTRIES).step_by(1_000) {
        let payload = |index| match index % 100 {
            0 => Payload::Blank,
            key => put(&format!("key{key}"), 20),
        };
        let entry = |index| Entry { at: Position { term: 1, index }, time: 0, payload: payload(index) };
        let entries: Vec<Entry> = (begin..begin + 1_000).map(entry).collect();
        store.log().append(entries.clone(), Box::new(|_| {})).unwrap();
        store.log().wait_durable().unwrap();
        store.log().set_committed(begin + 1_000);
        for entry in &entries {
            store.apply(entry).unwrap();
        }
    }
    store.flush().unwrap();
}
