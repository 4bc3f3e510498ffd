//! Tests of the whole crate, one file per subject.

mod coding;
mod crash;
mod current;
mod directory;
mod document;
mod faults;
mod folding;
mod log;
mod make;
mod script;
mod torn;
