//! The program against a node that lives in memory: its forms, exit codes, and files on their way to keys
//! and back. What a real node does with the requests is tested elsewhere.
#![expect(clippy::disallowed_methods, reason = "tests lay out files as a user would")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

mod bench;
mod damaged;
mod gc;
mod keys;
mod node;
mod offline;
mod run;
mod tree;
mod upkeep;
