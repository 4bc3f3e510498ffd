//! Compaction of a whole database: many levels, several at once, idle, on demand, in time.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test helpers may panic")]

mod crash;
mod jobs;
mod model;
mod parallel;
mod upkeep;
mod world;
