//! Repair: what is whole comes over as it is, what is damaged as far as it can be read, and the rest is named.
#![expect(clippy::disallowed_methods, reason = "tests damage files behind the engine's back")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

mod damaged;
mod faults;
mod fixture;
mod log;
mod whole;
