//! What `bench` writes and reads, and what it measures.

pub mod report;
pub mod shuffle;
pub mod values;
