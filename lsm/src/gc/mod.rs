//! Value GC, decided: what each file of values holds, as pure functions of the manifest's state.
//!
//! The work itself is done by the store.

mod usage;

pub use usage::{FileUse, Standing, files, standing};
