"""What real people, applications and servers do: the catalogue's second half, row by row.

The kinds are those of real life: names and sizes, ways to start, servers, other people's classes.
"""

FIELD: dict[str, tuple[str, str]] = {
    # row: (fault, tests as `path::name`, a line each; or, after `-`, why there is none)
    # --- Jobs that are cut
    "cut swallowed": ("caught, turned into another exception, or by a plugin around the job", """
        worker/test_cuts.py::test_a_stopped_job_that_swallows_it_is_stopped
        worker/test_cuts.py::test_an_interrupted_job_that_swallows_it_goes_back
        worker/test_cuts.py::test_swallowing_does_not_get_around_the_limit
        worker/test_cuts.py::test_a_killed_horse_that_does_not_leave_has_failed_too"""),
    "stopped in a callback": ("or in an exception handler, also in C code", """
        worker/test_cuts.py::test_stop_job_ends_a_callback
        worker/test_cuts.py::test_a_callback_that_does_not_leave_is_killed_and_the_job_is_stopped
        test_stop_job.py::test_a_callback_ends_long_before_its_timeout"""),
    "stopped callback": ("slow, or the end of its process", """
        test_stop_job.py::test_a_slow_stopped_callback_is_called_once_and_ends
        worker/test_cuts.py::test_a_stopped_callback_that_ends_its_process_is_called_once
        worker/test_cuts.py::test_not_once_a_recovery_either"""),
    "programs of a job that is cut": ("in any session, with dead parents, that ignore TERM", """
        test_descendants.py::test_they_end_with_a_stopped_job
        test_descendants.py::test_they_end_before_an_interrupted_job_is_put_back
        test_descendants.py::test_they_end_with_a_job_whose_time_is_over
        test_descendants.py::test_they_end_with_the_grace
        test_descendants.py::test_they_end_with_a_job_whose_fork_server_is_dead
        test_descendants.py::test_they_end_with_a_job_that_kills_its_worker
        test_descendants.py::test_they_end_where_the_mark_cannot_be_had
        test_descendants.py::test_they_end_without_redis_too
        test_descendants.py::test_they_end_when_everything_was_killed_and_the_next_start_recovers
        test_descendants.py::test_those_of_another_worker_stay"""),
    "programs that a job leaves": ("named; ended with the worker if in its group", """
        test_descendants.py::test_what_a_finished_job_leaves_is_named_and_ends_with_its_worker
        test_descendants.py::test_a_recycled_worker_leaves_nothing_in_its_group
        test_descendants.py::test_what_is_older_than_the_job_stays"""),
    # --- Names and sizes
    "odd queue names": ("equals signs, blanks, colons, other alphabets, emoji", """
        test_names.py::test_every_name_that_rq_takes_is_served_from_the_file
        test_names.py::test_every_name_can_be_written_on_the_command_line
        test_names.py::test_a_queue_survives_the_channel_to_the_last_digit"""),
    "queue names that are mistakes": ("commas, patterns, shares after a colon, no UTF-8", """
        test_names.py::test_what_is_surely_a_mistake_is_refused_with_the_remedy
        test_names.py::test_the_same_mistakes_are_refused_in_variable_and_file"""),
    "many queues, many settings": ("more than a packet or a page holds", """
        test_names.py::test_thousands_of_queues_and_settings
        test_names.py::test_many_long_names_in_another_alphabet_leave_the_stop_words_alone"""),
    "numbers at the edge": ("1e11 seconds, 400 digits, nan", """
        test_names.py::test_a_number_beyond_any_use_is_refused
        test_names.py::test_the_largest_numbers_that_are_taken_work"""),
    "text a terminal acts on": ("C1, bidirectional marks, line separators", """
        test_names.py::test_hostile_names_in_log_title_and_status
        test_names.py::test_a_title_holds_nothing_that_a_terminal_acts_on"""),
    # --- Servers
    "another master behind the name": ("a failover by DNS; the old one answers", """
        server/test_failover.py::test_everybody_moves_to_the_new_master
        server/test_failover.py::test_a_recovery_moves_too
        server/test_failover.py::test_no_worker_hammers_a_server_that_takes_no_writes"""),
    "a changed password": ("and connections that are lost after it", """
        server/test_rights.py::test_a_password_that_is_no_longer_good_is_tried_again"""),
    "a service behind sentinel": ("a failover under load, a switch, credentials, spellings", """
        server/test_sentinel.py::test_a_failover_under_load
        server/test_sentinel.py::test_a_switch_while_the_master_lives
        server/test_sentinel.py::test_credentials_and_a_database_as_rqs_settings_have_them
        server/test_sentinel.py::test_what_the_sentinels_do_not_know_or_tell_is_said
        server/test_sentinel.py::test_rqs_settings_module"""),
    "a server of the wrong kind": ("a cluster; TLS on one side only; one that evicts jobs", """
        server/test_failover.py::test_a_real_cluster_is_named
        server/test_failover.py::test_a_cluster_is_named
        server/test_tls.py::test_redis_against_a_port_that_speaks_tls
        server/test_tls.py::test_rediss_against_a_plain_port
        server/test_rights.py::test_eviction_of_jobs_is_warned_of"""),
    "few rights": ("an ACL that allows what is needed, and no more", """
        server/test_rights.py::test_the_least_rights_are_enough
        server/test_rights.py::test_channels_as_a_rule_allows_them
        server/test_rights.py::test_without_client_it_works_all_the_same"""),
    "names that are not ascii": ("of hosts and of workers", """
        server/test_rights.py::test_a_name_that_is_not_ascii
        server/test_rights.py::test_a_host_name_that_is_not_ascii"""),
    "a worker that reads no job": ("wrong serializer, job class or connection class", """
        worker/test_unread.py::test_the_worker_stops_and_the_queue_does_not
        worker/test_unread.py::test_one_that_can_be_read_shows_that_the_worker_is_right
        worker/test_unread.py::test_text_instead_of_bytes_is_refused_at_the_start
        worker/test_unread.py::test_a_connection_class_that_gives_text_is_refused_too"""),
    "processes that /proc hides": ("another user's, under hidepid or ProtectProc", """
        steward/test_hidden.py::test_the_living_are_left_alone_and_the_dead_are_not
        steward/test_hidden.py::test_who_is_there_for_too_long_without_a_word_is_another_one"""),
    # --- Coming from rq worker
    "delayed retries": ("no scheduler was asked for", """
        test_from_rq.py::test_scheduled_jobs_run_unless_one_says_otherwise
        test_from_rq.py::test_a_scheduled_job_without_a_scheduler_is_told_of"""),
    "rq's settings": ("a settings module, REDIS_* in the environment, service links", """
        test_from_rq.py::test_a_settings_module_names_server_queues_and_workers
        test_from_rq.py::test_a_settings_module_is_read_as_rq_reads_it
        test_from_rq.py::test_variables_of_the_environment_name_the_server
        test_from_rq.py::test_the_order_of_the_sources"""),
    "a url as secrets have it": ("newlines, other databases, misspelt parameters", """
        test_from_rq.py::test_a_url_as_secrets_and_charts_have_it
        test_from_rq.py::test_a_url_that_cannot_be_says_why
        test_from_rq.py::test_a_parameter_that_no_connection_takes_is_told_with_the_one_meant"""),
    "a job that must not run twice": ("TERM puts it back, unless its queue drains", """
        test_from_rq.py::test_term_can_mean_one_thing_for_one_queue_and_another_for_the_rest
        test_from_rq.py::test_a_second_term_interrupts_all"""),
    # --- Leaving in good order
    "exit handlers hang or crash": ("in Python, in C, in a thread; the slot has not failed", """
        test_exit.py::test_trouble_in_the_exit_is_named_once_and_is_no_failure_of_the_slot
        test_exit.py::test_a_stop_now_ends_in_time_whatever_waits_for_the_exit
        core/test_decisions.py::test_an_end_in_its_exit_is_no_failure_of_the_slot"""),
    "work put off until the exit": ("atexit, threads, executors, temporary directories, events", """
        test_exit.py::test_what_waits_for_the_exit_is_done
        test_error_trackers.py::test_each_failed_job_arrives_once"""),
    "helpers made before the fork": ("ended with their fork server, and by nobody else", """
        test_exit.py::test_what_was_made_before_the_fork_belongs_to_the_fork_server
        test_exit.py::test_a_reload_leaves_no_helper_behind"""),
    # --- How people start, restart and daemonize it
    "old release deleted": ("a deployment by symbolic link, then HUP and USR2", """
        start/test_invocation.py::test_a_deploy_by_symlink_runs_the_new_release"""),
    "other ways to start": ("options of the interpreter, -m, a script with a path of its own", """
        start/test_invocation.py::test_options_of_the_interpreter_reach_the_jobs_and_outlive_a_re_exec
        start/test_invocation.py::test_an_isolated_interpreter_stays_one
        start/test_invocation.py::test_a_script_that_makes_the_packages_importable_is_what_fork_servers_run
        start/test_invocation.py::test_as_a_module"""),
    "standard streams closed": ("or descriptors and locks of the caller open", """
        start/test_start.py::test_a_daemon_comes_up_whatever_standard_streams_are_closed
        start/test_start.py::test_a_daemon_keeps_no_descriptor_and_no_lock_of_its_caller"""),
    "failed start with a log file": ("told on standard error, leaves no pid file", """
        start/test_start.py::test_a_failed_start_says_so_on_standard_error_also_with_a_log_file
        start/test_start.py::test_a_pid_file_that_cannot_be_written_is_not_left_behind"""),
    "pid directory swept": ("told of once a minute, put right when it is back", """
        start/test_start.py::test_a_swept_pid_directory_is_told_of_once_a_minute"""),
    "hostile working directory": ("modules of the same names, read by root", """
        start/test_path.py::test_root_that_looks_for_help_runs_nothing_of_that_directory
        start/test_invocation.py::test_nothing_is_imported_from_the_working_directory_unasked
        start/test_path.py::test_a_module_of_a_job_in_two_places_is_named_with_both_paths"""),
    "files of somebody else": ("plugins, state directory, pid file, links to logs", """
        start/test_ownership.py::test_root_runs_no_plugin_of_somebody_else
        start/test_ownership.py::test_a_log_file_is_not_reached_through_a_link_of_somebody_else
        start/test_ownership.py::test_a_pid_file_of_somebody_else
        start/test_ownership.py::test_a_state_directory_of_somebody_else"""),
    "gevent": ("an application that patches the interpreter", """
        start/test_gevent.py::test_jobs_run_wait_and_start_processes
        start/test_gevent.py::test_a_timeout_ends_a_job_in_time
        start/test_gevent.py::test_a_stop_command_ends_a_job_without_its_worker_being_killed
        start/test_gevent.py::test_term_puts_the_job_back_and_everything_leaves_in_time"""),
    "no memfd, eventfd or prctl": ("one clear line", """
        start/test_kernel.py::test_what_the_system_refuses_is_one_line
        start/test_kernel.py::test_an_option_of_prctl_that_the_system_refuses_is_one_line
        start/test_kernel.py::test_another_system_is_one_line"""),
    "password in odd forms": ("quotes, blanks, parameters", """
        start/test_passwords.py::test_a_known_password_is_taken_out_in_every_form
        start/test_passwords.py::test_no_command_shows_it
        start/test_passwords.py::test_neither_log_nor_title_nor_status_of_a_service_shows_it"""),
    # --- Other people's worker classes
    "names of a class": ("methods and attributes that are called like ours", """
        worker/test_own_classes.py::test_names_of_a_class_may_be_any
        worker/test_own_classes.py::test_what_a_class_overrides_is_called
        worker/test_foreign.py::test_takes_no_name_that_a_users_class_may_want"""),
    "class of RQ 2": ("refused by the method's name", """
        worker/test_own_classes.py::test_what_rq_3_could_not_call_is_refused_by_name"""),
    "job skipped by its class": ("handed out once", """
        worker/test_own_classes.py::test_a_job_that_is_skipped_is_handed_out_once"""),
    "class and a dead worker": ("what it overrides is called, or it cannot even be made", """
        worker/test_own_classes.py::test_a_class_hears_of_a_job_whose_worker_was_killed
        worker/test_own_classes.py::test_a_class_that_cannot_be_made_again_does_not_hold_up_recovery"""),
    "horse killed": ("counted, told to the hooks, put back if so wished", """
        worker/test_own_classes.py::test_the_hooks_hear_of_a_dead_horse
        worker/test_own_classes.py::test_dead_horses_are_put_back_until_the_limit
        worker/test_foreign.py::test_stopped_now_its_horse_is_killed_and_the_job_put_back"""),
    "function of tomorrow": ("put off for hosts that know it, then failed", """
        worker/test_unknown_function.py::test_it_waits_for_a_host_that_knows_it
        worker/test_unknown_function.py::test_it_fails_as_with_rq_unless_told_otherwise"""),
    "worker in somebody's program": ("used again, used without its loop", """
        worker/test_own_classes.py::test_work_may_be_called_again_and_gives_the_process_back
        worker/test_own_classes.py::test_a_job_may_be_performed_without_work
        worker/test_own_classes.py::test_perform_job_that_raises_gives_the_job_an_outcome"""),
    # --- What Redis says, and what is
    "ids without jobs": ("deleted or expired, thousands of them, in a burst too", """
        worker/test_taking.py::test_a_burst_passes_over_what_is_gone
        worker/test_taking.py::test_what_is_gone_costs_next_to_nothing"""),
    "job that cannot be begun": ("a timeout of 400 digits, a job class that raises", """
        worker/test_taking.py::test_a_timeout_of_400_digits_fails_its_job_alone
        worker/test_taking.py::test_a_job_class_that_raises_before_the_start"""),
    "half a taking": ("a command that is refused, a pause before the start", """
        worker/test_taking.py::test_the_claim_comes_first
        worker/test_taking.py::test_a_pause_between_taking_and_beginning"""),
    "parents that end at once": ("fan-in with allow_failure", """
        worker/test_dependents.py::test_two_parents_that_end_at_the_same_moment"""),
    "outcome slower than heartbeats": ("many dependents on a slow line", """
        worker/test_giving_up.py::test_heartbeats_do_not_keep_an_outcome_from_being_written"""),
    "recovery that cannot succeed": ("because of the job's own data", """
        worker/test_giving_up.py::test_what_cannot_be_recovered_is_failed_barely
        worker/test_giving_up.py::test_it_waits_for_a_server_that_takes_no_writes"""),
    "keys flushed or evicted": ("of workers, in part", """
        steward/test_registration.py::test_a_flush_right_after_the_start
        steward/test_registration.py::test_a_list_that_was_evicted
        steward/test_registration.py::test_a_key_of_which_a_part_is_there
        steward/test_registration.py::test_a_worker_that_was_taken_for_dead"""),
    "server that goes back in time": ("claims and executions of our own workers", """
        steward/test_strays.py::test_an_execution_of_a_worker_that_is_idle
        steward/test_strays.py::test_an_execution_of_a_worker_that_has_another_job
        steward/test_strays.py::test_an_execution_and_a_claim_of_a_worker_that_has_left"""),
    "odd entries": ("another type, not UTF-8, deep JSON, 70 KB", """
        steward/test_poison.py::test_everything_else_goes_on
        steward/test_poison.py::test_maintenance_of_other_jobs_goes_on"""),
    "one name for two arbiters": ("replicas of one deployment", """
        steward/test_names.py::test_replicas_of_one_deployment
        steward/test_names.py::test_the_name_of_the_dead_is_free"""),
    "leading idle worker stopped": ("or at maintenance, when a job is pushed", """
        steward/test_wake.py::test_the_leader_is_stopped
        steward/test_wake.py::test_the_leader_maintains"""),
    "TERM while Redis is away": ("and what the next start makes of it", """
        test_unrecovered.py::test_a_stop_is_no_death
        test_unrecovered.py::test_a_death_is_no_stop"""),
    # --- Between two jobs
    "job changes its process": ("handlers, streams, directory, variables, context, limits", """
        worker/test_boundary.py::test_whatever_a_job_does_to_its_process_the_next_finds_it_as_it_was
        worker/test_boundary.py::test_what_an_import_sets_stays_and_what_the_job_sets_then_does_not
        worker/test_boundary.py::test_after_a_job_that_took_all_signals_the_worker_still_obeys
        worker/test_boundary.py::test_rotation_during_a_job_that_has_redirected_its_output
        worker/test_boundary.py::test_a_worker_that_cannot_be_set_right_is_replaced"""),
    "job leaks descriptors": ("until there is none left", """
        worker/test_boundary.py::test_jobs_that_leave_descriptors_open_do_not_starve_the_next"""),
    "job spoils its connection": ("SELECT, MULTI, close, half a reply, a long BLPOP", """
        worker/test_left_by_jobs.py::test_whatever_a_job_does_to_its_connection_is_over_with_it
        worker/test_left_by_jobs.py::test_a_job_may_wait_in_redis_for_longer_than_the_worker_ever_would"""),
    "job leaves threads or zombies": ("job after job", """
        worker/test_left_by_jobs.py::test_threads_that_jobs_leave_are_named_once_and_counted
        worker/test_left_by_jobs.py::test_max_threads_replaces_the_worker
        worker/test_left_by_jobs.py::test_ended_children_are_reaped_unless_somebody_will_ask_for_them"""),
    "large jobs": ("one after another, without the collector", """
        worker/test_left_by_jobs.py::test_a_job_its_arguments_and_its_result_are_let_go_of_without_the_collector"""),
    "connection opened before the fork": ("all workers would read each other's answers", """
        test_forkserver.py::test_connections_that_the_app_left_open_are_named_by_their_peers"""),
    "job's key overwritten": ("while it runs", """
        worker/test_overwritten.py::test_its_worker_goes_on
        worker/test_overwritten.py::test_its_worker_goes_on_without_its_dependents"""),
    "job cancelled or deleted": ("while it runs, by itself or by another", """
        worker/test_overtaken.py::test_job_that_ends_itself
        worker/test_overtaken.py::test_job_that_somebody_ends_while_it_runs
        worker/test_overtaken.py::test_job_under_a_rate_limit_that_somebody_ends_while_it_runs"""),
}  # fmt: skip
