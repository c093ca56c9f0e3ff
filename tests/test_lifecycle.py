"""The life cycle as the hooks see it: in which order, in which process, and what contains them."""

from __future__ import annotations

import inspect
import itertools
import os
import re

import pytest

from harness import jobs, probe, processes
from harness.waiting import stays_true, wait_for
from resqued import hookspecs

HOOKS = [name for name, item in vars(hookspecs).items() if hasattr(item, "resqued_spec")]
PERIODIC = {"tick", "worker_count", "should_recycle", "order_queues"}

UNORDERED = {"worker_started"}
"""Called in the arbiter while the worker boots."""


def test_the_probe_implements_every_hook_with_all_its_arguments():
    for name in HOOKS:
        ours = inspect.signature(getattr(probe, name)).parameters
        theirs = inspect.signature(getattr(hookspecs, name)).parameters
        assert list(ours) == list(theirs)


def test_the_whole_life_cycle(resqued, queue):
    arbiter = resqued("-n", 1, "-r", "app", app="", probe=True)
    arbiter.wait_for_call("arbiter_ready")
    job = queue().enqueue(jobs.noop)
    arbiter.wait_for_call("after_job")
    assert arbiter.stop("QUIT") == 0

    calls = [str(call) for call in arbiter.calls() if call.hook not in PERIODIC | UNORDERED]
    assert [call for call, _ in itertools.groupby(calls)] == [
        "arbiter add_options",
        "arbiter configure",
        "arbiter choose_queues",
        "arbiter arbiter_started",
        "arbiter fork_server_env",
        "forkserver before_load",
        "forkserver app_loaded",
        "forkserver duties",
        "forkserver before_fork",
        "worker after_fork",
        "worker worker_ready",
        "arbiter arbiter_ready",
        "worker before_job",
        "worker perform_job",
        "worker after_job",
        "arbiter signal_received",
        "arbiter arbiter_stopping",
        "worker worker_exiting",
        "arbiter worker_exited",
        "arbiter arbiter_exited",
    ]
    told = {call.hook: call.arguments for call in arbiter.calls()}
    assert told["choose_queues"] == {"number": 1, "count": 1}
    assert told["arbiter_started"]["reason"] == told["arbiter_ready"]["reason"] == "start"
    assert told["arbiter_ready"]["error"] is None
    assert told["before_load"] == told["app_loaded"]
    assert told["app_loaded"]["generation"]["modules"] == ["app"]
    assert told["before_fork"]["worker"]["pid"] is None
    assert told["before_job"]["job"] == told["after_job"]["job"] == job.id
    assert told["worker_started"]["worker"]["pid"] == told["after_fork"]["worker"]["pid"]
    assert told["worker_started"]["worker"]["trial"] is False
    for hook in ("before_job", "perform_job", "after_job"):
        seen = told[hook]["worker"]
        assert (seen["job_id"], seen["queue"]) == (job.id, "default")
        assert seen["function"] == "harness.jobs.noop"
    assert told["perform_job"]["worker"]["timeout"] == 180
    assert told["perform_job"]["worker"]["job_started"] > 0
    assert told["after_job"]["outcome"]["status"] == "finished"
    assert told["signal_received"]["signame"] == "QUIT"
    assert told["arbiter_stopping"]["graceful"] is True
    assert told["arbiter_stopping"]["dropped"] is False
    assert told["worker_exited"]["exit"]["code"] == 0
    assert told["worker_exited"]["exit"]["expected"] is True
    assert told["worker_exited"]["exit"]["reason"] == "asked"
    assert told["worker_exited"]["exit"]["out_of_memory"] is False
    assert told["arbiter_exited"]["exit_code"] == 0


