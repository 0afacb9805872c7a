//! Every flow of a run, end to end: a real source, the real engine, and a destination that knows what arrived.

mod buckets;
mod claims;
mod databases;
mod delivery;
mod files;
mod guards;
mod loss;
mod manifests;
mod modes;
mod salesforce;
mod together;
mod upkeep;
mod values;
mod waits;
mod warehouse;

use outflow_tests::{Case, Mode, Need};

const CASES: &[Case] = &[
    ("a_batch_with_bad_rows_delivers_the_others", Need::Nothing, delivery::per_record_errors),
    ("a_batch_refused_as_a_whole_is_split", Need::Nothing, delivery::whole_batch_errors),
    ("a_refused_row_is_withheld_until_it_changes", Need::Nothing, delivery::withheld),
    ("deferred_rows_go_out_in_the_next_run", Need::Nothing, delivery::deferred),
    ("a_pause_stops_every_request_of_the_account", Need::Nothing, delivery::paused),
    ("a_strict_limit_is_never_exceeded", Need::Nothing, delivery::limited),
    ("a_reserve_is_left_to_others", Need::Nothing, delivery::reserved),
    ("an_account_whose_reserve_is_touched_is_throttled_before_it_is_refused", Need::Nothing, delivery::throttled),
    ("what_others_use_of_an_account_is_left_to_them", Need::Nothing, delivery::others),
    ("wrong_credentials_stop_the_run_and_lose_nothing", Need::Nothing, delivery::unauthorized),
    ("a_create_without_an_answer_is_unknown_and_withheld", Need::Nothing, delivery::unknown),
    ("what_is_announced_for_long_asks_again_before_it_leaves", Need::Nothing, delivery::stale),
    ("an_unknown_row_is_decided_as_the_sync_says", Need::Nothing, delivery::unknown_decided),
    ("a_record_that_ends_its_worker_stands_alone", Need::Nothing, delivery::poison),
    ("an_interrupted_run_goes_on_where_it_stopped", Need::Nothing, delivery::interrupted),
    ("an_interrupted_run_is_folded_as_it_was_planned", Need::Nothing, delivery::other_object),
    ("two_coordinators_at_once_hear_of_their_own_runs", Need::Nothing, together::two_coordinators),
    ("a_ledger_that_is_away_is_waited_for", Need::Nothing, together::ledger_away),
    ("what_is_left_of_messages_is_swept", Need::Nothing, together::messages_swept),
    ("what_no_run_needs_is_swept_and_what_is_needed_stays", Need::Nothing, upkeep::swept),
    ("a_held_run_keeps_its_plan_and_its_base_however_old", Need::Nothing, upkeep::held),
    ("what_a_limiter_forgets_is_sent_once", Need::Nothing, claims::forgotten),
    ("an_attempt_is_closed_before_the_next_is_counted", Need::Nothing, claims::counted),
    ("a_message_is_kept_until_its_report_is", Need::Nothing, claims::reported),
    ("what_merely_waits_is_published_once", Need::Nothing, claims::waiting),
    ("a_run_whose_plan_is_lost_ends_and_the_next_plans_every_row", Need::Nothing, loss::plan),
    ("a_run_whose_plan_is_lost_is_cancelled_and_its_sync_forgotten", Need::Nothing, loss::plan_then_cancel),
    ("a_held_plan_that_is_lost_leaves_nothing_to_send_again", Need::Nothing, loss::held_plan),
    ("a_base_that_is_lost_ends_its_run_and_the_next_plans_every_row", Need::Nothing, loss::base),
    ("a_base_that_is_lost_while_delivering_ends_its_run", Need::Nothing, loss::base_while_folding),
    ("creates_are_held_where_what_was_sent_is_not_known", Need::Nothing, loss::creates),
    ("the_old_snapshot_stays_until_the_ledger_points_to_the_new_one", Need::Nothing, loss::old_snapshot),
    ("another_family_of_operations_is_refused", Need::Nothing, guards::family),
    ("a_run_that_never_delivered_leaves_the_snapshot", Need::Nothing, guards::untouched),
    ("a_newer_run_replaces_a_held_plan", Need::Nothing, guards::replaced),
    ("a_held_plan_shows_what_it_would_do_and_hides_what_is_sensitive", Need::Nothing, guards::samples),
    ("an_approved_plan_removes_nothing_that_is_in_the_model_again", Need::Nothing, guards::returned),
    ("a_held_plan_that_is_too_old_is_not_delivered", Need::Nothing, guards::too_old),
    ("few_invalid_rows_are_tolerated_where_asked", Need::Nothing, guards::tolerated),
    ("an_invalid_row_takes_no_other_rows_place", Need::Nothing, guards::beside_invalid),
    ("a_planning_that_ends_its_process_is_stopped", Need::Nothing, guards::deadly_planning),
    ("mirror_removes_what_we_sent_and_nothing_else", Need::Nothing, modes::mirror),
    ("an_empty_model_is_never_everything_removed", Need::Nothing, modes::empty),
    ("null_and_duplicate_keys_are_invalid", Need::Nothing, modes::invalid),
    ("a_changed_mapping_sends_every_row", Need::Nothing, modes::mapping),
    ("a_changed_mapping_leaves_known_rows_where_asked", Need::Nothing, modes::only_new),
    ("refused_rows_are_never_retried_where_asked", Need::Nothing, modes::never_retried),
    ("refused_rows_are_retried_in_every_run_where_asked", Need::Nothing, modes::every_run),
    ("another_key_is_refused_and_removes_nothing", Need::Nothing, modes::other_key),
    ("another_type_of_destination_is_refused", Need::Nothing, modes::other_destination),
    ("a_removed_row_without_a_key_is_not_guessed", Need::Nothing, modes::keyless),
    ("a_black_hole_takes_every_change_and_sends_nothing", Need::Nothing, modes::blackhole),
    ("a_manifest_of_the_users_own_delivers", Need::Nothing, modes::own_manifest),
    ("a_manifest_sends_ndjson_signed_and_named", Need::Nothing, manifests::ndjson),
    ("a_manifest_sends_records_one_by_one", Need::Nothing, manifests::one_by_one),
    ("a_manifest_reads_answers_by_position", Need::Nothing, manifests::by_position),
    ("a_destination_that_answers_429_for_ever_ends_the_run_in_time", Need::Nothing, waits::for_ever),
    ("a_wait_longer_than_allowed_defers_at_once", Need::Nothing, waits::longer_than_allowed),
    ("a_time_that_the_destination_names_is_waited_for", Need::Nothing, waits::as_asked),
    ("a_spent_quota_defers_without_asking_again", Need::Nothing, waits::quota),
    ("a_login_that_is_down_is_waited_for_and_one_that_refuses_is_not", Need::Nothing, waits::login),
    ("a_create_that_a_gateway_answers_is_unknown", Need::Nothing, waits::gateway),
    ("a_window_that_one_process_has_used_is_used_for_the_next", Need::Nothing, waits::next_process),
    ("what_is_answered_elsewhere_is_not_sent_twice", Need::Nothing, manifests::elsewhere),
    ("an_append_without_a_clear_answer_is_sent_once", Need::Nothing, manifests::once),
    ("what_is_gone_already_needs_no_removal", Need::Nothing, manifests::gone),
    ("an_answer_that_is_never_understood_holds_up_nobody_else", Need::Nothing, manifests::never_understood),
    ("a_refusal_that_repeats_what_is_sensitive_is_masked", Need::Nothing, manifests::discreet),
    ("identity_is_compared_as_it_is_sent", Need::Nothing, values::identity),
    ("json_is_checked_and_stays_on_one_line", Need::Nothing, values::json),
    ("templates_count_exactly_and_keep_null", Need::Nothing, values::templates),
    ("parquet_files_keep_every_type", Need::Nothing, files::parquet),
    ("csv_files_keep_every_type", Need::Nothing, files::csv),
    ("a_column_of_another_type_is_noticed", Need::Nothing, files::retyped),
    ("ndjson_files_keep_every_digit", Need::Nothing, files::ndjson),
    ("files_of_one_folder_may_differ_and_none_is_passed_over", Need::Nothing, files::folders),
    ("a_csv_cell_that_does_not_fit_makes_its_row_invalid", Need::Nothing, files::typed_csv),
    ("salesforce_collections_answer_for_each_record", Need::Nothing, salesforce::collections),
    ("salesforce_mirror_deletes_by_id_and_looks_up_what_it_lacks", Need::Nothing, salesforce::mirror),
    ("salesforce_update_skips_what_is_not_there", Need::Nothing, salesforce::update),
    ("salesforce_bulk_tells_every_row_apart", Need::Nothing, salesforce::bulk::outcomes),
    ("salesforce_bulk_keeps_values_and_nulls", Need::Nothing, salesforce::bulk::values),
    ("a_job_whose_id_is_known_is_never_uploaded_again", Need::Nothing, salesforce::bulk::deaths),
    ("a_job_survives_every_lost_answer", Need::Nothing, salesforce::bulk::lost_answers),
    ("an_interrupted_job_is_not_uploaded_again", Need::Nothing, salesforce::bulk::interrupted),
    ("jobs_that_always_fail_end_the_run", Need::Nothing, salesforce::bulk::fails),
    ("another_rule_for_case_is_another_key", Need::Nothing, salesforce::folded),
    ("a_cancelled_run_does_not_wait_for_its_job", Need::Nothing, salesforce::bulk::cancelled),
    ("salesforce_fields_are_checked_against_its_description", Need::Nothing, salesforce::described),
    ("a_days_quota_defers_what_is_left", Need::Nothing, salesforce::quota),
    ("salesforce_logs_in_three_ways", Need::Nothing, salesforce::logins),
    ("those_who_start_together_log_in_once", Need::Nothing, salesforce::together),
    ("salesforce_requests_are_the_published_ones", Need::SalesforceSpecs, salesforce::published::requests),
    ("chinook_customers_arrive_exactly", Need::Chinook, warehouse::chinook),
    ("every_postgres_type_survives", Need::Postgres, warehouse::types),
    ("a_faulty_value_makes_its_row_alone_invalid", Need::Postgres, warehouse::faults),
    ("sums_over_sqlite_arrive_as_numbers", Need::Nothing, databases::sums),
    ("source_that_refuses_for_now_is_read_again", Need::Nothing, databases::refusing),
    ("a_source_that_breaks_off_plans_nothing", Need::Postgres, warehouse::broken),
    ("plans_and_snapshots_live_in_a_bucket", Need::S3, buckets::lives),
    ("a_bucket_that_is_away_is_waited_for", Need::S3, buckets::away),
    ("a_bucket_that_is_away_while_planning_costs_no_run", Need::S3, buckets::away_at_first),
];

fn main() -> std::process::ExitCode {
    outflow_tests::run(CASES, &[Mode::Embedded, Mode::Distributed])
}
