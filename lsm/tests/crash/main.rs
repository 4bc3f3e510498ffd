//! The embedded database on a disk that loses power at every operation, and whose operations fail.
//!
//! A fixed script of writes runs on an in-memory disk. What was acknowledged on the way is kept in a
//! [`history::History`]; after every crash the database must open and hold one of the states that the
//! history allows.
//!
//! Every failure prints what it was doing: the operation, what survived, the second crash. To run that
//! alone: `KV_CRASH_AT=<operation> cargo test -p kv-lsm --test crash <name of the test>`. By default a share
//! of the operations is tried; `KV_CRASH_ALL=1` tries all.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test ends where something is not as it must be"
)]

mod check;
mod coverage;
mod faults;
mod history;
mod power_loss;
mod run;
mod script;
mod share;
mod world;
