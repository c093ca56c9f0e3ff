"""Plugins that spoil what arbiter and fork server stand on: both go on, and can be stopped."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from harness.processes import cpu_of
from harness.waiting import stays_true, wait_for

RAISING_SINKS = {
    "a sink that raises": "logger.add(broken, catch=False)",
    "a patcher that raises": "logger.configure(patcher=broken)",
    "no sink at all": "logger.remove()",
    "nothing from resqued": "logger.disable('resqued')",
}

SPOILT_LOG = """
    from loguru import logger

    def broken(record):
        raise SystemExit("the plugin's own")

    def arbiter_started(arbiter):
        {spoil}

    def app_loaded(generation):
        {spoil}
"""


@pytest.mark.parametrize("spoil", RAISING_SINKS.values(), ids=RAISING_SINKS)
def test_what_is_done_to_logurus_logger_does_not_reach_our_log(resqued, queue, spoil):
    app = resqued("-r", "harness.jobs", config=SPOILT_LOG.format(spoil=spoil))
    app.wait_for_workers(1)
    app.signal("HUP")
    app.wait_for(r"gen=2 in service")
    queue().enqueue("harness.jobs.noop")
    app.wait_for(r"gen=1 retired")
    assert app.stop("QUIT") == 0
    app.wait_for(r"bye, exit code 0")


@pytest.mark.parametrize("error", ["ValueError", "SystemExit", "KeyboardInterrupt"])
def test_a_sink_that_raises_in_our_own_log_is_harmless(resqued, error):
    config = f"""
    from resqued.logs import logger

    def broken(message):
        raise {error}("on purpose")

    def tick():
        logger.add(broken, catch=False)
    """
    arbiter = resqued(config=config)
    arbiter.wait_for_workers(1)
    assert arbiter.stop("QUIT") == 0
    arbiter.wait_for(r"bye, exit code 0")


def test_a_hook_that_closes_the_standard_descriptors_loses_no_line(resqued, queue):
    config = """
    import os
    from pathlib import Path

    def tick():
        if Path("close").exists():
            Path("close").unlink()
            os.closerange(0, 256)

    def before_fork():
        os.closerange(0, 3)
    """
    arbiter = resqued("-r", "harness.jobs", config=config, expect_errors="closed|fork server ended")
    arbiter.wait_for_workers(1)
    (arbiter.directory / "close").touch()
    arbiter.wait_for(r"hook tick: plugin 'resqued.conf.py' has closed descriptor 2; undone")
    arbiter.wait_for(r"worker=1 .* ready", times=2, timeout=30)
    job = queue().enqueue("harness.jobs.noop")
    wait_for(lambda: job.get_status(refresh=True) == "finished", 15, "a job")
    assert arbiter.stop("QUIT") == 0
    arbiter.wait_for(r"bye, exit code 0")


BLOCKS_SIGNALS = """
    import signal

    def {hook}({argument}):
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
"""


@pytest.mark.parametrize("name", ["TERM", "QUIT"])
def test_a_hook_that_blocks_all_signals_makes_nobody_deaf(resqued, queue, name):
    config = BLOCKS_SIGNALS.format(hook="tick", argument="arbiter")
    arbiter = resqued("-r", "harness.jobs", config=config)
    arbiter.wait_for(r"arbiter hook tick: plugin '[\w.]*' has blocked .*SIGTERM.*; undone")
    arbiter.wait_for_workers(1)
    os.kill(arbiter.workers()[1].pid, signal.SIGKILL)  # SIGCHLD is one of them
    arbiter.wait_for(r"worker=1 .* ready", times=2)
    assert arbiter.stop(name) == 0


def test_an_import_that_blocks_all_signals_does_not_make_the_fork_server_deaf(resqued, queue):
    app = """
    import signal
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
    """
    arbiter = resqued("-r", "app", app=app)
    arbiter.wait_for_workers(1)
    os.kill(arbiter.fork_servers()[0].pid, signal.SIGTERM)
    arbiter.wait_for(r"forkserver .* leaving: SIGTERM received")
    arbiter.wait_for(r"worker=1 .* ready", times=2, timeout=20)


def test_a_blocked_mask_at_the_start_is_not_kept(resqued):
    blocked = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65));"
    under = [sys.executable, "-c", f"{blocked} os.execv(sys.argv[1], sys.argv[1:])"]
    arbiter = resqued(under=under)
    arbiter.wait_for_workers(1)
    assert arbiter.stop("TERM") == 0


CLOSES_ALL = """
    import os
    from pathlib import Path

    def tick(arbiter):
        if Path("close").exists():
            Path("close").unlink()
            os.closerange(3, 4096)
            {then}
