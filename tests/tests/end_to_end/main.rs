//! The real programs, end to end: kills, damage, failing disks, wrong input.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

mod bad_directory;
mod bad_input;
mod clean_stop;
mod crash_loop;
mod deposed_leader;
mod expiry;
mod import_export;
mod inspection;
mod kept_log;
mod libfiu;
mod linearizable;
mod model;
mod proxy;
mod repaired;
mod resets;
mod snapshots;
mod sync;
mod three_nodes;
mod upkeep;
mod written_once;
