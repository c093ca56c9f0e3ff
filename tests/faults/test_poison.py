"""Jobs that nobody can run: unreadable, hostile, incomplete. Each fails, and the next one runs."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import sys
import time

import pytest
from rq.job import Job

from harness import jobs
from harness.oracle import places
from harness.waiting import WaitedTooLong, wait_for

GOOD = pickle.dumps(("harness.jobs.noop", None, (), {}))
NOW = b"2026-01-02T03:04:05.000000Z"


class Calls:
    """What pickles to a call of this function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def put(connection):
    """`put("x", data=b"...")`: a job as no RQ would have written it, in the queue `default`."""

    def put(job_id, **fields):
        whole = {
            "data": GOOD,
            "created_at": NOW,
            "enqueued_at": NOW,
            "origin": "default",
            "status": "queued",
            "timeout": "10",
        }
        mapping = {name: value for name, value in {**whole, **fields}.items() if value is not None}
        connection.sadd("rq:queues", "rq:queue:default")
        connection.hset(f"rq:job:{job_id}", mapping=mapping)
        connection.rpush("rq:queue:default", job_id)

    return put


@pytest.fixture
def settled(connection, queue):
    """`settled(arbiter, {"x": "failed"}, deaths=1)`: each job comes to its place, the next job is
    done, and so many workers died of it. The arbiter has left then."""

    def settled(arbiter, expected, *, deaths=0, timeout=20):
        after = queue().enqueue(jobs.noop)
        wait_for(lambda: after.is_finished, timeout, "the next job to be done")
        wanted = {job_id: [f"{place}:default"] for job_id, place in expected.items()}
        with contextlib.suppress(WaitedTooLong):  # then the difference is shown
            wait_for(lambda: places(connection, wanted) == wanted, timeout)
        assert places(connection, wanted) == wanted
        assert not connection.hgetall("rq:resqued:claims")
        arbiter.wait_for_workers(1)
        assert arbiter.stop() == 0  # then each death has its line
        ended = re.findall(r"WARNING arbiter worker=1 .* ended.*", arbiter.log())
        # The stop may come between the outcome of the next job and the end of its worker's hold.
        assert len([line for line in ended if after.id not in line]) == deaths, ended

    return settled


def started(resqued, *arguments):
    arbiter = resqued("-n", 1, *arguments, expect_errors=".")
    arbiter.wait_for_workers(1)
    return arbiter


# --- Pickles ---------------------------------------------------------------------------------

HARMLESS = {
    "raises": pickle.dumps(Calls(int, "x")),
    "exits": pickle.dumps(Calls(sys.exit, "enough")),
    "module-is-missing": b"cnowhere.at.all\nThing\n.",
    "is-no-pickle": b"\x00\xff\xfe",
    "is-cut": GOOD[:-7],
    "is-empty": b"",
    "is-no-call": pickle.dumps(42),
    "names-no-function": pickle.dumps(("", None, (), {})),
    "names-a-number": pickle.dumps((7, None, (), {})),
    "name-is-no-text": pickle.dumps(("harness.\ud800.x", None, (), {})),
    "function-is-missing": pickle.dumps(("harness.jobs.nowhere", None, (), {})),
    "arguments-do-not-fit": pickle.dumps(("harness.jobs.noop", None, (1, 2), {"x": 3})),
}
DEADLY = {
    "ends-the-process": pickle.dumps(Calls(os._exit, 0)),
    "kills-the-group": pickle.dumps(Calls(os.killpg, 0, 9)),
    "aborts": pickle.dumps(Calls(os.abort)),
}


def test_what_cannot_be_unpickled_fails_and_costs_no_worker(resqued, put, settled):
    arbiter = started(resqued)
    for name, data in HARMLESS.items():
        put(name, data=data)
    settled(arbiter, dict.fromkeys(HARMLESS, "failed"))


def test_what_kills_its_worker_when_it_is_unpickled_costs_one(resqued, put, settled):
    arbiter = started(resqued)
    for name, data in DEADLY.items():
        put(name, data=data)
    settled(arbiter, dict.fromkeys(DEADLY, "failed"), deaths=len(DEADLY))


def test_with_retries_it_fails_at_the_third_death(resqued, put, settled, connection):
    arbiter = started(resqued)
    put("poison", data=DEADLY["kills-the-group"], retries_left="10")
    settled(arbiter, {"poison": "failed"}, deaths=3)
    job = Job("poison", connection=connection)
    assert "killed its worker 3 times" in job.latest_result().exc_string