"""


@pytest.mark.parametrize(
    "then", ["pass", "for _ in range(20): os.open('/dev/null', os.O_RDWR)"], ids=["free", "reused"]
)
def test_a_hook_that_closes_every_descriptor_is_recovered_from(resqued, queue, then):
    log = ["--log-file", "resqued.log", "--pid", "resqued.pid"]
    arbiter = resqued(
        "-r",
        "harness.jobs",
        *log,
        config=CLOSES_ALL.format(then=then),
        expect_errors="closed|fork server ended",
    )
    arbiter.log_file = arbiter.directory / "resqued.log"
    arbiter.wait_for_workers(1)
    (arbiter.directory / "close").touch()
    arbiter.wait_for(r"a plugin has closed descriptors of the arbiter.*the pipe of signals")
    arbiter.wait_for(r"worker=1 .* ready", times=2, timeout=30)
    job = queue().enqueue("harness.jobs.noop")
    wait_for(lambda: job.get_status(refresh=True) == "finished", 15, "a job")
    before = cpu_of(arbiter.pid)
    stays_true(lambda: cpu_of(arbiter.pid) - before < 1, 2, "its loop sleeps")
    arbiter.signal("TTIN")
    arbiter.wait_for_workers(2)
    assert arbiter.stop("TERM") == 0


LEAVES_THREADS = """
    import atexit, threading, time

    def {hook}(arbiter):
        {leave}
"""

LEFT = {
    "a thread that never ends": "threading.Thread(target=time.sleep, args=(600,)).start()",
    "one that spins": "threading.Thread(target=lambda: [None for _ in iter(int, 1)]).start()",
    "an atexit function that never returns": "atexit.register(time.sleep, 600)",
}


@pytest.mark.parametrize("hook", ["arbiter_started", "arbiter_exited"])
@pytest.mark.parametrize("leave", LEFT.values(), ids=LEFT)
def test_what_a_plugin_has_left_does_not_hold_up_the_end(resqued, leave, hook):
    arbiter = resqued(config=LEAVES_THREADS.format(hook=hook, leave=leave))
    arbiter.wait_for_workers(1)
    assert arbiter.stop("TERM", timeout=20) == 0
    if "atexit" not in leave:
        assert "WARNING arbiter threads that a plugin has left running: Thread-" in arbiter.log()


def test_what_the_interpreter_would_still_do_does_not_change_the_exit_code(resqued):
    """The last objects of a plugin may take their time; atexit functions are called before."""
    config = """
    import atexit, time
    from pathlib import Path

    class Slow:
        def __del__(self):
            time.sleep(60)

    _slow = [Slow()]
    _slow.append(_slow)
    for _name in ("first", "second"):
        atexit.register(Path(_name).touch)

    def arbiter_exited():
        atexit.register(Path("third").touch)
    """
    arbiter = resqued(config=config)
    arbiter.wait_for_workers(1)
    assert arbiter.stop("TERM") == 0
    assert all(Path(arbiter.directory, name).exists() for name in ("first", "second", "third"))


def test_a_thread_that_ends_in_time_is_waited_for(resqued):
    config = """
    import threading, time
    from pathlib import Path

    def finish():
        time.sleep(0.5)
        Path("finished").touch()

    def arbiter_exited():
        threading.Thread(target=finish).start()
    """
    arbiter = resqued(config=config)
    arbiter.wait_for_workers(1)
    assert arbiter.stop("TERM") == 0
    assert (arbiter.directory / "finished").exists()


SPOILS_THE_LOOP = """
    def arbiter_started(arbiter):
        from resqued.arbiter import children, fork_servers

        def spoilt(*arguments):
            raise RuntimeError("spoilt by a plugin")

        {part} = spoilt
"""


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ("children.Children.reap", 0),
        ("children.Children.reap_strangers", 0),
        ("fork_servers.ForkServers.receive", 75),
    ],
    ids=["reap", "reap_strangers", "receive"],
)
def test_a_loop_that_fails_in_every_turn_can_be_stopped(resqued, part, code):
    """At worst by force, when it can hear of nobody's end any more."""
    arbiter = resqued(config=SPOILS_THE_LOOP.format(part=part), expect_errors=".")
    arbiter.wait_for(r"\[BUG\] a part of a turn of the loop failed; going on", times=2)
    assert arbiter.stop("TERM", timeout=40) == code


def test_a_signal_at_the_very_end_does_not_meet_a_thread_of_a_plugin(resqued):
    """Service managers send HUP after TERM; a thread has a signal mask of its own."""
    leave = "threading.Thread(target=time.sleep, args=(600,)).start()"
    arbiter = resqued(config=LEAVES_THREADS.format(hook="arbiter_started", leave=leave))
    arbiter.wait_for_workers(1)
    arbiter.signal("TERM")
    arbiter.wait_for(r"bye, exit code 0")
    arbiter.signal("HUP", "USR1", "TERM", "QUIT")
    assert arbiter.exit() == 0
