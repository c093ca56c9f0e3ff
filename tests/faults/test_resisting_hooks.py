"""Hooks that do not end: the arbiter's image is replaced, without the hooks of their plugin."""

from __future__ import annotations

import time

import pytest

from harness import jobs, processes
from harness.waiting import scaled, wait_for

SWALLOWS = """
    import signal, time
    from pathlib import Path
    from resqued.arbiter import call_watch
    from resqued.plugins import hooks, limits

    hooks.LIMIT, limits.LOOK, call_watch.LOOK, call_watch.MASKED = 1.0, 0.25, 0.25, 1.25

    def {hook}({argument}):
        if {when}:
            Path("hanging").touch()
            {first}
            while True:
                try:
                    {wait}
                except BaseException:
                    pass

    def worker_exited(worker):
        Path("told-of-the-end").touch()
"""

ERRORS = "swallowed|are not called|cannot be ended|cannot be interrupted|HookTimeout|^ {4}"


def resisting(
    hook: str, argument: str, *, when: str = "True", first: str = "pass", wait: str = ""
) -> str:
    """A config file with a hook that never ends."""
    wait = wait or "time.sleep(3600)"
    return SWALLOWS.format(hook=hook, argument=argument, when=when, first=first, wait=wait)


UNREACHABLE = {
    "swallows": {},
    "in Python code": {"wait": "[None for _ in iter(int, 1)]"},
    "blocks all signals": {
        "first": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())"
    },
    "takes SIGALRM": {"first": "signal.signal(signal.SIGALRM, signal.SIG_IGN)"},
    "stops the timer": {"first": "signal.setitimer(signal.ITIMER_REAL, 0)"},
    "changes the wakeup descriptor": {"first": "signal.set_wakeup_fd(-1)"},
}


@pytest.mark.parametrize("how", UNREACHABLE.values(), ids=UNREACHABLE)
def test_a_hook_that_cannot_be_ended_costs_the_image_and_not_the_service(resqued, queue, how):
    config = resisting("tick", "arbiter", when="Path('hang').exists()", **how)
    arbiter = resqued("-r", "harness.jobs", config=config, expect_errors=ERRORS)
    worker = arbiter.wait_for_workers(1)[1]
    (arbiter.directory / "hang").touch()
    arbiter.wait_for(
        r"CRITICAL arbiter hook tick: plugin 'resqued.conf.py' cannot be ended", timeout=30
    )
    arbiter.wait_for(r"re-exec done")
    arbiter.wait_for(r"gen=2 in service", timeout=20)
    assert arbiter.log().count("cannot be ended") == 1
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, 15, "a job")
    wait_for(lambda: not processes.alive(worker.pid), 15, "the old worker to leave")
    assert not (arbiter.directory / "told-of-the-end").exists(), "none of its hooks is called"
    assert arbiter.stop("QUIT") == 0


@pytest.mark.parametrize("name", ["QUIT", "TERM", "INT"])
@pytest.mark.parametrize("how", ["swallows", "blocks all signals"])
def test_a_stop_that_comes_during_such_a_hook_is_obeyed_by_the_new_image(resqued, how, name):
    config = resisting("tick", "arbiter", when="Path('hang').exists()", **UNREACHABLE[how])
    arbiter = resqued(config=config, expect_errors=ERRORS)
    arbiter.wait_for_workers(1)
    (arbiter.directory / "hang").touch()
    wait_for((arbiter.directory / "hanging").exists, what="the hook to hang")
    arbiter.signal(name)
    assert arbiter.exit(15) == 0


def test_one_at_the_start_does_not_prevent_the_start(resqued, queue):
    """The image is replaced before there is any generation."""
    config = resisting("arbiter_started", "arbiter")
    arbiter = resqued("-r", "harness.jobs", config=config, expect_errors=ERRORS)
    arbiter.wait_for_workers(1)
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, 15, "a job")
    assert arbiter.status()["silenced"] == {"resqued.conf.py": "arbiter_started"}
    assert arbiter.stop("QUIT") == 0


def test_hooks_that_all_hang_delay_a_stop_by_eight_seconds_together(resqued):
    """With the true limits: QUIT comes during a tick, and each hook of the stop hangs, too."""
    config = """
    import time
    from pathlib import Path

    def hang():
        while Path("hang").exists():
            time.sleep(0.05)

    def tick(): hang()
    def signal_received(): hang()
    def arbiter_stopping(): hang()
    def worker_exited(): hang()
    def arbiter_exited(): hang()
    """
    arbiter = resqued("-n", 4, config=config, expect_errors="HookTimeout|^ {4}")
    arbiter.wait_for_workers(4)
    (arbiter.directory / "hang").touch()
    began = time.monotonic()
    assert arbiter.stop("QUIT", timeout=15) == 0
    assert time.monotonic() - began < scaled(15)
    arbiter.wait_for(r"of plugins are skipped: since the stop was asked for they have taken \S+ s")
