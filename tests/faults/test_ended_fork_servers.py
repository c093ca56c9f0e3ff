"""Fork servers that a plugin, or the application, ends: what did it is named."""

from __future__ import annotations

import os
import signal

import pytest

from harness import jobs
from harness.waiting import wait_for

ONCE = """
    import os
    from pathlib import Path

    def before_fork():
        if Path("now").exists():
            Path("now").unlink()
            {deed}
"""
"""A deed of a hook, when a test has made the file `now`."""

HOOK = "fork server .*during hook {} of plugin 'resqued.conf.py'"


@pytest.mark.parametrize(
    ("deed", "how"),
    [
        ("os._exit(0)", "exit status 0"),
        ("os._exit(3)", "exit status 3"),
        ("os.kill(os.getpid(), 11)", "signal 11"),
        ("os.closerange(3, 4096)", "exit status 70"),
    ],
)
def test_a_hook_that_ends_each_fork_server_is_named_and_the_start_given_up(resqued, deed, how):
    config = f"import os\ndef before_fork():\n    {deed}\n"
    arbiter = resqued(config=config, expect_errors=".")
    assert arbiter.exit(timeout=30) == 70
    arbiter.wait_for(
        f"gen=1 fork server ended: {how}.*, during hook before_fork of plugin", times=2
    )
    arbiter.wait_for(f"fork server has ended 3 times before a worker was ready: {how}.*during hook")


def test_a_hook_that_ends_a_fork_server_later_is_named_too(resqued, queue):
    arbiter = resqued(
        "-r",
        "harness.jobs",
        config=ONCE.format(deed="os._exit(0)"),
        expect_errors="fork server",
    )
    arbiter.wait_for_workers(1)
    (arbiter.directory / "now").touch()
    os.kill(arbiter.workers()[1].pid, signal.SIGKILL)
    arbiter.wait_for(HOOK.format("before_fork"))
    arbiter.wait_for("worker=1 .* ready", times=2, timeout=20)
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, 15, "a job")
    os.kill(arbiter.fork_servers()[0].pid, signal.SIGKILL)  # between two calls
    arbiter.wait_for("gen=1 fork server ended: signal 9; its workers")
    assert arbiter.stop("QUIT") == 0


@pytest.mark.parametrize("deed", ["os._exit(0)", "os._exit(3)", "os.abort()"])
def test_an_import_that_ends_the_fork_server_is_named(resqued, deed):
    arbiter = resqued("-r", "app", app=f"import os\n{deed}\n", expect_errors=".")
    assert arbiter.exit(timeout=30) == 78
    arbiter.wait_for("fork server ended while it loaded: .*, during the import of 'app'")


@pytest.mark.parametrize("hook", ["before_load", "app_loaded", "duties"])
def test_a_reload_that_a_hook_ends_names_it(resqued, hook):
    arbiter = resqued(config="", expect_errors=".")
    arbiter.wait_for_workers(1)
    text = f"import os\ndef {hook}():\n    os._exit(0)\n"
    (arbiter.directory / "resqued.conf.py").write_text(text)
    arbiter.signal("HUP")
    arbiter.wait_for(
        f"while it booted: exit status 0, during hook {hook} of plugin 'resqued.conf.py'"
    )
    assert arbiter.stop("TERM") == 0


def test_what_hangs_while_it_is_loaded_is_named(resqued):
    app = "import time\nwhile True: time.sleep(0.1)\n"
    arbiter = resqued("-r", "app", "--boot-timeout", 2, app=app, expect_errors=".")
    assert arbiter.exit(timeout=30) == 78
    arbiter.wait_for("not up after 2 s .*still loading, during the import of 'app'")


def test_a_fork_server_that_is_told_to_leave_while_it_loads_has_no_culprit(resqued, gate):
    waits = gate()
    app = f"from harness import jobs\njobs.wait_at({str(waits)!r})\n"
    arbiter = resqued("-r", "app", app=app)
    waits.wait_until_reached()
    os.kill(arbiter.fork_servers()[0].pid, signal.SIGTERM)
    arbiter.wait_for("fork server was told to leave, and not by the arbiter")
    waits.open()
    arbiter.wait_for_workers(1)
    assert arbiter.stop("TERM") == 0


def test_a_fork_server_whose_descriptors_are_closed_says_by_what(resqued, queue):
    log = ["--log-file", "resqued.log"]
    arbiter = resqued(
        "-r",
        "harness.jobs",
        *log,
        config=ONCE.format(deed="os.closerange(3, 4096)"),
        expect_errors="fork server",
    )
    arbiter.log_file = arbiter.directory / "resqued.log"
    arbiter.wait_for_workers(1)
    (arbiter.directory / "now").touch()
    os.kill(arbiter.workers()[1].pid, signal.SIGKILL)
    arbiter.wait_for(
        "hook before_fork: plugin 'resqued.conf.py' has closed descriptors of the fork server:"
        " the channel to the arbiter, the scoreboard, the doorbell, the file of stacks; the fork"
    )
    arbiter.wait_for(HOOK.format("before_fork"))
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, 20, "a job")
    assert arbiter.stop("QUIT") == 0
