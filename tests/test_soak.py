"""What must not grow, for a short time; tests/soak/respawns does it for long."""

from __future__ import annotations

import contextlib

import pytest

from soak.exactly_once import EXPECTED, WORDS
from soak.losing import QUEUES, Ordeal
from soak.respawning import Mill

pytestmark = pytest.mark.slow


def test_150_respawns_leave_nothing_behind(resqued, connection):
    arbiter = resqued("-n", 4, "--max-jobs", 1)
    with contextlib.closing(Mill(arbiter, 4, connection)) as mill:
        before = mill.look()
        mill.grind(150)
        mill.quiet()
        after = mill.look()
    assert mill.killed
    assert after.arbiter.counts == before.arbiter.counts
    assert after.fork_server.counts == before.fork_server.counts
    assert after.arbiter.resident < before.arbiter.resident + (4 << 20)
    assert after.fork_server.resident < before.fork_server.resident + (4 << 20)


@pytest.mark.timeout(240)  # ten seconds on a quiet machine
@pytest.mark.parametrize("isolation", ["worker", "fork"])
def test_each_job_exactly_once_over_a_bad_line(resqued, connection, proxy, isolation):
    queues = [word for queue in QUEUES for word in ("--queue", queue)]
    arbiter = resqued(
        *("-n", 3, *queues, "--redis", proxy.url, "--isolation", isolation, *WORDS),
        expect_errors=EXPECTED,
    )
    arbiter.wait_for_workers(3)
    told = Ordeal(arbiter, proxy, connection, jobs=400, seed=1).endure(loss=0.05, every=40)
    print(told)
    assert arbiter.stop() == 0  # while it can ask what became of an outcome whose reply was lost
    assert told.problems == []
    assert told.losses
    assert told.strikes
