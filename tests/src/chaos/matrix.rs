//! The rows of the fault matrix, and the tests that prove each. `docs/reliability.md` shows the same table, and every test that is
//! named must be there.

use super::deck::{KINDS, Kind};

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its number.
    pub number: u8,
    /// The fault.
    pub fault: &'static str,
    /// Tests of this row, by name.
    pub tests: &'static [&'static str],
    /// Why no chaos run has it, or what is not proved.
    pub note: &'static str,
}

const fn row(number: u8, fault: &'static str, tests: &'static [&'static str], note: &'static str) -> Row {
    Row { number, fault, tests, note }
}

const GATEWAY_POINTS: &str = "a_gateway_killed_at_any_point_of_a_write_loses_nothing_and_leaves_nothing_behind";
const OWNER_POINTS: &str = "an_owner_killed_at_any_point_of_an_append_or_checkpoint_is_replaced_and_loses_nothing";
const UPLOADS: &str = "uploads_that_fail_before_or_after_they_took_effect_lose_nothing_and_store_nothing_twice";

/// All rows.
pub const ROWS: &[Row] = &[
    row(1, "kill -9 before the upload (k0, k1)", &[GATEWAY_POINTS], ""),
    row(2, "kill -9 around the upload (k2, k3, k4)", &[GATEWAY_POINTS], ""),
    row(
        3,
        "kill -9 in an append (k5) or a checkpoint (p1 to p3)",
        &[OWNER_POINTS, "a_killed_owner_is_replaced_within_its_lease_and_two_seconds"],
        "",
    ),
    row(
        4,
        "kill -9 when an append is committed (k6, k7)",
        &[OWNER_POINTS, "a_lost_reply_to_a_committed_append_loses_nothing_and_repeats_nothing"],
        "",
    ),
    row(5, "kill -9 around the answer (k8, k9)", &[GATEWAY_POINTS, "when_a_gateway_is_killed_the_other_serves_at_once"], ""),
    row(
        6,
        "Postgres restarts",
        &[
            "after_a_crash_of_postgres_work_goes_on_within_two_seconds_and_nothing_is_lost",
            "after_a_restart_of_the_server_the_first_call_succeeds",
        ],
        "",
    ),
    row(
        7,
        "failover to a synchronous standby",
        &[
            "a_failover_to_a_synchronous_standby_loses_nothing_though_the_old_primary_lives_on",
            "an_owner_that_lives_on_while_its_database_falls_back_is_fenced_and_leaves_no_gap",
        ],
        "",
    ),
    row(
        8,
        "failover to an asynchronous standby",
        &["a_standby_that_lagged_when_it_was_promoted_halts_the_collector_until_an_operator_accepts_the_loss"],
        "loses records by design: no part of a run that must lose none",
    ),
    row(
        9,
        "a slow Postgres",
        &[
            "a_slow_postgres_slows_down_and_nothing_else",
            "while_commits_hang_the_buffer_fills_then_producers_are_refused_and_what_was_taken_is_stored_once",
        ],
        "",
    ),
    row(
        10,
        "Postgres cut off, also one way",
        &[
            "an_owner_cut_off_from_postgres_in_either_direction_is_replaced_and_nothing_is_lost",
            "reads_of_located_records_go_on_while_the_metadata_service_is_away",
        ],
        "",
    ),
    row(
        11,
        "serialization failures, deadlocks, lock timeouts",
        &["locks_and_deadlocks_of_others_in_the_database_cost_time_only", "an_append_that_meets_another_transaction_is_run_again"],
        "",
    ),
    row(
        12,
        "a lost reply to COMMIT",
        &[
            "a_lost_reply_to_a_committed_append_loses_nothing_and_repeats_nothing",
            "an_append_written_again_waits_for_the_first_one_whose_answer_was_lost",
            "an_append_whose_answer_never_comes_is_written_again_beside_it_and_told_within_five_seconds",
        ],
        "",
    ),
    row(
        13,
        "clients that go away in the middle",
        &[
            "clients_that_go_away_at_any_moment_leave_whole_requests_and_clean_connections",
            "callers_that_go_away_leave_no_transaction_open_and_nothing_half_done",
        ],
        "",
    ),
    row(14, "no connections to Postgres left", &["a_server_without_a_connection_left_refuses_and_nothing_happened"], ""),
    row(
        15,
        "Postgres read-only or its disk full",
        &["a_full_disk_refuses_writes_loses_nothing_and_recovers"],
        "a full disk is tested under SQLite; under Postgres, read-only transactions are",
    ),
    row(
        16,
        "the store throttles",
        &[
            "an_outage_of_the_store_is_survived_with_bounded_memory_and_recovered_from_within_ten_seconds",
            "a_storm_of_503_is_multiplied_by_no_more_than_the_budget",
        ],
        "",
    ),
    row(17, "the store fails before it did what was asked", &[UPLOADS, "a_put_that_fails_before_it_is_applied_is_sent_again"], ""),
    row(18, "the store fails after it did what was asked", &[UPLOADS, "a_put_that_fails_after_it_was_applied_is_settled_by_looking"], ""),
    row(19, "409 or 412 for a new key", &[UPLOADS, "a_409_or_412_is_believed_only_after_looking"], ""),
    row(
        20,
        "truncated, shifted, flipped downloads",
        &[
            "answers_of_the_store_that_are_cut_shifted_or_flipped_are_never_served",
            "a_bit_that_flips_on_the_way_is_found_by_the_batch_s_checksum_and_what_is_fetched_again_is_right",
        ],
        "",
    ),
    row(21, "404 for an object that is there", &["a_missing_object_is_an_error_at_its_place_and_nobody_reads_past_it"], ""),
    row(
        22,
        "403, expired credentials",
        &[
            "credentials_that_expire_stop_writes_with_a_reason_and_new_ones_let_them_go_on",
            "an_upload_that_is_denied_is_answered_at_once_and_names_the_bucket",
        ],
        "",
    ),
    row(23, "stale listings", &["a_listing_of_before_the_commit_harms_nothing"], ""),
    row(
        24,
        "a slow store",
        &["a_late_read_is_asked_a_second_time_and_a_late_write_is_not", "one_slow_upload_does_not_hold_up_other_segments"],
        "",
    ),
    row(
        25,
        "abandoned uploads in parts",
        &["an_upload_that_is_cut_stores_nothing", "settings_are_made_once_and_those_of_others_stay"],
        "`lakefall bucket init` has the store clear them away; objects are sent in one request",
    ),
    row(
        26,
        "the cache disk is full or fails",
        &["a_full_cache_disk_costs_speed_only", "a_cache_disk_that_fails_while_in_use_is_turned_off"],
        "",
    ),
    row(
        27,
        "the cache disk is damaged",
        &["bytes_that_flip_on_the_cache_disk_are_found_and_fetched_again", "a_cache_disk_written_with_other_blocks_is_harmless"],
        "",
    ),
    row(
        28,
        "the cache hangs",
        &["a_cache_disk_that_hangs_is_passed_by"],
        "needs a device that hangs, which the machine's owner must allow",
    ),
    row(
        29,
        "clocks that are wrong",
        &[
            "a_gateway_whose_clock_is_an_hour_off_loses_nothing_and_says_what_is_wrong",
            "owners_whose_clocks_are_two_hours_apart_replace_each_other_and_lose_nothing",
        ],
        "",
    ),
    row(
        30,
        "kill -9 at any step of compaction (c1 to c7)",
        &[
            "a_server_killed_at_any_step_of_compaction_reads_the_same_afterwards",
            "a_server_killed_while_it_deletes_what_was_replaced_reads_the_same_afterwards",
        ],
        "c6 and c7 need objects that were let go of five minutes ago: runs of 12 minutes and more",
    ),
    row(31, "two compactors on the same records", &["three_compactors_at_once_do_everything_once"], ""),
    row(
        32,
        "collection races readers",
        &[
            "records_that_were_moved_are_located_once_more_and_those_that_are_gone_are_an_error",
            "what_a_ledger_refers_to_is_never_deleted_and_what_none_does_is_in_every_interleaving",
        ],
        "no fault of its own: every chaos run collects with a grace of 2 s under readers of old records",
    ),
    row(
        33,
        "processes that stand still and wake",
        &[
            "a_gateway_that_wakes_after_its_segment_was_swept_acknowledges_nothing",
            "an_owner_that_wakes_after_a_takeover_answers_nothing_stale_and_loses_nothing",
        ],
        "",
    ),
    row(
        34,
        "memory pressure",
        &[
            "an_outage_of_the_store_is_survived_with_bounded_memory_and_recovered_from_within_ten_seconds",
            "a_hundred_readers_of_large_pages_stay_within_the_room_and_all_are_served",
        ],
        "a limit that kills is a kill -9, which runs have; reports tell each gateway's highest resident memory",
    ),
    row(
        35,
        "slow clients",
        &["slow_heads_and_bodies_are_closed_in_time_and_a_good_client_notices_nothing", "a_reader_that_never_reads_is_closed_in_time"],
        "",
    ),
    row(
        36,
        "HTTP/2 floods",
        &["rapid_resets_end_the_connection", "endless_continuations_end_the_connection"],
        "ends connections, harms no record: tests of its own",
    ),
    row(
        37,
        "bodies that are too large",
        &["what_is_too_large_is_refused", "compressed_bodies_are_read_and_bombs_refused"],
        "refused before anything is stored: tests of its own",
    ),
    row(
        38,
        "malformed input",
        &[
            "bad_records_are_refused_and_nothing_of_their_batch_is_stored",
            "requests_that_smuggle_others_are_refused_and_closed",
            "every_truncation_and_every_flipped_bit_is_an_error",
        ],
        "fuzzing: `make fuzz`",
    ),
    row(39, "requests that come twice", &["a_request_repeated_through_both_gateways_at_once_is_stored_once_and_answered_alike"], ""),
    row(
        40,
        "everything to one partition",
        &["records_that_arrive_while_enough_uploads_are_under_way_share_a_segment"],
        "measured by `make bench`; there are no quotas yet",
    ),
    row(
        41,
        "retention deletes what is being read",
        &[
            "below_the_log_start_is_an_error_that_tells_it",
            "a_trim_is_respected_as_soon_as_it_is_known_and_without_notices_after_the_lease",
        ],
        "would take records out of the log that the run must find",
    ),
    row(
        42,
        "migration of tables in an upgrade",
        &[
            "the_data_folder_of_version_1_is_read_and_written_on",
            "a_database_from_before_queues_is_migrated_with_all_that_is_in_it",
            "a_migration_waits_for_another_but_not_for_a_lock_that_others_would_wait_behind",
        ],
        "needs executables of two releases",
    ),
    row(
        43,
        "another version of a format",
        &["the_frozen_segment_of_version_1_is_still_read", "another_version_is_refused_by_name"],
        "needs executables of two releases",
    ),
    row(
        44,
        "a lease ends while its settlement is under way (l3)",
        &[
            "of_two_receipts_of_one_message_the_newer_one_counts_in_whatever_order",
            "a_lease_that_is_over_settles_nothing_even_if_nobody_took_the_message_since",
        ],
        "",
    ),
    row(
        45,
        "a lost answer to a receive (l1, l2)",
        &[
            "a_receive_repeated_under_its_request_id_after_a_kill_gets_the_same_leases",
            "a_receiver_that_went_away_leaves_its_messages_to_others",
        ],
        "",
    ),
    row(
        46,
        "very many waiting readers",
        &["one_record_reaches_ten_thousand_idle_tails", "long_polls_tails_and_streams_end_at_once"],
        "a run has its readers wait through each restart; ten thousand are a test of its own",
    ),
    row(
        47,
        "rolling restart",
        &[
            "a_rolling_restart_under_load_fails_no_request_of_clients_with_two_gateways",
            "a_stop_under_load_answers_everything_under_way_and_loses_nothing",
            "every_role_is_replaced_under_load_and_clients_that_honour_retry_after_see_no_error",
            "gateways_are_scaled_from_one_to_four_and_back_under_load_and_no_client_sees_an_error",
        ],
        "",
    ),
    row(
        48,
        "Postgres or the store move",
        &[
            "a_failover_to_a_synchronous_standby_loses_nothing_though_the_old_primary_lives_on",
            "a_server_that_is_away_for_a_moment_costs_nobody_an_object",
        ],
        "",
    ),
    row(
        49,
        "a database restored to an earlier time",
        &[
            "a_restored_metadata_store_halts_deletion_until_recover_and_what_it_lost_is_listed_and_kept",
            "a_store_that_goes_back_in_the_middle_of_a_sweep_deletes_nothing",
        ],
        "loses records by design: no part of a run that must lose none",
    ),
    row(50, "a zone is lost", &["when_a_gateway_is_killed_the_other_serves_at_once"], ""),
    row(
        51,
        "no file descriptors, panics",
        &[
            "a_task_that_panics_is_counted_and_harms_nobody",
            "a_critical_task_that_panics_stops_the_process",
            "one_connection_too_many_gets_a_503_and_room_is_used_again",
        ],
        "",
    ),
];

/// The faults of a chaos run that belong to a row.
pub fn faults_of(row: u8) -> Vec<&'static Kind> {
    KINDS.iter().filter(|kind| kind.rows.contains(&row)).collect()
}

