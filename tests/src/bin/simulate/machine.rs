//! Time and randomness of the whole process: what the C library would ask the kernel is answered here.
//!
//! Every clock shows a number that moves only when the reactor has nothing left to do before its next timer:
//! `epoll_wait` does not wait, it moves the number. That holds for the node, for tokio and for every library
//! under them, none of which knows. One process is one simulation, on one thread.
#![expect(unsafe_code, reason = "stands in for functions of the C library")]
#![cfg_attr(test, expect(dead_code, reason = "unit tests run on the real clock"))]

use std::ffi::{c_int, c_long, c_uint, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// 2026-01-01, in seconds since 1970.
const EPOCH_S: u64 = 1_767_225_600;
/// What the monotonic clock shows at first: libraries subtract from it.
const START_NS: u64 = 1_000_000_000_000;
const REALTIME: c_int = 0;
#[cfg(target_arch = "x86_64")]
const EPOLL_PWAIT: c_long = 281;
#[cfg(target_arch = "aarch64")]
const EPOLL_PWAIT: c_long = 22;

static NOW_NS: AtomicU64 = AtomicU64::new(START_NS);
static RANDOM: AtomicU64 = AtomicU64::new(0);

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanos: i64,
}

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

/// Seeds what the process takes for randomness of the system.
pub fn seed(seed: u64) {
    RANDOM.store(seed, Ordering::Relaxed);
}

/// Time since the simulation began.
pub fn now() -> Duration {
    Duration::from_nanos(NOW_NS.load(Ordering::Relaxed) - START_NS)
}

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int {
    let now = NOW_NS.load(Ordering::Relaxed);
    let (seconds, nanos) = (now / 1_000_000_000, now % 1_000_000_000);
    let seconds = if clock == REALTIME { seconds + EPOCH_S } else { seconds };
    // SAFETY: the caller gives a place for the time, as the C function demands.
    unsafe { time.write(Timespec { seconds: seconds as i64, nanos: nanos as i64 }) };
    0
}

#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    for at in 0..length {
        // SAFETY: the caller gives `length` bytes to write to.
        unsafe { buffer.cast::<u8>().add(at).write(splitmix() as u8) };
    }
    length as isize
}

fn splitmix() -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut z = RANDOM.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The reactor is idle until `timeout_ms` from now: then it is that time.
#[cfg_attr(not(test), unsafe(no_mangle))]
extern "C" fn epoll_wait(epoll: c_int, events: *mut c_void, events_max: c_int, timeout_ms: c_int) -> c_int {
    // A task may have woken the reactor meanwhile; there is nothing else it could hear of.
    let none = std::ptr::null::<c_void>();
    // SAFETY: the arguments are those of the caller, for the system call that the C function makes.
    let ready = unsafe { syscall(EPOLL_PWAIT, epoll, events, events_max, 0 as c_int, none, 8usize) };
    if ready == 0 && timeout_ms < 0 {
        eprintln!("simulate: nothing is left that could ever happen: a lost wake-up");
        std::process::abort();
    }
    if ready == 0 {
        NOW_NS.fetch_add(u64::from(timeout_ms.unsigned_abs()) * 1_000_000, Ordering::Relaxed);
    }
    ready as c_int
}
