"""What a hook may do to the process of the arbiter besides: it still reloads, and obeys QUIT."""

from __future__ import annotations

import pytest

from harness import jobs
from harness.waiting import wait_for

CONFIG = """
    import gc, os, resource, signal, sys, threading, time
    from pathlib import Path

    def recurse():
        recurse()

    def tick():
        if Path("go").exists():
            Path("go").unlink()
            {deed}
"""

DEEDS = {
    "no descriptor left to open": "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 4096))",
    "an alarm by default action": (
        "signal.signal(signal.SIGALRM, signal.SIG_DFL); threading.Timer("
        "0.2, signal.setitimer, [signal.ITIMER_REAL, 0.01]).start()"
    ),
    "an alarm of its own": "signal.setitimer(signal.ITIMER_REAL, 0.5, 0.5)",
    "children ignored": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "another process group": "os.setpgid(0, 0) if os.getpgid(0) != os.getpid() else None",
    "no collector, no switches, no excepthook": (
        "gc.disable(); sys.setswitchinterval(1e6);"
        " threading.excepthook = sys.excepthook = sys.unraisablehook = None"
    ),
    "recursion": "recurse()",
    "no memory": "raise MemoryError",
    "an exit in a fork": "os.fork() or os._exit(3)",
    "no modules": "sys.modules.clear()",
    "no path": "sys.path.clear(); sys.argv.clear()",
    "another mask of files": "os.umask(0o777)",
}


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)
def test_the_arbiter_reloads_and_obeys_quit_all_the_same(resqued, queue, deed):
    arbiter = resqued("-r", "harness.jobs", config=CONFIG.format(deed=deed), expect_errors=".")
    arbiter.wait_for_workers(1)
    (arbiter.directory / "go").touch()
    wait_for(lambda: not (arbiter.directory / "go").exists(), 10, "the deed")
    arbiter.signal("HUP")
    arbiter.wait_for(r"gen=2 in service|reload failed", timeout=20)
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.is_finished, 15, "a job")
    assert arbiter.stop("QUIT", timeout=15) == 0
