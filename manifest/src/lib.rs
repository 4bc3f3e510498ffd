//! The log of change-sets that says what exists.
//!
//! A data directory holds tables, segments and this: a file of change-sets, each of which adds, moves and
//! removes tables and segments all at once, and a file `CURRENT` that names it. Folded in order they give
//! the [`State`]. A file that the state does not know is no part of the data; one that it knows must be
//! there.
//!
//! The crate stores plain ids, bounds and counts. It opens no table and no segment, and knows neither
//! `kv-lsm` nor `kv-vlog`. The format is described byte by byte in `docs/format/manifest.md`.
//!
//! Reading order: [`Edit`], [`State`], [`Manifest`]; then [`read`] for tools and [`cross_check`] for what
//! is done on open.

mod check;
mod current;
mod decode;
mod edit;
mod encode;
mod error;
mod fold;
mod format;
mod header;
mod index;
mod inspect;
mod log;
pub mod names;
mod numbers;
mod remains;
mod scan;
mod state;
mod undo;

#[cfg(test)]
mod tests;

pub use check::{CrossCheck, Problem, cross_check, remove_orphans};
pub use decode::{DecodeError, decode_change_set};
pub use edit::{ChangeSet, Edit, Identity, LogPosition, SealedInfo, SegmentRef, TableMeta, TimeStep};
pub use encode::encode_change_set;
pub use error::ManifestError;
pub use format::FORMAT_VERSION;
pub use inspect::{Reading, Recorded, read};
pub use log::Manifest;
pub use numbers::FileNumbers;
pub use remains::{Remains, remains};
pub use scan::TornTail;
pub use state::{InvalidEdit, SegmentKind, SegmentState, State};
