//! What happened, in order: a hash of it all, and on request the lines themselves.

use std::fmt::Arguments;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3Default;

use crate::machine;

static SHOWN: AtomicBool = AtomicBool::new(false);
static TRACE: Mutex<Option<Trace>> = Mutex::new(None);

#[derive(Default)]
struct Trace {
    hash: Xxh3Default,
    events: u64,
}

/// Prints every event from now on.
pub fn show() {
    SHOWN.store(true, Ordering::Relaxed);
}

/// Takes note of an event, with its time.
pub fn event(what: Arguments<'_>) {
    let line = format!("{:>12.6} {what}\n", machine::now().as_secs_f64());
    if SHOWN.load(Ordering::Relaxed) {
        eprint!("{line}");
    }
    let mut trace = TRACE.lock();
    let trace = trace.get_or_insert_default();
    trace.hash.update(line.as_bytes());
    trace.events += 1;
}

/// How many events there were, and their hash.
pub fn digest() -> (u64, u64) {
    TRACE.lock().as_ref().map_or((0, 0), |trace| (trace.events, trace.hash.digest()))
}

/// [`event`] with a format string.
macro_rules! note {
    ($($what:tt)*) => { $crate::trace::event(format_args!($($what)*)) };
}
pub(crate) use note;
