"""`resquedctl reload --wait`, as a deploy script calls it: 0 for the good, 1 with the cause for all
else, and jobs run throughout."""

from __future__ import annotations

import re
import subprocess
import threading

import pytest

from harness import jobs
from harness.command import BIN, environment
from harness.waiting import scaled, wait_for
from test_reload import BAD, write

CAUSES = {
    "app hangs": r"not up after 8 s \(--boot-timeout\), still loading",
    "after_fork hangs": r"not up after 8 s \(--boot-timeout\)",
    "after_fork crashes": "trial worker ended before it was ready: signal SIGSEGV",
}
"""Where the log has other words, or more of them."""


class Steady:
    """Enqueues a job again and again, and sees that each is done, until it is left."""

    def __init__(self, queue):
        self._queue = queue
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.done = 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._over.set()
        self._thread.join()

    def _run(self):
        while not self._over.is_set():
            job = self._queue.enqueue(jobs.noop)
            wait_for(lambda job=job: job.is_finished, 20, "a job during the reload")
            self.done += 1


@pytest.mark.parametrize("name", BAD)
def test_each_broken_change_is_1_with_the_cause_and_the_next_good_one_0(resqued, queue, name):
    files, reason = BAD[name]
    arbiter = resqued(
        "-n", 2, "-r", "app", "--boot-timeout", 8, app="", config="", expect_errors="."
    )
    arbiter.wait_for_workers(2)
    old = {file: (arbiter.directory / file).read_text() for file in files}
    for file, text in files.items():
        write(arbiter, file, text)
    with Steady(queue()) as steady:
        refused = arbiter.control("reload", "--wait")
    assert refused.returncode == 1, refused
    assert refused.stdout == ""
    assert re.search(CAUSES.get(name, reason), refused.stderr), refused.stderr
    assert steady.done, "the old generation has served"
    assert arbiter.status()["generation"] == 1
    for file, text in old.items():
        write(arbiter, file, text)
    done = arbiter.control("reload", "--wait")
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "is in service" in done.stdout


def test_a_second_reload_meanwhile_takes_the_place_of_the_first(resqued, queue, gate):
    arbiter = resqued("-n", 1, "-r", "app", app="")
    arbiter.wait_for_workers(1)
    loading = gate()
    write(arbiter, "app.py", f"from harness import jobs; jobs.wait_at({str(loading)!r})")
    first = subprocess.Popen(
        [BIN / "resquedctl", "--control", arbiter.socket, "reload", "--wait"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    loading.wait_until_reached()
    write(arbiter, "app.py", "")
    with Steady(queue()) as steady:
        assert arbiter.control("reload", "--wait").returncode == 0
    assert steady.done
    _, error = first.communicate(timeout=scaled(60))
    assert first.returncode == 1
    assert "replaced by a newer reload, generation 3" in error
