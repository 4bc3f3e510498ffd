//! The client against a fake node over real TCP.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod calls;
mod failures;
mod fake;
mod scans;
mod strangers;
