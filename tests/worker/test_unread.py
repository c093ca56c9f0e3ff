"""A worker that is set up wrongly, and so reads no job, stops itself and not the queue."""

from __future__ import annotations

import re
import subprocess

import pytest
from rq import Queue
from rq.serializers import JSONSerializer

from harness import jobs
from harness.command import BIN, environment, run
from harness.waiting import scaled, wait_for

COUNT = 40
"""More than a worker, or two in a row, may fail before they are noticed."""


@pytest.mark.parametrize("query", ["decode_responses=true", "decode_responses=1"])
def test_text_instead_of_bytes_is_refused_at_the_start(valkey, tmp_path, query):
    words = ("-n", 1, "--redis", f"{valkey.url}?{query}")
    for more in ((), ("--check",)):
        code, out, err = run(*words, *more, cwd=tmp_path)
        assert code == 78
        assert "decode_responses" in out + err
        assert "makes every job unreadable" in out + err


def test_what_is_spelled_out_as_off_is_no_mistake(valkey, resqued, queue):
    arbiter = resqued("-n", 1, "--redis", f"{valkey.url}?decode_responses=false")
    arbiter.wait_for_workers(1)
    job = queue().enqueue(jobs.noop)
    wait_for(lambda: job.get_status() == "finished", 20, "a job")


def test_a_connection_class_that_gives_text_is_refused_too(valkey, resqued, tmp_path):
    (tmp_path / "classes_of_mine.py").write_text(
        "import redis\n\n\nclass Text(redis.Redis):\n    @classmethod\n"
        "    def from_url(cls, url, **given):\n"
        "        return super().from_url(url, decode_responses=True, **given)\n"
    )
    arbiter = resqued(
        *("-n", 1, "--path", tmp_path, "--connection-class", "classes_of_mine.Text"),
        expect_errors="decode_responses|gen=1",
    )
    assert arbiter.exit(30) == 78
    arbiter.wait_for("decode_responses=True makes every job unreadable")


UNABLE = """
from rq.job import Job


class Unable(Job):
    def restore(self, raw_data):
        super().restore(raw_data)
        raise KeyError("a field of mine")


class Elsewhere(Job):
    redis_job_namespace_prefix = "mine:"
"""


def set_ups(tmp_path):
    """Words of the command line that make every job of a plain producer unreadable."""
    (tmp_path / "job_classes.py").write_text(UNABLE)
    own = ("--path", tmp_path, "--job-class")
    return {
        "serializer": ("--serializer", "json"),
        "forking": ("--serializer", "json", "-w", "rq.Worker"),
        "class": (*own, "job_classes.Unable"),
        "prefix": (*own, "job_classes.Elsewhere"),
    }


@pytest.mark.parametrize("mistake", ["serializer", "forking", "class", "prefix"])
def test_the_worker_stops_and_the_queue_does_not(
    resqued, valkey, connection, queue, tmp_path, mistake
):
    ids = [queue().enqueue(jobs.sleep, 0.001).id for _ in range(COUNT)]
    before = {job_id: connection.hget(f"rq:job:{job_id}", "data") for job_id in ids}
    words = set_ups(tmp_path)[mistake]
    arbiter = resqued("-n", 1, *words, expect_errors=".")
    arbiter.wait_for("ERROR worker=1 .*3 jobs in a row cannot be read.*--serializer", times=2)
    assert re.findall(r"leaves; put back job=\S+: \w[^.]+\. Compare", arbiter.log()), (
        "with a reason"
    )
    arbiter.wait_for("WARNING arbiter worker=1 .*exited: it could not read its jobs", times=2)
    left = connection.lrange("rq:queue:default", 0, -1)
    assert len(left) > COUNT // 2
    assert [job_id.decode() for job_id in left] == ids[-len(left) :], "in their order"
    arbiter.wait_for("it could not read its jobs; next try in 2 s", timeout=20)
    assert arbiter.stop() == 0

    left = connection.lrange("rq:queue:default", 0, -1)
    failed = [raw.decode() for raw in connection.zrange("rq:failed:default", 0, -1)]
    assert sorted(failed) == sorted(set(ids) - {job_id.decode() for job_id in left})
    assert {id_: connection.hget(f"rq:job:{id_}", "data") for id_ in ids} == before
    words = [BIN / "rq", "requeue", "--url", valkey.url, "--queue", "default", "--all"]
    subprocess.run(words, check=True, env=environment(), capture_output=True, timeout=scaled(60))
    arbiter = resqued("-n", 1, "--burst")
    assert arbiter.exit(40) == 0
    assert {queue().fetch_job(job_id).get_status().value for job_id in ids} == {"finished"}
    assert sorted(arbiter.ledger.ended()) == sorted(ids), "each once"


def test_one_that_can_be_read_shows_that_the_worker_is_right(resqued, connection, queue):
    json, pickled = Queue(connection=connection, serializer=JSONSerializer), queue()
    bad, good = [], []
    for _ in range(3):
        bad += [pickled.enqueue(jobs.noop).id for _ in range(2)]
        good.append(json.enqueue(jobs.noop))
    arbiter = resqued("-n", 1, "--serializer", "json", expect_errors=".")
    wait_for(lambda: all(job.get_status() == "finished" for job in good), 30, "the good ones")
    assert {raw.decode() for raw in connection.zrange("rq:failed:default", 0, -1)} == set(bad)
    assert "cannot be read" not in arbiter.log()
