"""The fault catalogue, row by row: what proves it, or why nothing does.

A test counts for a row only if it says where the job is afterwards, or what else the row asks for.
"""

FAULTS: dict[str, tuple[str, str]] = {
    # row: (fault, tests as `path::name`, a line each; or, after `-`, why there is none)
    # --- Processes
    "1": ("idle worker killed", """
        test_respawn.py::test_a_killed_idle_worker_is_replaced_and_no_longer_registered
        test_processes.py::test_killed_worker_has_a_successor_at_once"""),
    "2": ("worker killed in mid-job", """
        worker/test_recovery.py::test_killed_at_each_phase
        test_work.py::test_a_job_that_ends_its_worker_fails_at_once
        test_work.py::test_a_job_with_retries_left_is_retried_when_its_worker_is_killed
        worker/test_foreign.py::test_horse_dies_with_its_worker"""),
    "3": ("killed after taking a job", """
        worker/test_recovery.py::test_killed_at_each_phase
        worker/test_recovery.py::test_killed_by_our_own_stop"""),
    "4": ("killed before the job begins", """
        worker/test_recovery.py::test_killed_at_each_phase
        worker/test_recovery.py::test_killed_by_our_own_stop"""),
    "5": ("killed before the result is written", """
        worker/test_recovery.py::test_killed_at_each_phase
        worker/test_recovery.py::test_killed_by_our_own_stop"""),
    "6": ("the job's process killed", """
        test_respawn.py::test_a_job_without_retries_fails_at_its_first_death
        worker/test_foreign.py::test_killed_horse_is_rqs_own_affair"""),
    "7": ("segmentation fault", """
        test_work.py::test_a_job_that_ends_its_worker_fails_at_once
        test_respawn.py::test_a_job_that_kills_every_worker_fails_at_the_third_death"""),
    "8": ("os._exit(0) in a job", """
        test_work.py::test_a_job_that_ends_its_worker_fails_at_once
        faults/test_poison.py::test_with_another_worker_class_it_fails_too"""),
    "9": ("sys.exit, abort in a job", """
        test_work.py::test_a_job_with_bad_manners_harms_nobody_after_it
        test_work.py::test_a_job_that_ends_its_worker_fails_at_once"""),
    "10": ("job kills its parent", """
        test_work.py::test_killing_the_parent_takes_nobody_else_down"""),
    "11": ("worker stopped", """
        faults/test_processes.py::test_an_idle_worker_that_stands_still_is_replaced
        faults/test_processes.py::test_a_busy_worker_that_stands_still_is_replaced_and_its_job_fails
        faults/test_processes.py::test_a_worker_that_stands_still_for_a_moment_is_left_alone
        faults/test_processes.py::test_what_stands_still_is_killed_at_a_stop_and_its_job_put_back"""),
    "12": ("horse stopped", "- RQ's own 60 s after the timeout cannot be shortened from outside"),
    "13": ("job that resists a stop", """
        worker/test_interrupts.py::test_what_cannot_be_interrupted_is_killed
        worker/test_foreign.py::test_stopped_now_is_killed_and_recovered"""),
    "14": ("job stuck in C code", """
        test_respawn.py::test_a_job_stuck_in_c_is_shown_killed_and_failed_with_the_reason"""),
    "15": ("job leaves a daemon", """
        test_work.py::test_a_job_with_bad_manners_harms_nobody_after_it
        test_processes.py::test_a_stranger_that_falls_to_the_arbiter_is_reaped"""),
    "16": ("job leaves a thread or a child", """
        test_work.py::test_a_job_with_bad_manners_harms_nobody_after_it
        test_respawn.py::test_the_children_of_a_stuck_job_are_killed_with_it"""),
    "17": ("arbiter killed", """
        test_processes.py::test_killed_arbiter_everybody_finishes_the_job_and_leaves
        test_pidfile.py::test_a_killed_arbiter_leaves_nothing_in_the_way"""),
    "18": ("arbiter stopped for long", """
        faults/test_processes.py::test_after_a_suspend_nobody_is_judged_for_its_silence
        test_work.py::test_an_arbiter_that_was_stopped_judges_nobody_when_it_goes_on"""),
    "19": ("after_fork fails", """
        test_lifecycle.py::test_a_worker_whose_boot_hook_raises_is_tried_again_then_given_up
        test_respawn.py::test_when_no_worker_ever_comes_up_it_gives_up"""),
    "20": ("after_fork hangs", """
        test_lifecycle.py::test_a_worker_whose_boot_hook_hangs_is_killed_and_tried_again"""),
    "21": ("crash loop of one slot", """
        test_respawn.py::test_a_slot_whose_workers_cannot_boot_backs_off_alone
        test_work.py::test_one_broken_slot_does_not_hold_up_the_others"""),
    "22": ("crash loop of all slots", """
        test_respawn.py::test_when_no_worker_ever_comes_up_it_gives_up"""),
    "23": ("fork or exec fails", """
        faults/test_processes.py::test_no_process_to_be_had_is_waited_for
        test_forkserver.py::test_no_process_to_be_had_is_told_with_its_errno
        test_bad_input.py::test_a_reload_without_a_descriptor_left_keeps_the_old"""),
    "24": ("a child nobody knows", """
        test_processes.py::test_a_stranger_that_falls_to_the_arbiter_is_reaped
        test_forkserver.py::test_a_child_of_the_app_keeps_its_exit_status_until_nobody_asks"""),
    "25": ("a plugin's subprocess", """
        test_processes.py::test_a_plugins_subprocess_keeps_its_exit_status"""),
    "26": ("a pid that comes again", """
        core/test_machine.py::TestAnyOrderOfEvents
        test_forkserver.py::test_only_its_own_workers_are_signalled"""),
    "27": ("many respawns", """
        faults/test_processes.py::test_forty_respawns_leave_nothing_behind
        test_reload.py::test_thirty_reloads_leave_no_descriptor_process_or_name_behind"""),
    "28": ("signals inherited ignored or blocked", """
        test_bad_input.py::test_what_the_parent_has_closed_blocked_and_ignored"""),
    "29": ("started with 0, 1, 2 closed", """
        test_bad_input.py::test_what_the_parent_has_closed_blocked_and_ignored"""),
    # --- Signals
    "30": ("the same signal several times", """
        test_signals.py::test_five_times_in_a_row_is_as_once
        test_signals.py::test_term_during_a_drain_means_now"""),
    "31": ("leave while the app loads", """
        test_signals.py::test_leaving_while_the_application_loads
        faults/test_signals.py::test_a_fork_server_that_is_told_to_leave_while_it_loads_is_started_again"""),
    "32": ("other signals while it boots", """
        test_signals.py::test_signals_during_the_boot_are_kept_and_applied
        test_signals.py::test_winch_during_the_boot_stops_it_short_of_workers"""),
    "33": ("signal between fork and handlers", """
        faults/test_signals.py::test_a_worker_that_is_signalled_in_its_first_moments_obeys"""),
    "34": ("storm of signals", """
        test_signals.py::test_a_storm_of_signals_is_weathered"""),
    "35": ("TTOU to none", """
        test_signals.py::test_ttou_stops_at_none_and_ttin_brings_one_back
        test_signals.py::test_only_workers_whose_queues_change_are_replaced"""),
    "36": ("growth past the process limit", """
        faults/test_processes.py::test_no_process_to_be_had_is_waited_for
        test_respawn.py::test_growth_past_the_largest_share_is_refused"""),
    "37": ("WINCH on a terminal and without", """
        faults/test_signals.py::test_on_a_terminal_winch_is_a_resize_and_nothing_else
        test_signals.py::test_winch_stops_the_workers_until_hup_or_ttin"""),
    "38": ("QUIT during a reload", """
        faults/test_signals.py::test_leaving_in_the_middle_of_a_reload"""),
    "39": ("ten HUPs", """
        faults/test_signals.py::test_ten_hups_at_once_are_one_reload_or_two"""),
    "40": ("HUP, config broken", """
        test_reload.py::test_what_cannot_come_up_leaves_the_old_fully_in_service"""),
    "41": ("HUP, app broken", """
        test_reload.py::test_what_cannot_come_up_leaves_the_old_fully_in_service
        test_reload.py::test_after_a_bad_reload_a_good_one_is_taken"""),
    "42": ("HUP, new workers die", """
        test_reload.py::test_what_cannot_come_up_leaves_the_old_fully_in_service"""),
    "43": ("USR1, log cannot be opened", """
        test_logs.py::test_a_path_that_cannot_be_reopened_keeps_its_file_and_is_told_once"""),
    "44": ("USR2, new image is no good", """
        test_reexec.py::test_what_before_exec_spoils_changes_nothing
        test_reexec.py::test_an_app_that_cannot_be_imported_changes_nothing"""),
    "45": ("USR2 twice, or during HUP", """
        test_reexec.py::test_twenty_usr2_at_once_are_a_few_re_execs
        test_reexec.py::test_usr2_while_a_generation_boots_waits_for_it"""),
    "46": ("signal in the gap of the exec", """
        test_reexec.py::test_signals_in_the_gap_are_acted_upon_after_it
        test_reexec.py::test_asked_to_leave_in_the_gap_it_leaves"""),
    "47": ("everybody is signalled", """
        test_signals.py::test_signalling_every_process_at_once_loses_nothing
        test_processes.py::test_the_arbiters_children_are_fork_servers_and_theirs_are_workers
        faults/test_signals.py::test_a_fork_server_that_is_told_to_leave_is_replaced_without_an_error"""),
    "48": ("one worker is signalled", """
        test_signals.py::test_a_worker_told_to_leave_finishes_its_job
        test_signals.py::test_a_worker_ignores_what_is_meant_for_the_arbiter"""),
    # --- Redis
    "49": ("down at the start", """
        faults/test_redis.py::test_down_at_the_start_workers_connect_and_the_arbiter_obeys
        test_bad_input.py::test_it_leaves_at_once_while_redis_is_down"""),
    "50": ("restart under load", """
        faults/test_redis.py::test_restarted_under_load_twice
        faults/test_redis.py::test_down_under_load_it_still_leaves_and_loses_nothing"""),
    "51": ("long outage under a job", """
        faults/test_redis.py::test_what_an_outage_outlives_is_not_run_twice
        worker/test_outages.py::test_outage_while_the_job_runs"""),
    "52": ("cut while the result is written", """
        worker/test_outages.py::test_finished_once
        worker/test_outages.py::test_failed_once
        faults/test_redis.py::test_cut_in_the_middle_of_a_reply"""),
    "53": ("reply to the taking lost", """
        worker/test_outages.py::test_finished_once
        faults/test_redis.py::test_cut_in_the_middle_of_a_reply"""),
    "54": ("frozen", """
        faults/test_redis.py::test_frozen_it_is_given_up_in_time_and_signals_are_obeyed
        faults/test_redis.py::test_frozen_it_still_leaves"""),
    "55": ("slow", """
        faults/test_redis.py::test_slow_it_is_slower_and_nothing_else"""),
    "56": ("wrong password, missing rights", """
        test_bad_input.py::test_a_password_that_is_refused_is_one_clear_line
        faults/test_refusals.py::test_rights_that_are_missing_are_one_line_a_process"""),
    "57": ("read-only after a failover", """
        faults/test_refusals.py::test_refused_under_load_it_is_waited_for"""),
    "58": ("out of memory, cannot save", """
        faults/test_refusals.py::test_refused_under_load_it_is_waited_for
        faults/test_refusals.py::test_any_error_of_the_server_is_waited_for"""),
    "59": ("loading, master down, cluster down", """
        faults/test_refusals.py::test_any_error_of_the_server_is_waited_for
        faults/test_refusals.py::test_refused_under_load_it_is_waited_for"""),
    "60": ("everything flushed", """
        faults/test_refusals.py::test_flushed_under_load_nobody_falls_over"""),
    "61": ("connections used up", """
        faults/test_refusals.py::test_connections_that_are_used_up_are_waited_for"""),
    "62": ("jobs evicted", """
        faults/test_refusals.py::test_evicted_jobs_are_told_of_and_passed_over"""),
    "63": ("two arbiters", """
        faults/test_refusals.py::test_two_arbiters_share_the_queues
        test_work.py::test_a_second_start_on_the_same_pid_file_leaves_the_first_alone"""),
    "64": ("maintenance lock left behind", """
        steward/test_upkeep.py::test_a_maintenance_lock_that_was_left_behind_is_in_nobodys_way"""),
    "65": ("clock jumps, hosts differ", """
        steward/test_rooms.py::test_a_skewed_clock_is_named_once
        steward/test_rooms.py::test_a_clock_far_ahead_judges_nobody
        steward/test_rooms.py::test_nobody_is_dead_whom_we_could_not_hear"""),
    # --- Files, terminal, environment
    "66": ("disk full under the log", """
        test_bad_input.py::test_a_full_disk_under_the_log_stops_no_job
        test_logs.py::test_a_full_disk_loses_lines_and_says_how_many"""),
    "67": ("pid file cannot be written", """
        faults/test_files.py::test_a_full_disk_under_the_pid_file_is_73_before_any_worker
        test_bad_input.py::test_a_file_that_cannot_be_made_is_73"""),
    "68": ("pid file stale, garbage, a link", """
        test_pidfile.py::test_what_is_in_an_unlocked_file_does_not_matter
        test_pidfile.py::test_a_path_that_cannot_be_is_code_73"""),
    "69": ("second start", """
        test_bad_input.py::test_a_pid_file_that_another_holds_is_75
        test_pidfile.py::test_many_starts_at_once_have_one_winner"""),
    "70": ("pid file deleted", """
        faults/test_files.py::test_a_pid_file_that_is_removed_comes_back_and_status_says_what_to_do
        test_pidfile.py::test_a_file_that_became_another_ones_is_left_alone"""),
    "71": ("reader of the output leaves", """
        test_bad_input.py::test_a_reader_of_the_output_that_leaves_stops_nobody"""),
    "72": ("reader of the output stands still", """
        faults/test_files.py::test_a_full_pipe_for_output_stalls_neither_arbiter_nor_other_jobs
        test_logs.py::test_a_reader_that_stands_still_stops_nobody"""),
    "73": ("job writes very much", """
        faults/test_files.py::test_what_jobs_print_is_kept_out_of_the_log_and_of_memory"""),
    "74": ("terminal hangs up", """
        faults/test_signals.py::test_a_terminal_that_hangs_up_drains
        faults/test_signals.py::test_hup_on_a_terminal_that_stands_is_a_reload"""),
    "75": ("working directory gone", """
        test_bad_input.py::test_a_working_directory_that_is_gone
        test_forkserver.py::test_it_follows_the_link_that_a_deployment_swings"""),
    "76": ("code replaced under it", """
        faults/test_files.py::test_code_that_is_replaced_under_it_is_not_missed"""),
    "77": ("run directory cleaned", """
        faults/test_files.py::test_a_pid_file_that_is_removed_comes_back_and_status_says_what_to_do
        test_status.py::test_not_running_is_code_69"""),
    "78": ("no descriptor left", """
        test_bad_input.py::test_few_descriptors_are_enough_and_too_few_kill_nobody
        test_bad_input.py::test_a_reload_without_a_descriptor_left_keeps_the_old"""),
    "79": ("config that others may write", """
        test_bad_input.py::test_a_config_file_that_everybody_may_write_to_stops_a_start_and_a_reload
        test_configfile.py::test_root_runs_no_file_of_somebody_else"""),
    "80": ("password shown", """
        test_bad_input.py::test_the_password_is_seen_nowhere
        test_work.py::test_no_password_is_to_be_seen_anywhere"""),
    "81": ("a plugin's socket abused", "- no built-in plugin listens on one"),
    "82": ("hostile pickle, missing function", """
        faults/test_poison.py::test_what_cannot_be_unpickled_fails_and_costs_no_worker
        faults/test_poison.py::test_what_kills_its_worker_when_it_is_unpickled_costs_one
        faults/test_poison.py::test_a_pickle_that_hangs_is_ended_by_the_jobs_own_timeout
        faults/test_poison.py::test_what_is_read_before_a_job_begins_may_be_hostile_too"""),
    "83": ("job hash that is wrong", """
        faults/test_poison.py::test_a_hash_that_is_wrong_costs_no_worker
        faults/test_poison.py::test_ids_that_are_none_are_dropped_with_a_line"""),
    "84": ("job that always kills its worker", """
        test_respawn.py::test_a_job_that_kills_every_worker_fails_at_the_third_death
        test_respawn.py::test_on_worker_death_requeue_puts_the_job_back_until_the_third
        faults/test_poison.py::test_with_retries_it_fails_at_the_third_death"""),
    # --- Plugins
    "85": ("hook raises", """
        test_lifecycle.py::test_what_these_hooks_raise_is_logged_and_contained
        test_lifecycle.py::test_a_job_fails_with_what_perform_job_raises
        test_lifecycle.py::test_app_loaded_that_fails_fails_the_generation
        test_lifecycle.py::test_before_exec_that_raises_abandons_the_re_exec"""),
    "86": ("hook hangs", """
        test_lifecycle.py::test_a_hook_that_hangs_is_cut_and_the_service_goes_on
        test_lifecycle.py::test_app_loaded_that_fails_fails_the_generation
        test_hooks.py::test_a_hook_that_swallows_the_cut_is_cut_again"""),
    "87": ("hook exits, forks, takes signals", """
        faults/test_processes.py::test_a_hook_that_forks_does_not_leave_two_of_us
        faults/test_processes.py::test_a_hook_that_takes_the_signals_gives_them_back
        test_forkserver.py::test_threads_that_the_app_left_running_are_named"""),
    "88": ("plugin cannot be imported", """
        test_plugins.py::test_what_was_asked_for_must_load
        test_plugins.py::test_what_is_merely_installed_must_not_hurt"""),
    # --- Machine
    "89": ("leak in arbiter or fork server", """
        test_soak.py::test_150_respawns_leave_nothing_behind"""),
    "90": ("suspend and resume", """
        faults/test_processes.py::test_after_a_suspend_nobody_is_judged_for_its_silence"""),
    "91": ("machine lost", """
        steward/test_dead.py::test_jobs_that_were_interrupted_too_often_fail_with_the_reason
        steward/test_dead.py::test_jobs_with_retries_run_again
        steward/test_dead.py::test_what_was_taken_and_not_begun_goes_back_to_the_front"""),
    "92": ("job longer than the grace", """
        test_signals.py::test_grace_bounds_a_drain_and_then_the_job_is_put_back"""),
    # --- What came with the fork servers
    "fork server killed": ("idle, busy, or again and again", """
        test_processes.py::test_killed_fork_server_its_workers_drain_under_the_arbiter
        test_respawn.py::test_a_fork_server_killed_again_and_again_comes_back
        test_reload.py::test_what_cannot_come_up_leaves_the_old_fully_in_service"""),
    "fork server stopped": ("with work to do for it", """
        faults/test_processes.py::test_a_fork_server_that_stands_still_is_killed_and_replaced"""),
    "arbiter killed between fork and forked": ("the worker is known to its record alone", """
        test_respawn.py::test_a_killed_arbiter_and_fork_server_leave_nobody_behind
        core/test_machine.py::TestAnyOrderOfEvents"""),
    "channel full": ("or half a message: a packet is whole or not there", """
        faults/test_processes.py::test_a_channel_that_is_full_keeps_what_is_sent_in_order"""),
    "record read while it is written": ("a half of the one and a half of the other", """
        faults/test_processes.py::test_a_record_that_is_read_while_it_is_written_is_whole"""),
    # --- It can always be stopped, and never goes deaf
    "fork server cannot be started": ("no descriptor, no process, no interpreter", """
        faults/test_failures.py::test_after_a_reload_that_cannot_be_started_it_works_on_and_can_be_stopped
        core/test_failures.py::test_after_a_reload_that_could_not_be_started_it_can_be_stopped
        core/test_failures.py::test_without_a_process_for_anything_it_can_be_stopped"""),
    "answer that never comes": ("a worker, a steward, a recovery", """
        core/test_failures.py::test_a_fork_server_that_owes_nothing_but_a_recovery_and_hangs_is_killed
        core/test_failures.py::test_a_steward_that_was_asked_for_before_a_suspend_is_not_forgotten
        core/test_machine.py::TestAnyOrderOfEvents"""),
    "terminal that stops who writes": ("stty tostop, in its background", """
        faults/test_terminal.py::test_it_neither_stops_nor_spins_nor_takes_it_for_fewer_workers"""),
    "signals blocked": ("by whoever started it, a plugin, an import", """
        faults/test_bad_plugins.py::test_a_hook_that_blocks_all_signals_makes_nobody_deaf
        faults/test_bad_plugins.py::test_an_import_that_blocks_all_signals_does_not_make_the_fork_server_deaf
        faults/test_bad_plugins.py::test_a_blocked_mask_at_the_start_is_not_kept"""),
    "descriptors closed by a plugin": ("all that are not standard", """
        faults/test_bad_plugins.py::test_a_hook_that_closes_every_descriptor_is_recovered_from"""),
    "log sink that raises": ("or a patcher, or logger.remove()", """
        faults/test_bad_plugins.py::test_what_is_done_to_logurus_logger_does_not_reach_our_log"""),
    "thread left by a plugin": ("at the arbiter's end", """
        faults/test_bad_plugins.py::test_what_a_plugin_has_left_does_not_hold_up_the_end
        faults/test_bad_plugins.py::test_a_signal_at_the_very_end_does_not_meet_a_thread_of_a_plugin"""),
    "loop that fails in every turn": ("whatever the reason", """
        faults/test_bad_plugins.py::test_a_loop_that_fails_in_every_turn_can_be_stopped"""),
    "scoreboard written over": ("by job code", """
        faults/test_scribbles.py::test_a_job_that_writes_over_the_scoreboard_stops_nobody
        faults/test_scribbles.py::test_whatever_stands_there_can_be_read_and_is_mended_by_the_next_write"""),
    # --- A slot backs off for its own failures only
    "jobs that kill their workers, one after another": ("a good one behind them", """
        faults/test_failures.py::test_jobs_that_end_their_worker_do_not_keep_a_good_one_waiting
        faults/test_failures.py::test_twenty_in_a_row_are_slowed_down_and_told"""),
    "recycled before the first job": ("a limit that no worker can keep", """
        faults/test_failures.py::test_a_recycle_before_the_first_job_does_not_fork_on_and_on"""),
    # --- Stopped and killed from outside
    "TERM to every process": ("with a job that has to be killed", """
        test_stopped_outside.py::test_term_to_every_process_puts_back_a_job_that_has_to_be_killed
        test_forkserver.py::test_told_to_leave_by_somebody_it_stays_to_recover_its_last_worker"""),
    "no fork server at a stop": ("and a job to be recovered", """
        test_stopped_outside.py::test_a_stop_starts_a_fork_server_for_a_job_whose_worker_and_fork_server_were_killed
        core/test_stop.py::test_a_fork_server_that_is_slow_to_load_is_waited_for
        core/test_stop.py::test_a_fork_server_that_backs_off_is_started_at_once"""),
    "workers killed while they boot": ("before the first is ready", """
        test_stopped_outside.py::test_a_service_whose_workers_are_killed_while_they_boot_comes_up
        core/test_decisions.py::test_a_start_whose_workers_are_killed_from_outside_has_a_quarter_of_a_minute"""),
}  # fmt: skip
