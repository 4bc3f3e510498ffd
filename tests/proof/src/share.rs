//! Work on all processors, and what a failure was doing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Gives each item to `f`, on as many threads as there are processors.
pub fn for_each<T: Sync>(items: &[T], f: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            f(item);
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
}

/// Says what was being done if the thread panics while it lives; the database itself may be what panics.
pub struct Doing(pub String);

impl Drop for Doing {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("while: {}", self.0);
        }
    }
}
