"""Worker classes of the user's own: what they override is called, whatever they call things."""

from __future__ import annotations

import os
import signal

import pytest
import redis
from rq import Queue, Retry

from harness import jobs
from harness.oracle import assert_one_place_each
from harness.waiting import wait_for
from resqued import hookimpl
from resqued.config import Config
from resqued.scoreboard import Phase
from resqued.worker.classes.lookup import check_classes
from resqued.worker.rq_worker import ResquedWorker

NOTED = ["Noting", "NotingSimple", "NotingForking"]


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """`notes()`: what the class has noted, in order."""
    path = tmp_path / "notes"
    path.touch()
    monkeypatch.setenv("NOTES", str(path))
    return lambda: path.read_text().split()


@pytest.mark.parametrize("cls", ["Crowded", "CrowdedSimple", "CrowdedForking"])
def test_names_of_a_class_may_be_any(crew, queue, ends, cls):
    """The class has a number under each name that was once taken."""
    hand = crew.start(worker_class=f"worker.classes.{cls}")
    assert ends(queue().enqueue(jobs.noop)) == "finished"
    assert ends(queue().enqueue(jobs.fail)) == "failed"
    hand.signal(signal.SIGTERM)
    assert hand.gone() == 0


@pytest.mark.parametrize("cls", NOTED)
def test_what_a_class_overrides_is_called(crew, queue, ends, notes, cls):
    hand = crew.start(worker_class=f"worker.classes.{cls}")
    assert ends(queue().enqueue(jobs.noop)) == "finished"
    assert ends(queue().enqueue(jobs.fail)) == "failed"
    hand.signal(signal.SIGTERM)
    assert hand.gone() == 0
    noted = notes()
    for word in ("bootstrap", "dequeue", "execute", "success", "failure", "exception", "teardown"):
        assert word in noted, (word, noted)


@pytest.mark.parametrize("cls", NOTED)
def test_a_class_hears_of_a_job_whose_worker_was_killed(crew, queue, gate, notes, connection, cls):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    hand = crew.start(worker_class=f"worker.classes.{cls}")
    door.wait_until_reached()
    hand.kill()
    assert hand.recovered() == ["failed"]
    assert_one_place_each(connection, [job.id])
    assert [word for word in notes() if word in ("killed", "handler", "failure")] == [
        "killed",
        "handler",
        "failure",
    ]


def test_a_class_that_cannot_be_made_again_does_not_hold_up_recovery(
    crew, queue, gate, connection, monkeypatch
):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    hand = crew.start(worker_class="worker.classes.Fragile")
    door.wait_until_reached()
    hand.kill()
    monkeypatch.setenv("FRAGILE", "broken")
    assert hand.recovered() == ["failed"]
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:default"}


@pytest.mark.parametrize("cls", ["Skipping", "SkippingSimple"])
def test_a_job_that_is_skipped_is_handed_out_once(crew, queue, ends, notes, connection, cls):
    skipped = queue().enqueue(jobs.noop, meta={"skip": True})
    crew.start(worker_class=f"worker.classes.{cls}")
    assert ends(queue().enqueue(jobs.noop)) == "finished"
    assert notes().count("skipped") == 1
    assert not connection.hgetall("rq:resqued:claims")
    listed = queue().intermediate_queue.get_job_ids()
    assert listed == [skipped.id], "it is where RQ's maintenance finds it"
    wait_for(
        lambda: queue().intermediate_queue.get_first_seen(skipped.id), 20, "its time to be counted"
    )


@pytest.mark.parametrize("cls", ["Choking", "ChokingSimple"])
def test_a_job_that_its_class_cannot_begin_does_not_stop_the_queue(crew, queue, ends, cls):
    choking = [queue().enqueue(jobs.noop, meta={"chokes": True}) for _ in range(2)]
    crew.start(worker_class=f"worker.classes.{cls}")
    assert ends(queue().enqueue(jobs.noop)) == "finished"
    assert [job.get_status(refresh=True) for job in choking] == ["failed"] * 2
    assert "no tenant" in choking[0].latest_result().exc_string


@pytest.mark.parametrize("cls", ["Choking", "ChokingSimple"])
def test_a_class_that_can_begin_none_puts_the_third_back_and_leaves(crew, queue, cls):
    choking = [queue().enqueue(jobs.noop, meta={"chokes": True}) for _ in range(4)]
    hand = crew.start(worker_class=f"worker.classes.{cls}", wait=False)
    hand.gone(20)
    assert [job.get_status(refresh=True) for job in choking] == ["failed"] * 2 + ["queued"] * 2
    assert queue().job_ids == [job.id for job in choking[2:]]


