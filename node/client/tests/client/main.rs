//! The client against a fake node over real TCP.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod calls;
mod failures;
mod fake;
mod scans;
mod strangers;