@pytest.mark.parametrize("worker_class", ["rq.Worker", "rq.SimpleWorker"])
def test_with_another_worker_class_it_fails_too(resqued, put, settled, worker_class):
    arbiter = started(resqued, "-w", worker_class)
    for name in ("raises", "exits", "is-no-pickle"):
        put(name, data=HARMLESS[name])
    put("poison", data=DEADLY["ends-the-process"])
    expected = dict.fromkeys(["raises", "exits", "is-no-pickle", "poison"], "failed")
    settled(arbiter, expected, deaths=1 + (worker_class == "rq.SimpleWorker"))


def test_a_pickle_that_hangs_is_ended_by_the_jobs_own_timeout(resqued, put, settled):
    arbiter = started(resqued, "--kill-after", 0.5)
    put("poison", data=pickle.dumps(Calls(time.sleep, 1000)), timeout="1")
    settled(arbiter, {"poison": "failed"}, timeout=10)


def test_what_is_read_before_a_job_begins_may_be_hostile_too(resqued, put, settled, connection):
    arbiter = started(resqued)
    put("raises", meta=pickle.dumps(Calls(int, "x")))
    put("exits", meta=pickle.dumps(Calls(sys.exit, "enough")))
    put("kills", meta=pickle.dumps(Calls(os.killpg, 0, 9)))
    expected = {"raises": "finished", "exits": "failed", "kills": "failed"}
    settled(arbiter, expected, deaths=3)
    job = Job("kills", connection=connection)
    assert "killed its worker 3 times" in job.latest_result().exc_string


# --- Hashes ----------------------------------------------------------------------------------

FIELDS = {
    # what is wrong with the hash, and where the job ends
    "no-data": ({"data": None}, "failed"),
    "no-origin": ({"origin": None}, "finished"),
    "no-dates": ({"created_at": None, "enqueued_at": None}, "finished"),
    "no-status": ({"status": None}, "finished"),
    "no-timeout": ({"timeout": None}, "finished"),
    "origin-is-not-utf-8": ({"origin": b"\xff\xfe"}, "failed"),
    "description-is-not-utf-8": ({"description": b"\xff\xfe"}, "failed"),
    "status-is-unknown": ({"status": b"sleeping"}, "finished"),
    "date-is-no-date": ({"created_at": b"yesterday"}, "failed"),
    "timeout-is-no-time": ({"timeout": b"soon"}, "failed"),
    "timeout-is-below-zero": ({"timeout": b"-5"}, "finished"),
    "timeout-is-for-ever": ({"timeout": b"9" * 18}, "failed"),
    "retries-are-no-number": ({"retries_left": b"some"}, "failed"),
    "callback-is-missing": ({"success_callback_name": b"no.such.callback"}, "failed"),
    "dependencies-are-no-json": ({"dependency_ids": b"]["}, "failed"),
    "result-ttl-is-for-ever": ({"result_ttl": b"9" * 18}, "finished"),
    "is-huge": (
        {
            "data": pickle.dumps(("harness.jobs." + "x" * 100_000, None, ("y" * 8_000_000,), {})),
            "description": b"z" * 1_000_000,
        },
        "failed",
    ),
}


def test_a_hash_that_is_wrong_costs_no_worker(resqued, put, settled, connection):
    arbiter = started(resqued)
    for name, (fields, _) in FIELDS.items():
        put(name, **fields)
    connection.set("rq:job:no-hash", "but a text")
    connection.rpush("rq:queue:default", "no-hash")
    settled(arbiter, {name: place for name, (_, place) in FIELDS.items()} | {"no-hash": "failed"})
    for name in ("no-data", "no-hash", "origin-is-not-utf-8"):
        arbiter.wait_for(f"ERROR .*failed job={name} queue=default: unreadable: ")
        assert "unreadable" in Job(name, connection=connection).latest_result().exc_string


def test_ids_that_are_none_are_dropped_with_a_line(resqued, connection, settled):
    arbiter = started(resqued)
    connection.sadd("rq:queues", "rq:queue:default")
    for job_id in (b"\xff\xfe", b"", b"two words", b"a:b", b"x" * 100_000):
        connection.rpush("rq:queue:default", job_id)
    settled(arbiter, {})
    assert not connection.lrange("rq:queue:default:intermediate", 0, -1)
    told = re.findall(r"job=\S.* of queue=default(?: and (\d+) more)? is gone", arbiter.log())
    assert sum(1 + int(more or 0) for more in told) == 5, "a line for as many as are passed at once"
