"""What must not grow, for a short time; tests/soak/respawns does it for long."""

from __future__ import annotations

import contextlib

from soak.respawning import Mill


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
