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
#[path = "../crash/share.rs"]
mod share;
mod transfer;
