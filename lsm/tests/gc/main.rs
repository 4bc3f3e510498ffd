//! Value GC: files are collected while the store is read, written and killed.
//!
//! Of the crashes a share is tried; `KV_CRASH_ALL=1` tries all, `KV_CRASH_AT=<operation>` one.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod collect;
mod compaction;
mod crash;
mod explained;
mod faults;
mod fire;
mod foreseen;
mod full;
mod killed;
#[path = "../snapshot/node.rs"]
mod node;
#[cfg(feature = "planted-bugs")]
mod planted;
mod readers;
mod recycle;
#[path = "../snapshot/share.rs"]
mod share;
mod space;
mod support;
mod sweep;
mod worker;
