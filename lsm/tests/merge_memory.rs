//! A merge takes no more memory for longer inputs. Alone in its process: it counts what is allocated.
#![expect(clippy::unwrap_used, unsafe_code, reason = "a test; an allocator cannot be written otherwise")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use kv_lsm::compaction::{Job, Merge, RangeSet};
use kv_lsm::key::Slot;
use kv_lsm::table::{TableIdentity, TableOptions, TableReader, TableWriter};
use kv_vfs::{RealVfs, Vfs};

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: all is left to the system's allocator; the counters touch no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn identity(table_id: u64) -> TableIdentity {
    TableIdentity { cluster_id: [7; 16], incarnation: 1, group_id: 0, table_id }
}

fn table(vfs: &Arc<dyn Vfs>, dir: &Path, id: u64, keys: u64) -> Arc<TableReader> {
    let options = TableOptions::default();
    let mut writer = TableWriter::create(vfs, dir, &identity(id), &options).unwrap();
    let mut noise = id;
    for key in 0..keys {
        let value: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (noise >> 56) as u8
        })
        .take(100)
        .collect();
        writer
            .add(
                &(key * 2 + id % 2).to_be_bytes(),
                id,
                &Slot::Inline(Bytes::from(value), kv_lsm::Expiry::NEVER),
            )
            .unwrap();
    }
    let summary = writer.finish().unwrap();
    TableReader::open(vfs, dir, &identity(id), summary.bytes).unwrap()
}

/// The most that was allocated while three tables of so many keys were merged, and the tables that came out.
fn merge(keys: u64) -> (usize, usize) {
    let dir = tempfile::tempdir().unwrap();
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let job = Job {
        inputs: (1..=3).map(|id| table(&vfs, dir.path(), id, keys)).collect(),
        from: None,
        to: None,
        horizon: kv_lsm::compaction::Horizon::default(),
        older: RangeSet::default(),
        table_bytes: 256 << 10,
        grandparents: Vec::new(),
        grandparent_bytes_max: u64::MAX,
        cause: "compact".into(),
    };
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let mut next = 10;
    let numbers = Box::new(move || {
        next += 1;
        identity(next)
    });
    let stay = Box::new(|pointer: &kv_lsm::key::ValuePointer| *pointer);
    let mut merge = Merge::start(&vfs, dir.path(), job, &TableOptions::default(), numbers, stay).unwrap();
    while merge.advance(1000).unwrap() {}
    let made = merge.finish().unwrap();
    (MOST.load(Ordering::Relaxed) - before, made.tables().len())
}

#[test]
fn a_merge_takes_no_more_memory_for_longer_inputs() {
    let (short, few) = merge(10_000);
    let (long, many) = merge(100_000);
    assert!(many >= 8 * few && few > 2, "{few} and {many} tables");
    // What is known of each output stays until all are recorded.
    assert!(long < 2 * short, "{short} bytes for short inputs, {long} for ten times as long ones");
    assert!(long < 4 << 20, "{long} bytes");
}
