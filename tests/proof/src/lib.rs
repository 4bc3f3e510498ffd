//! Proofs of the engine on disks that lose power, fail and lie: "acknowledged means there".
//!
//! - [`crash`]: loss of power at every mutating file operation, and again during recovery;
//! - [`corruption`]: every bit flipped, every length, sectors and files in the wrong place;
//! - [`errors`]: operations that fail, at every place in the engine that does one;
//! - [`scenarios`]: what has broken other systems, each by itself;
//! - [`planted`]: bugs on purpose, for the others to find.
//!
//! What runs on the disk is a [`crash::Subject`]: the engine as a [`node`] drives it, and the [`embedded`]
//! database. Whoever adds an operation to the engine adds it to their scripts, and to
//! [`crash::Subject::REQUIRED`].
//! `docs/testing.md` says what is promised, under which faults, and how to run it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a proof ends where something is not as it must be"
)]

pub mod corruption;
pub mod coverage;
pub mod crash;
pub mod dice;
pub mod embedded;
pub mod errors;
pub mod full;
pub mod node;
pub mod planted;
pub mod scenarios;
pub mod share;
pub mod world;
