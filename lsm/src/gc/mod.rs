//! Value GC, decided: what each file of values holds, which files are collected next and why others are not, as pure
//! functions of the manifest's state and a few figures.
//!
//! The work itself is done by the store.

mod audit;
mod decide;
mod footprint;
mod plan;
mod policy;
mod usage;

pub use audit::{Counted, Live, Miscount, audit};
pub use decide::{
    Bounds, Candidate, Decision, Obstacle, Priority, VALUES_MAX, Verdict, decide, garbage_ratio, priority,
};
pub(crate) use footprint::unflushed_bytes;
pub use footprint::{Footprint, at_rest, hurried};
pub use plan::Plan;
pub use policy::GcOptions;
pub use usage::{FileUse, Standing, files, standing};
