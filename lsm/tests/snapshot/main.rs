//! A state goes from one store to another, and the log behind it is purged.
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
#[expect(dead_code, reason = "shared with the tests of crashes, which use all of it")]
#[path = "../crash/share.rs"]
mod share;
mod transfer;
