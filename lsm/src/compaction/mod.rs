//! Compaction: what to merge ([`pick`]), which versions survive ([`Retain`]), and doing it ([`run`]).
//!
//! The first two are pure; the caller records the outcome in the manifest.

mod pick;
mod retain;
mod run;

#[cfg(test)]
mod tests;

pub use pick::{Choice, PickOptions, pick};
pub use retain::{Retain, Verdict};
pub use run::{Job, run};
