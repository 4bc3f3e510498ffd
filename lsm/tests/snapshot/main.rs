//! A state goes from one store to another, and the log behind it is purged.
//!
//! Of the crashes a share is tried; `KV_CRASH_ALL=1` tries all, `KV_CRASH_AT=<operation>` one.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod crash;
mod faults;
mod install;
mod interleave;
mod node;
mod purge;
mod share;
mod transfer;