def test_every_hook_is_called_in_the_process_its_docstring_names(resqued, queue, gate):
    """One run that comes by all of them: a failed reload, a re-exec, a stuck and a recycled
    worker."""
    arbiter = resqued(
        "-n",
        1,
        "--max-jobs",
        1,
        "--kill-after",
        0,
        "-r",
        "app",
        app="",
        probe=True,
        expect_errors="stuck|killed|died|Traceback|gen=2|reload failed",
    )
    arbiter.wait_for_call("arbiter_ready")
    queue().enqueue(jobs.noop)
    arbiter.wait_for_call("worker_exited")
    arbiter.signal("USR1")
    arbiter.wait_for_call("reopen_logs", times=3)
    queue().enqueue(jobs.stuck_in_c, str(gate()), job_timeout=1)
    arbiter.wait_for_call("worker_stuck", timeout=15)
    arbiter.wait_for_call("worker_exited", times=2, timeout=20)
    lost = arbiter.wait_for_call("job_lost", timeout=20)[0].arguments
    assert lost["verdict"] == "failed"
    assert lost["worker"]["job_id"] == lost["job_id"]
    assert lost["worker"]["function"] == "harness.jobs.stuck_in_c"
    arbiter.wait_for_call("worker_count")
    arbiter.control("greet")
    arbiter.wait_for_call("control")
    (arbiter.directory / "app.py").write_text("1 / 0")
    arbiter.signal("HUP")
    failed = arbiter.wait_for_call("generation_failed", timeout=30)[0].arguments
    assert failed["generation"]["number"] == 2
    assert "ZeroDivisionError" in failed["reason"]
    ready = arbiter.wait_for_call("arbiter_ready", times=2)[1].arguments
    assert ready == {"arbiter": "ArbiterView", "reason": "reload", "error": failed["reason"]}
    (arbiter.directory / "app.py").write_text("")
    arbiter.signal("USR2")
    arbiter.wait_for_call("arbiter_ready", times=3, timeout=30)
    assert arbiter.stop("TERM") == 0

    everywhere = {"arbiter", "forkserver", "worker"}
    seen: dict[str, set[str]] = {}
    for call in arbiter.calls():
        if call.role != "check":  # of the re-exec, which does what a start does
            seen.setdefault(call.hook, set()).add(call.role)
    named = {hook: {_named_process(hook)} for hook in HOOKS}
    several = {"reopen_logs": everywhere, "add_options": {"arbiter", "forkserver"}}
    assert seen == {**named, **several}


def _named_process(hook: str) -> str:
    """From the docstring's `Runs in the ...`."""
    text = inspect.getdoc(getattr(hookspecs, hook)) or ""
    place = re.search(r"^Runs in (?:the )?(\w+( server)?)", text, re.MULTILINE)
    assert place, f"{hook} does not say where it runs"
    return {"command": "arbiter", "fork server": "forkserver", "job": "worker"}.get(
        place[1], place[1]
    )


# --- Contained -------------------------------------------------------------------------------

CONTAINED = [
    "arbiter_ready",
    "tick",
    "signal_received",
    "choose_queues",
    "worker_count",
    "worker_exited",
    "before_fork",
    "should_recycle",
    "worker_exiting",
    "before_job",
    "after_job",
    "reopen_logs",
    "arbiter_started",
    "arbiter_stopping",
    "arbiter_exited",
]
"""Hooks of which the contract says `logged, and ...`: the service goes on as without them."""


@pytest.mark.parametrize("fault", ["raise", "exit"])
def test_what_these_hooks_raise_is_logged_and_contained(resqued, queue, fault):
    arbiter = resqued(
        "-n",
        2,
        faults=",".join(f"{hook}={fault}" for hook in CONTAINED),
        expect_errors=r"hook \w+: plugin '[\w.]*probe'|Traceback|Broken|SystemExit",
    )
    arbiter.wait_for_workers(2)
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, what="the job to be done all the same")
    arbiter.signal("USR1", "TTOU")
    arbiter.wait_for_workers(1)
    assert arbiter.stop("QUIT") == 0

    called = {call.hook for call in arbiter.calls()}
    for hook in CONTAINED:
        assert hook in called, f"{hook} was called"
        arbiter.wait_for(rf"hook {hook}: plugin '[\w.]*probe' raised .*probe\.py:\d+", timeout=0)


@pytest.mark.parametrize("hook", ["tick", "before_fork"])
def test_a_hook_that_hangs_is_cut_and_the_service_goes_on(resqued, queue, hook):
    arbiter = resqued(
        faults=f"{hook}=hang", expect_errors=rf"hook {hook}: plugin|Traceback|HookTimeout"
    )
    arbiter.wait_for(rf"hook {hook}: plugin '[\w.]*probe' raised HookTimeout", timeout=15)
    arbiter.wait_for_workers(1)
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, what="a job to be done")


