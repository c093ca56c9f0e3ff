"""The example of plugins/README.md, in a real resqued."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from harness.duties import wait_for_process
from harness.waiting import wait_for

ARCHIVER = Path(__file__).parents[2] / "examples" / "plugins" / "archiver.py"


def test_what_failed_a_week_ago_is_archived_once_by_two_arbiters(resqued, connection, queue):
    ids = set()
    for number in range(20):
        job = queue().enqueue("operator.truediv", number, 0)
        queue().remove(job)
        job.ended_at = datetime.now(UTC) - timedelta(days=8)
        job.set_status("failed")
        job.save()
        queue().failed_job_registry.add(job, -1)
        ids.add(job.id.encode())
    arbiters = [resqued("-n", 1, "-p", ARCHIVER) for _ in range(2)]
    wait_for(lambda: connection.xlen("archive") == 20)
    for arbiter in arbiters:
        wait_for_process(arbiter)
    assert {entry[b"job"] for _, entry in connection.xrange("archive")} == ids
    assert queue().failed_job_registry.count == 0
    keepers = [arbiter.log().count("this arbiter is its keeper") for arbiter in arbiters]
    assert sorted(keepers) == [0, 1]
