//! What has broken systems like this one, each by the name of what happens: see `kv_proof::scenarios`.

use kv_proof::scenarios::{self, Counting};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

macro_rules! tests {
    ($($test:ident $name:ident)+) => {
        $(#[test]
        fn $test() {
            scenarios::$name();
        })+

        /// One that is in the table and not among the tests would never run.
        #[test]
        fn every_scenario_has_its_test() {
            let tested = [$(stringify!($name)),+];
            let all: Vec<_> = scenarios::ALL.iter().map(|scenario| scenario.name).collect();
            assert_eq!(all, tested);
        }
    };
}

tests! {
    scenario_01 a_deleted_key_is_written_back_by_a_collection
    scenario_02 a_collected_file_is_removed_under_its_readers
    scenario_03 a_collected_file_is_removed_before_its_replacement_is_durable
    scenario_04 a_table_points_to_values_that_are_not_durable
    scenario_05 a_collection_races_an_overwrite_and_wins
    scenario_06 a_roll_without_a_sync_of_the_directory
    scenario_07 a_manifest_switched_to_before_it_is_durable
    scenario_08 a_log_cut_at_a_bad_checksum_in_its_middle
    scenario_09 no_room_in_the_middle_of_a_change_set_and_a_retry
    scenario_10 a_failed_sync_is_retried
    scenario_11 a_restart_after_a_failed_sync_reads_what_never_reached_the_disk
    scenario_12 a_vote_is_answered_before_it_is_durable
    scenario_13 an_append_is_acknowledged_before_its_sync
    scenario_14 a_vote_is_durable_and_the_truncation_behind_it_is_not
    scenario_15 replay_brings_back_entries_that_a_snapshot_covers
    scenario_16 a_purge_removes_files_that_are_still_named
    scenario_17 a_crash_between_a_vote_and_a_snapshot
    scenario_18 a_snapshot_is_installed_by_half
    scenario_19 a_snapshot_leaves_the_old_membership
    scenario_20 the_applied_position_is_ahead_of_what_is_applied
    scenario_26 a_compressed_value_is_moved_without_its_codec
    scenario_28 a_collection_fills_the_disk_that_it_is_to_free
    scenario_29 the_disk_holds_more_than_is_told
    scenario_30 memory_grows_with_the_unpurged_log
}
