//! Iterators where reads fail, values that are read by several threads, and checkpoints where the power goes or
//! others write.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod checkpoint;
mod faults;
mod parallel;
mod world;
