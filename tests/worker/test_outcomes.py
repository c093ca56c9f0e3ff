"""What RQ offers beyond running a function: repeats, limits, callbacks, groups, dependents."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from rq import Callback, Repeat, Retry
from rq.group import Group
from rq.job import Dependency
from rq.rate_limit import RateLimit
from rq.registry import StartedJobRegistry

from harness import jobs
from harness.oracle import assert_one_place_each
from harness.waiting import wait_for
from resqued.scoreboard import Order


def append(path, word):
    with Path(path).open("a") as file:
        file.write(f"{word} ")


def work(path, result=None):
    append(path, "work")
    if result == "fail":
        raise ValueError(result)
    if result == "again":
        return Retry(max=1)
    return path


def on_success(job, connection, result):
    append(job.args[0], "success")


def on_failure(job, connection, kind, error, trace):
    append(job.args[0], f"failure:{kind.__name__}")


def on_success_that_fails(job, connection, result):
    append(job.args[0], "success")
    raise KeyError("callback")


def on_success_that_hangs(job, connection, result):
    append(job.args[0], "success")
    time.sleep(60)


def handler(job, *exc_info):
    append(job.args[0], "handler")


@pytest.fixture
def paper(tmp_path):
    return tmp_path / "paper"


@pytest.mark.parametrize(
    ("result", "success", "said", "end"),
    [
        (None, on_success, "work success", "finished"),
        ("fail", on_success, "work failure:ValueError handler", "failed"),
        (None, on_success_that_fails, "work success failure:KeyError handler", "failed"),
    ],
)
def test_callbacks(crew, queue, ends, paper, result, success, said, end):
    job = queue().enqueue(
        work,
        str(paper),
        result,
        on_success=Callback(success),
        on_failure=Callback(on_failure),
    )
    hand = crew.start(exception_handlers=(f"{__name__}.handler",))
    assert ends(job) == end
    wait_for(lambda: hand.record.done == 1, 5, "the job on the record")
    assert paper.read_text().split() == said.split()


def test_callback_that_exceeds_its_timeout(crew, queue, ends, paper):
    job = queue().enqueue(
        work,
        str(paper),
        on_success=Callback(on_success_that_hangs, timeout=1),
        on_failure=Callback(on_failure),
    )
    hand = crew.start(wait=False)
    assert ends(job) == "failed"
    assert paper.read_text().split() == ["work", "success", "failure:JobTimeoutException"]
    assert hand.gone() == 0


def test_stopped_callback(crew, queue, gate, ends, paper):
    door = gate()
    job = queue().enqueue(jobs.sleep, 60, str(door), on_stopped=Callback(on_stopped))
    hand = crew.start()
    door.wait_until_reached()
    hand.told(Order.STOP)
    assert ends(job) == "stopped"
    assert Path(f"{door}.stopped").exists()


def on_stopped(job, connection):
    Path(f"{job.args[1]}.stopped").touch()


def test_returned_retry(crew, queue, ends, paper):
    job = queue().enqueue(work, str(paper), "again")
    crew.start()
    assert ends(job) == "failed"
    assert paper.read_text().split() == ["work", "work"]


def test_retry_at_once_and_later(crew, queue, ends, paper, status):
    job = queue().enqueue(work, str(paper), "fail", retry=Retry(max=1))
    later = queue().enqueue(work, str(paper), "fail", retry=Retry(max=1, interval=60))
    crew.start()
    assert ends(job) == "failed"
    assert ends(later) == "scheduled"


def test_repeat(crew, queue, ends, paper):
    job = queue().enqueue(work, str(paper), repeat=Repeat(times=2, interval=0))
    crew.start()
    wait_for(lambda: paper.exists() and paper.read_text().split() == ["work"] * 3, 10, "3 runs")
    assert ends(job) == "finished"


def test_no_result_to_keep(crew, queue, connection):
    job = queue().enqueue(jobs.nothing, result_ttl=0)
    hand = crew.start()
    wait_for(lambda: hand.record.done == 1, 10, "the job on the record")
    assert not connection.exists(job.key)
    assert not connection.keys("rq:execution*")


def test_rate_limit(crew, queue, ends):
    limited = [queue().enqueue(jobs.nothing, rate_limit=RateLimit("key", 1)) for _ in range(3)]
    crew.start()
    assert {ends(job) for job in limited} == {"finished"}


def test_rate_limit_of_a_job_whose_worker_died(crew, queue, ends):
    bad = queue().enqueue(jobs.kill_self, rate_limit=RateLimit("key", 1))
    good = queue().enqueue(jobs.nothing, rate_limit=RateLimit("key", 1))
    hand = crew.start(wait=False)
    hand.gone()
    assert hand.recovered() == ["failed"]
    crew.start()
    assert ends(good) == "finished"
    assert ends(bad) == "failed"


def test_group(crew, queue, connection):
    group = Group.create(connection=connection)
    group.enqueue_many(queue(), [queue().prepare_data(jobs.nothing) for _ in range(3)])
    hand = crew.start()
    wait_for(lambda: hand.record.done == 3, 10, "three jobs")


def test_dependents(crew, queue, ends):
    first = queue("a").enqueue(jobs.noop)
    second = queue("b").enqueue(jobs.noop, depends_on=first)
    third = queue("a").enqueue(jobs.noop, depends_on=[first, second])
    crew.start("a", "b")
    assert ends(third) == "finished"
    assert_one_place_each(queue().connection, [first.id, second.id, third.id])


def test_failure_that_cannot_be_reported_is_written_barely(crew, queue, ends, connection):
    job = queue().enqueue(jobs.fail)
    after = queue("other").enqueue(jobs.noop, depends_on=Dependency([job], allow_failure=True))
    crew.start("default", worker_class="worker.classes.Unreporting")
    assert ends(job) == "failed"
    wait_for(lambda: queue("other").job_ids == [after.id], 5, "its dependent to be enqueued")
    places = assert_one_place_each(connection, [job.id, after.id])
    assert places == {job.id: "failed:default", after.id: "queue:other"}
    assert not connection.keys("rq:execution*")
    assert "no report" in crew.log.read_text()


def test_text_that_is_no_utf8(crew, queue, ends):
    """The name of a file, say, in an exception."""
    job = queue().enqueue(jobs.fail, "caf\udce9")
    crew.start()
    assert ends(job) == "failed"
    assert "caf\\udce9" in job.latest_result().exc_string


def test_job_without_a_timeout_is_not_called_abandoned(crew, queue, gate, ends, connection):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door), job_timeout=-1)
    hand = crew.start()
    door.wait_until_reached()
    assert hand.record.deadline == 0
    registry = StartedJobRegistry("default", connection)
    registry.cleanup(timestamp=time.time() + 86000)  # the steward will postpone it for ever
    assert registry.count == 1
    door.open()
    assert ends(job) == "finished"
    assert 0 < connection.ttl(f"rq:worker:{hand.record.name}") <= 480


def test_environment(crew, queue, ends):
    hand = crew.start()
    job = queue().enqueue(environment)
    assert ends(job) == "finished"
    assert job.latest_result().return_value == (hand.record.name, job.id)


def environment():
    import os

    return os.environ["RQ_WORKER_ID"], os.environ["RQ_JOB_ID"]
