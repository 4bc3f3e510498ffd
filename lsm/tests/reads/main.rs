//! Iterators where reads fail, values that are read by several threads or kept in memory, checkpoints where the power goes
//! or others write, and what the store says of itself.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod checkpoint;
mod faults;
mod parallel;
mod stats;
mod values;
mod world;