@pytest.mark.parametrize("fault", ["raise", "exit", "refuse"])
@pytest.mark.parametrize("hook", ["add_options", "configure"])
def test_these_hooks_stop_a_start(resqued, hook, fault):
    arbiter = resqued(faults=f"{hook}={fault}", expect_errors=".")
    assert arbiter.exit() == os.EX_CONFIG
    assert f"{hook} was told to" in arbiter.log()


def test_arbiter_started_may_refuse(resqued):
    arbiter = resqued(faults="arbiter_started=refuse", expect_errors=".")
    assert arbiter.exit() == os.EX_CONFIG
    assert "arbiter_started was told to refuse" in arbiter.log()
    assert [call.hook for call in arbiter.calls()][-1] == "arbiter_exited"


@pytest.mark.parametrize("fault", ["raise", "exit", "hang"])
def test_app_loaded_that_fails_fails_the_generation(resqued, fault):
    arbiter = resqued("--boot-timeout", 2, faults=f"app_loaded={fault}", expect_errors=".")
    assert arbiter.exit(15) == os.EX_CONFIG
    assert not arbiter.calls("before_fork")


@pytest.mark.parametrize("fault", ["raise", "exit"])
@pytest.mark.parametrize("hook", ["after_fork", "worker_ready"])
def test_a_worker_whose_boot_hook_raises_is_tried_again_then_given_up(resqued, hook, fault):
    arbiter = resqued("-n", 1, faults=f"{hook}={fault}", expect_errors=".")
    assert arbiter.exit(20) == 70
    assert len(arbiter.calls(hook)) == 3
    assert not arbiter.calls("arbiter_ready")


def test_a_worker_whose_boot_hook_hangs_is_killed_and_tried_again(resqued):
    # it also bounds the start of the fork server, which takes its time on a busy machine
    arbiter = resqued("-n", 1, "--boot-timeout", 5, faults="after_fork=hang", expect_errors=".")
    ending = arbiter.wait_for_call("worker_exited", timeout=40)[0].arguments["exit"]
    assert ending["signal"] == 9
    assert not ending["booted"]
    first, second = arbiter.wait_for_call("after_fork", times=2, timeout=20)[:2]
    assert first.pid != second.pid


def test_before_fork_may_veto(resqued, queue):
    arbiter = resqued(faults="before_fork=veto")
    calls = arbiter.wait_for_call("before_fork", times=3)
    assert not arbiter.calls("after_fork")
    assert len({call.pid for call in calls}) == 1
    assert arbiter.running


@pytest.mark.parametrize("fault", ["raise", "exit"])
def test_a_job_fails_with_what_perform_job_raises(resqued, queue, fault):
    arbiter = resqued(faults=f"perform_job={fault}", expect_errors=".")
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_failed, what="the job to fail")
    assert "perform_job was told to" in job.latest_result().exc_string
    assert arbiter.ledger.started() == [], "before the yield: it has not run"


@pytest.mark.parametrize("fault", ["raise", "exit"])
def test_before_exec_that_raises_abandons_the_re_exec(resqued, queue, fault):
    arbiter = resqued(faults=f"before_exec={fault}", expect_errors="before_exec|Traceback|re-exec")
    worker = arbiter.wait_for_workers(1)[1]
    arbiter.signal("USR2")
    arbiter.wait_for_call("before_exec")
    arbiter.wait_for(r"hook before_exec: plugin '[\w.]*probe' raised")
    stays_true(lambda: processes.alive(worker.pid), 0.5, "everything runs on")
    assert len(arbiter.calls("arbiter_started")) == 1


def test_a_plugin_that_raises_does_not_stop_the_others(resqued):
    arbiter = resqued(
        faults="arbiter_ready=raise,before_fork=raise,worker_exiting=raise",
        expect_errors="probe|Broken|Traceback",
        config="""
            def arbiter_ready(arbiter): open("arbiter_ready", "w")
            def before_fork(worker): open("before_fork", "w")
            def worker_exiting(worker): open("worker_exiting", "w")
        """.replace('"w")', '"w").close()'),
    )
    arbiter.wait_for_call("arbiter_ready")
    assert arbiter.stop("QUIT") == 0
    for hook in ("arbiter_ready", "before_fork", "worker_exiting"):
        assert (arbiter.directory / hook).exists()
