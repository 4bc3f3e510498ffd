//! What has broken systems like this one, each by itself: small, and named for what happens.
//!
//! Each stands with the bugs on purpose that it must find ([`crate::planted`]): take its guard away, and it
//! fails. The numbers are those of the table in `docs/testing.md`.

mod collect;
mod log;
mod manifest;
mod memory;
mod run;
mod state;

pub use collect::*;
pub use log::*;
pub use manifest::*;
pub use memory::{Counting, memory_grows_with_the_unpurged_log};
pub use state::*;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its number in the table.
    pub number: u32,
    /// What happens.
    pub name: &'static str,
    /// The bugs on purpose under which it fails, each by itself.
    pub bugs: &'static [&'static str],
    /// Panics where it is not as it must be.
    pub run: fn(),
}

macro_rules! scenarios {
    ($($number:literal $name:ident [$($bug:literal),+ $(,)?])+) => {
        /// All of them.
        pub const ALL: &[Scenario] = &[
            $(Scenario { number: $number, name: stringify!($name), bugs: &[$($bug),+], run: $name }),+
        ];
    };
}

scenarios! {
    1 a_deleted_key_is_written_back_by_a_collection ["moved values written back"]
    2 a_collected_file_is_removed_under_its_readers ["collected files removed under their readers"]
    3 a_collected_file_is_removed_before_its_replacement_is_durable [
        "collected files removed too early",
        "moved values not synced",
        "name of a file of moved values not synced",
    ]
    4 a_table_points_to_values_that_are_not_durable ["flush ahead of the log"]
    5 a_collection_races_an_overwrite_and_wins ["moved values written back"]
    6 a_roll_without_a_sync_of_the_directory
        ["name of a segment not synced", "segment header not synced"]
    7 a_manifest_switched_to_before_it_is_durable [
        "manifest not synced before CURRENT names it",
        "name of a manifest not synced before CURRENT",
        "CURRENT before its content",
        "name of CURRENT not synced",
    ]
    8 a_log_cut_at_a_bad_checksum_in_its_middle ["log cut at any bad checksum"]
    9 no_room_in_the_middle_of_a_change_set_and_a_retry ["change-set behind a half-written one"]
    10 a_failed_sync_is_retried ["failed sync retried", "failed write acknowledged"]
    11 a_restart_after_a_failed_sync_reads_what_never_reached_the_disk
        ["manifest appended to behind a torn end", "recovered end of the log read from the page cache"]
    12 a_vote_is_answered_before_it_is_durable
        ["vote acknowledged before it is durable", "callbacks before the sync", "group not synced"]
    13 an_append_is_acknowledged_before_its_sync ["callbacks before the sync", "group not synced"]
    14 a_vote_is_durable_and_the_truncation_behind_it_is_not
        ["truncation not replayed", "truncation in a header not replayed"]
    15 replay_brings_back_entries_that_a_snapshot_covers ["floor of a snapshot not recorded"]
    16 a_purge_removes_files_that_are_still_named
        ["segment files removed before the manifest drops them"]
    17 a_crash_between_a_vote_and_a_snapshot ["vote not carried into the next segment"]
    18 a_snapshot_is_installed_by_half ["snapshot installed in two change-sets"]
    19 a_snapshot_leaves_the_old_membership ["membership of a snapshot not installed"]
    20 the_applied_position_is_ahead_of_what_is_applied
        ["position of a flush ahead of its table"]
    26 a_compressed_value_is_moved_without_its_codec ["codec of a moved value lost"]
    28 a_collection_fills_the_disk_that_it_is_to_free ["collections take the last room"]
    29 the_disk_holds_more_than_is_told ["files that are still read not told"]
    30 memory_grows_with_the_unpurged_log ["offsets of sealed segments kept"]
}
