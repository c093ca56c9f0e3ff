"""examples/autoscale: more workers when jobs wait, fewer when none does, and never beyond."""

from __future__ import annotations

from harness import jobs
from harness.public import uses_of_what_is_private
from harness.waiting import wait_for
from recipes.conftest import EXAMPLES

PLUGIN = EXAMPLES / "autoscale" / "autoscale.py"


def test_it_is_forty_lines_over_the_public_api():
    source = PLUGIN.read_text()
    assert len(source.splitlines()) <= 40
    assert uses_of_what_is_private(source) == []


def test_workers_come_with_the_jobs_and_go_after_them(resqued, queue, gate, ends):
    arbiter = resqued(
        *("-n", 1, "-p", PLUGIN, "--autoscale-max", 3),
        *("--autoscale-wait", 1, "--autoscale-calm", 2),
    )
    arbiter.wait_for_workers(1)
    assert ends(queue().enqueue(jobs.noop))
    door = gate()
    waiting = [queue().enqueue(jobs.wait_at, str(door)) for _ in range(6)]
    arbiter.wait_for_workers(3, timeout=40)
    wait_for(lambda: queue().count == 3, 20, "three of them in hand")
    door.open()
    for job in waiting:
        ends(job)
    arbiter.wait_for_workers(1, timeout=60)
    started = {line for line in arbiter.log().splitlines() if "ready, queues" in line}
    assert len(started) == 3, "each once: no worker goes while jobs wait"
