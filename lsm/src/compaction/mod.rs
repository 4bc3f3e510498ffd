//! Compaction: what to merge ([`pick`]), who may do it beside whom ([`Claim`]), how it is cut into parts
//! ([`split`]), which versions survive ([`Retain`]), and doing it ([`Merge`]).
//!
//! All but the last are pure; the caller records the outcome in the manifest.

mod claim;
mod horizon;
mod outputs;
mod pick;
mod pressure;
mod range;
mod retain;
mod run;
mod shape;
mod situation;
mod split;

#[cfg(test)]
mod tests;

pub use claim::Claim;
pub use horizon::Horizon;
pub use outputs::{Grandparent, Made};
pub use pick::{Choice, Why, Work, is_satisfied, pick};
pub use pressure::{Limits, Load, pause, pressure, space_pause};
pub use range::{KeyRange, RangeSet};
pub use retain::{Retain, Verdict};
pub use run::{Job, Merge, Numbers, Resolve};
pub use shape::{LEVELS, Shape, value_bytes, weight};
pub use situation::{PickOptions, Situation, TableState, Wanted};
pub use split::split;