/// The table of the manual.
pub fn table() -> String {
    let mut text = String::from("| | fault | in chaos runs as | tests | |\n|---|---|---|---|---|\n");
    for Row { number, fault, tests, note } in ROWS {
        let faults: Vec<&str> = faults_of(*number).iter().map(|kind| kind.name).collect();
        let (faults, tests) = (faults.join("; "), tests.iter().map(|test| format!("`{test}`")).collect::<Vec<_>>().join(", "));
        text.push_str(&format!("| {number} | {fault} | {faults} | {tests} | {note} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    const BEGIN: &str = "<!-- the table of tests/src/chaos/matrix.rs; UPDATE_RELIABILITY=1 writes it anew -->\n";
    const END: &str = "<!-- its end -->";

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
    }

    #[test]
    fn every_row_is_there_once_and_is_proved_by_a_chaos_run_or_says_why_not() {
        let numbers: Vec<u8> = ROWS.iter().map(|row| row.number).collect();
        assert_eq!(numbers, (1..=51).collect::<Vec<u8>>());
        for row in ROWS {
            assert!(!row.tests.is_empty(), "row {} has no test", row.number);
            assert!(!faults_of(row.number).is_empty() || !row.note.is_empty(), "row {} is in no run and does not say why", row.number);
        }
        assert!(KINDS.iter().all(|kind| kind.rows.iter().all(|row| numbers.contains(row))));
    }

    #[test]
    fn every_test_that_is_named_is_there() {
        let mut folders = vec![root()];
        let mut functions = String::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
                if path.is_dir() {
                    if name != "target" && !name.starts_with('.') {
                        folders.push(path);
                    }
                } else if name.ends_with(".rs") && name != "matrix.rs" {
                    functions.push_str(&std::fs::read_to_string(path).unwrap());
                }
            }
        }
        let missing: Vec<&str> =
            ROWS.iter().flat_map(|row| row.tests).copied().filter(|test| !functions.contains(&format!("fn {test}("))).collect();
        assert!(missing.is_empty(), "there are no such tests: {missing:#?}");
    }

    #[test]
    fn the_manual_shows_the_same_table() {
        let path = root().join("docs/reliability.md");
        let manual = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = manual.split_once(BEGIN).expect("the manual has the table's beginning");
        let (shown, after) = rest.split_once(END).expect("the manual has the table's end");
        if std::env::var_os("UPDATE_RELIABILITY").is_some() {
            std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
            return;
        }
        assert_eq!(shown, table(), "write it anew: UPDATE_RELIABILITY=1 cargo test -p lakefall-tests --lib matrix");
    }
}