class AfterJob:
    def __init__(self, path):
        self.path = path

    @hookimpl
    def after_job(self, job, outcome):
        with self.path.open("a") as file:
            file.write(f"{outcome.status} {os.getpid()}\n")


def test_the_hooks_hear_of_a_dead_horse(crew, queue, gate, ends, tmp_path):
    told = tmp_path / "told"
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    hand = crew.start(worker_class="rq.Worker", plugins=[AfterJob(told)])
    os.kill(door.wait_until_reached(), signal.SIGKILL)
    assert ends(job) == "failed"
    hand.reached(Phase.IDLE)
    assert told.read_text() == f"failed {hand.pid}\n"


def test_dead_horses_are_put_back_until_the_limit(crew, queue, gate, ends, connection, notes):
    job = queue().enqueue(jobs.kill_self, retry=Retry(5))
    crew.start(worker_class="worker.classes.NotingForking", on_worker_death="requeue", max_deaths=3)
    assert ends(job, 30) == "failed"
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:default"}
    assert connection.hget(job.key, "deaths") == b"3"
    assert "It has killed its worker 3 times" in job.latest_result().exc_string
    assert notes().count("handler") == 3


def test_the_end_of_a_job_of_another_class_is_logged(crew, queue, ends):
    hand = crew.start(worker_class="rq.Worker")
    good, bad = queue().enqueue(jobs.noop), queue().enqueue(jobs.fail)
    assert (ends(good), ends(bad)) == ("finished", "failed")
    wait_for(lambda: hand.record.done == 2, 10, "both on the record")
    log = crew.log.read_text()
    for job, word in ((good, "finished"), (bad, "failed")):
        assert f"{word} job={job.id} queue=default seconds=" in log


@pytest.mark.parametrize(
    ("cls", "method"),
    [
        ("worker.classes.OfRq2", "OfRq2.perform_job(self, job, queue)"),
        ("worker.classes.OfRq2Forking", "OfRq2Forking.monitor_work_horse(self, job, queue)"),
        ("worker.classes.Narrow", "Narrow.__init__(self, queues, name=None"),
    ],
)
def test_what_rq_3_could_not_call_is_refused_by_name(cls, method):
    (text,) = check_classes(Config(worker_class=cls))
    assert text.startswith("worker_class")
    assert method in text
    assert "RQ 3" in text


@pytest.mark.parametrize("cls", ["Mine", "MineSimple", "Noting", "CrowdedForking"])
def test_what_fits_is_not_refused(cls):
    assert check_classes(Config(worker_class=f"worker.classes.{cls}")) == []


# Without an arbiter, in somebody's own program.


@pytest.fixture
def lone(valkey):
    client = redis.Redis(unix_socket_path=str(valkey.socket))
    yield lambda cls=ResquedWorker: cls(["default"], connection=client)
    client.close()


def test_work_may_be_called_again_and_gives_the_process_back(lone, queue):
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    worker, descriptors = lone(), []
    for _ in range(3):
        job = queue().enqueue(jobs.noop)
        assert worker.work(burst=True)
        assert job.get_status() == "finished"
        descriptors.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208
    assert descriptors[-1] <= descriptors[0]
    assert not worker.work(burst=True)
    assert {each: signal.getsignal(each) for each in before} == before


def test_a_job_may_be_performed_without_work(lone, queue):
    worker, job = lone(), queue().enqueue(jobs.noop)
    before = signal.getsignal(signal.SIGTERM)
    assert worker.perform_job(job, queue(), worker.prepare_execution(job))
    assert job.get_status() == "finished"
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_heartbeat_may_be_sent_while_it_is_made(lone, queue):
    class Eager(ResquedWorker):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.register_birth()
            self.heartbeat()
            self.register_death()

    worker, job = lone(Eager), queue().enqueue(jobs.noop)
    assert worker.work(burst=True)
    assert job.get_status() == "finished"


@pytest.mark.parametrize("when", ["before", "after"])
def test_perform_job_that_raises_gives_the_job_an_outcome(lone, queue, when):
    class Raising(ResquedWorker):
        def perform_job(self, job: object, queue: Queue, execution: object) -> bool:
            if when == "after":
                super().perform_job(job, queue, execution)
            raise RuntimeError("no")

    worker, job = lone(Raising), queue().enqueue(jobs.noop)
    assert worker.work(burst=True)
    assert job.get_status() == ("finished" if when == "after" else "failed")
