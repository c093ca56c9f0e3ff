"""Stopped, or dead, while Redis is away: what the next start makes of the jobs in hand."""

from __future__ import annotations

import json

import pytest
from rq import Retry

from harness import jobs
from harness.waiting import wait_for

POLICY = ("--on-worker-death", "fail")


@pytest.fixture
def stopped(resqued, valkey, queue, gate, tmp_path):
    """`stopped(...)`: an arbiter that was told to stop while Redis was away, with a job in hand;
    that job. state: its state directory; kills: its worker dies by itself before."""

    def stopped(*arguments, state=True, kills=False, **options):
        door = gate()
        job = queue("a").enqueue(jobs.wait_at, str(door), **options)
        folder = ("--state", tmp_path / "state") if state else ("--state", "/proc/nowhere")
        arbiter = resqued("-n", 1, "--queue", "a", *folder, *POLICY, expect_errors=".")
        door.wait_until_reached()
        arbiter.wait_for_steward()
        wait_for(lambda: job.get_status() == "started", 10)
        valkey.stop()
        if kills:
            arbiter.workers()[1].kill()
            arbiter.wait_for("held job=")
        assert arbiter.stop("TERM", 30) == 75
        door.open()
        valkey.start()
        assert job.get_status() == "started"
        return job

    return stopped


def start(resqued, tmp_path, *arguments):
    state = ("--state", tmp_path / "state")
    return resqued("-n", 1, *state, "--dead-after", 2, *POLICY, *arguments)


@pytest.mark.parametrize("state", [True, False], ids=["kept", "no state directory"])
def test_a_stop_is_no_death(stopped, resqued, tmp_path, state):
    job = stopped(state=state, retry=Retry(2))
    arbiter = start(resqued, tmp_path, "--queue", "a")
    wait_for(lambda: job.get_status() == "finished", 30, "the job to end")
    assert arbiter.ledger.started() == [job.id]
    job.refresh()
    assert job.retries_left == 2
    assert ("was left unrecovered" in arbiter.log()) == state


def test_a_death_is_no_stop(stopped, resqued, tmp_path):
    job = stopped(kills=True)
    start(resqued, tmp_path, "--queue", "a")
    wait_for(lambda: job.get_status() == "failed", 30, "the job to fail")
    assert "Work-horse terminated unexpectedly" in job.latest_result().exc_string


def test_what_is_of_others_is_left_to_them(stopped, resqued, tmp_path):
    """Of another queue, or of another Redis."""
    job = stopped()
    (path,) = (tmp_path / "state" / "unrecovered").glob("*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    other = start(resqued, tmp_path, "--queue", "b")
    other.wait_for_workers(1)
    assert len(json.loads(path.read_text())["recoveries"]) == 1
    elsewhere = tmp_path / "state" / "unrecovered" / "elsewhere.json"
    elsewhere.write_text(json.dumps({**json.loads(path.read_text()), "redis": "another"}))
    (path.parent / "odd.json").write_text("{")
    last = start(resqued, tmp_path, "--queue", "a")
    wait_for(lambda: job.get_status() == "finished", 30, "the job to end")
    assert [each.name for each in path.parent.glob("*.json")] == ["elsewhere.json"]
    assert last.ledger.started() == [job.id]
    assert "odd.json: not readable, passed over" in last.log()


def test_the_name_is_the_one_that_redis_has():
    from resqued.arbiter import unrecovered
    from resqued.broker.owner import owner_of
    from resqued.death import Death
    from resqued.scoreboard import Phase, Record

    record = Record(Phase.RUNNING, pid=7, ticks=8, name="x y.1.2", job_id="j")
    kept = unrecovered._owned(Death(1, 9, {}, record, ("a",), interrupted=True), "host.1")
    assert kept.owner == kept.name == str(owner_of(record, "host.1"))


def test_a_state_directory_that_cannot_be_read_is_no_reason_not_to_start(resqued, queue):
    """As with the HOME of another user; but no directory is closed to root, who may run this."""
    arbiter = resqued("-n", 1, XDG_STATE_HOME=f"/tmp/{'x' * 300}")
    arbiter.wait_for_workers(1)
    assert "File name too long: if an arbiter before this one" in arbiter.log()
    assert "--state DIR" in arbiter.log()
