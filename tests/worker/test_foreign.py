"""Other worker classes in a slot, and ResquedWorker without one."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rq import Retry
from rq.command import send_stop_job_command
from rq.worker import Worker

from harness import jobs
from harness.oracle import assert_one_place_each
from harness.waiting import wait_for, wait_for_exit
from resqued import hookimpl
from resqued.config import Config
from resqued.scoreboard import Order, Phase, Reason, Stop
from resqued.verdicts import ConfigError
from resqued.worker.classes.lookup import check_classes, make_worker_class
from resqued.worker.rq_worker import Foreign, RecoveryWorker, ResquedWorker

FOREIGN = ["rq.Worker", "rq.SimpleWorker", "worker.classes.Mine", "worker.classes.MineSimple"]
FORKING = ["rq.Worker", "worker.classes.Mine"]


@pytest.mark.parametrize("cls", FOREIGN)
def test_runs_jobs(crew, queue, ends, connection, cls):
    hand = crew.start("a", "b", worker_class=cls)
    good, bad = queue("b").enqueue(jobs.noop), queue("a").enqueue(jobs.fail)
    assert (ends(good), ends(bad)) == ("finished", "failed")
    wait_for(lambda: hand.record.done == 2, 5, "both on the record")
    assert hand.record.failed == 1
    assert_one_place_each(connection, [good.id, bad.id])
    assert not connection.hgetall("rq:resqued:claims")
    hand.signal(signal.SIGTERM)
    assert hand.gone() == 0
    assert (hand.record.phase, hand.record.reason) == (Phase.LEFT, Reason.ASKED)
    assert not connection.smembers("rq:workers")


@pytest.mark.parametrize("cls", ["rq.Worker", "rq.SimpleWorker"])
def test_drains_however_often_it_is_told(crew, queue, gate, status, cls):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    hand = crew.start(worker_class=cls)
    door.wait_until_reached()
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        hand.signal(signum)
        time.sleep(0.3)
    door.open()
    assert hand.gone() == 0
    assert status(job.id) == "finished"


@pytest.mark.parametrize("cls", FORKING)
def test_stopped_now_its_horse_is_killed_and_the_job_put_back(crew, queue, gate, connection, cls):
    door = gate()
    job = queue("b").enqueue(jobs.swallow, str(door))
    behind = queue("b").enqueue(jobs.noop)
    hand = crew.start("a", "b", worker_class=cls)
    horse = door.wait_until_reached()
    hand.stop_now()
    assert hand.gone() == 0
    wait_for(lambda: not psutil.pid_exists(horse) or is_zombie(horse), 10, "the horse's end")
    assert queue("b").job_ids == [job.id, behind.id]
    assert connection.hget(job.key, "interruptions") == b"1"
    assert not connection.hgetall("rq:resqued:running")


@pytest.mark.parametrize("cls", [cls for cls in FOREIGN if cls not in FORKING])
def test_stopped_now_is_killed_and_recovered(crew, queue, gate, connection, cls):
    door = gate()
    job = queue("b").enqueue(jobs.swallow, str(door))
    behind = queue("b").enqueue(jobs.noop)
    hand = crew.start("a", "b", worker_class=cls)
    runs_it = door.wait_until_reached()
    hand.stop_now()
    assert os.WTERMSIG(hand.gone()) == signal.SIGKILL
    wait_for(lambda: not psutil.pid_exists(runs_it) or is_zombie(runs_it), 10, "the horse's end")
    assert hand.recovered(interrupted=True) == ["requeued"]
    assert queue("b").job_ids == [job.id, behind.id]
    assert connection.hget(job.key, "interruptions") == b"1"


def is_zombie(pid):
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("cls", FORKING)
def test_horse_dies_with_its_worker(crew, queue, gate, connection, cls):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    hand = crew.start(worker_class=cls)
    horse = door.wait_until_reached()
    assert hand.record.horse == horse
    os.kill(hand.pid, signal.SIGKILL)
    hand.gone()
    wait_for(lambda: not psutil.pid_exists(horse) or is_zombie(horse), 10, "the horse's end")
    assert hand.recovered() == ["failed"]
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:default"}


def test_killed_horse_is_rqs_own_affair(crew, queue, gate, ends):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door), retry=Retry(1))
    hand = crew.start(worker_class="rq.Worker")
    os.kill(door.wait_until_reached(), signal.SIGKILL)
    door.open()
    assert ends(job) == "finished"
    assert hand.record.horse == 0 or hand.record.phase is not Phase.IDLE


def test_stop_job_kills_the_horse(crew, queue, gate, ends):
    door = gate()
    job = queue().enqueue(jobs.swallow, str(door))
    hand = crew.start(worker_class="rq.Worker")
    door.wait_until_reached()
    hand.told(Order.STOP)
    assert ends(job) == "stopped"
    assert ends(queue().enqueue(jobs.noop)) == "finished"
    assert hand.record.phase.holds_job or hand.record.phase is Phase.IDLE


class Notes:
    """Writes down which process its hooks ran in."""

    def __init__(self, path):
        self.path = path

    def note(self, word):
        with self.path.open("a") as file:
            file.write(f"{word} {os.getpid()}\n")

    @hookimpl
    def before_job(self, worker, job):
        self.note(f"before {job.id} {worker.job_id}")

    @hookimpl
    def after_job(self, job, outcome):
        self.note(f"after {outcome.status}")

    @hookimpl(wrapper=True)
    def perform_job(self, job):
        self.note("around")
        return (yield)

    @hookimpl
    def worker_ready(self, rq_worker):
        self.note(f"ready {rq_worker.name}")

    @hookimpl
    def worker_exiting(self, reason):
        self.note(f"exiting {reason}")


RESQUED = "resqued.worker.rq_worker.ResquedWorker"


@pytest.mark.parametrize("cls", [RESQUED, *FOREIGN])
def test_hooks_run_where_the_job_does(crew, queue, ends, tmp_path, cls):
    notes = Notes(tmp_path / "notes")
    job = queue().enqueue(jobs.noop)
    hand = crew.start(worker_class=cls, plugins=[notes])
    assert ends(job) == "finished"
    wait_for(lambda: hand.record.done == 1, 5, "the job on the record")
    hand.signal(signal.SIGTERM)
    hand.gone()
    lines = notes.path.read_text().splitlines()
    runs_it = job.latest_result().return_value
    assert lines == [
        f"ready {hand.record.name} {hand.pid}",
        f"before {job.id} {job.id} {runs_it}",
        f"around {runs_it}",
        f"after finished {runs_it}",
        f"exiting asked {hand.pid}",
    ]
    assert (runs_it != hand.pid) == (cls in FORKING)


def test_outcome_that_rq_could_not_write_is_left_to_recovery(
    crew, queue, gate, connection, proxy, ends
):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    crew.url = proxy.url
    hand = crew.start(worker_class="rq.Worker")
    horse = door.wait_until_reached()
    proxy.refuse()
    os.kill(horse, signal.SIGKILL)
    wait_for(lambda: hand.record.reason is Reason.LOOP, 10, "it to meet the outage")
    proxy.accept()
    hand.gone()
    assert hand.record.reason is Reason.LOOP
    hand.recovered()
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:default"}


def test_tracers_that_patch_rq_are_not_passed_by():
    """Sentry replaces `rq.worker.Worker.perform_job`; jobs must run through it."""
    assert ResquedWorker.perform_job is Worker.perform_job
    assert ResquedWorker.handle_exception is Worker.handle_exception


@pytest.mark.parametrize("cls", [ResquedWorker, Foreign, RecoveryWorker])
def test_takes_no_name_that_a_users_class_may_want(cls):
    """What is not RQ's own name is `_resqued`, on the class and on each of its bases."""
    added = [each for each in cls.__mro__ if each.__module__.startswith("resqued.")]
    names = {name for each in added for name in (*vars(each), *inspect.get_annotations(each))}
    taken = {name for name in names - set(dir(Worker)) if not name.startswith("__")} - {"_resqued"}
    assert not taken


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGQUIT", "SIGWINCH"])
def test_horse_ignores_what_containers_send(crew, queue, gate, ends, name):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    crew.start(worker_class="rq.Worker")
    os.kill(door.wait_until_reached(), signal.Signals[name])
    door.open()
    assert ends(job) == "finished"


def test_spawn_worker_is_refused():
    with pytest.raises(ConfigError, match="password"):
        make_worker_class(Config(worker_class="rq.worker.SpawnWorker"))


def test_check_names_all_that_is_wrong():
    wrong = check_classes(
        Config(
            redis="nonsense",
            worker_class="no.such.Worker",
            job_class="os.path.join",
            queue_class="rq.job.Job",
            serializer="no.such",
            exception_handlers=("also.missing",),
        )
    )
    assert [text.partition(":")[0] for text in wrong] == [
        "redis",
        "worker_class",
        "job_class",
        "queue_class",
        "serializer",
        "exception_handlers",
    ]
    assert check_classes(Config()) == []


# Without an arbiter.


@pytest.fixture
def alone(valkey, tmp_path):
    """`rq worker -w` with resqued's class."""
    started = []

    def start(*arguments):
        command = [
            Path(sys.executable).with_name("rq"),
            "worker",
            "-w",
            RESQUED,
            "--url",
            valkey.url,
            *arguments,
        ]
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        log = tmp_path / "rq.log"
        with log.open("ab") as file:
            before = file.tell()
            process = subprocess.Popen(command, env=env, stdout=file, stderr=file)
        started.append(process)
        wait_for(
            lambda: b"ready queues" in log.read_bytes()[before:] or process.poll() is not None,
            60,
            "the worker to be ready",
        )
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
    print((tmp_path / "rq.log").read_text() if started else "")


def test_alone(alone, queue, ends, connection):
    process = alone("a", "b")
    assert ends(queue("b").enqueue(jobs.noop)) == "finished"
    assert ends(queue("a").enqueue(jobs.fail)) == "failed"
    assert ends(queue("a").enqueue(jobs.sleep, 60, job_timeout=1)) == "failed"
    assert ends(queue("a").enqueue(jobs.noop)) == "finished"  # nobody would replace it
    process.send_signal(signal.SIGTERM)
    assert wait_for_exit(process, 30) == 0
    assert not connection.smembers("rq:workers")


def test_alone_twice_interrupted(alone, queue, gate):
    door = gate()
    job = queue("a").enqueue(jobs.sleep, 60, str(door))
    process = alone("a", "b")
    door.wait_until_reached()
    process.send_signal(signal.SIGINT)
    status = Path(f"/proc/{process.pid}/status")
    wait_for(lambda: "ShdPnd:\t0000000000000000" in status.read_text(), 10, "its delivery")
    time.sleep(1.1)  # one that comes within a second of it means nothing
    process.send_signal(signal.SIGINT)
    assert wait_for_exit(process, 30) == 0
    assert queue("a").job_ids == [job.id]


def test_alone_stop_job(alone, queue, gate, ends, connection):
    door = gate()
    job = queue("a").enqueue(jobs.sleep, 60, str(door))
    alone("a")
    door.wait_until_reached()
    send_stop_job_command(connection, job.id)
    assert ends(job) == "stopped"
    assert ends(queue("a").enqueue(jobs.noop)) == "finished"


def test_alone_burst_and_max_jobs(alone, queue, connection):
    for _ in range(3):
        queue("a").enqueue(jobs.nothing)
    assert wait_for_exit(alone("--max-jobs", "2", "a"), 60) == 0
    assert queue("a").count == 1
    assert wait_for_exit(alone("--burst", "a"), 60) == 0
    assert queue("a").count == 0


def test_rq_info_shows_our_workers(crew, queue, gate, valkey):
    door = gate()
    queue("a").enqueue(jobs.wait_at, str(door))
    hand = crew.start("a", "b")
    door.wait_until_reached()
    rq = Path(sys.executable).with_name("rq")
    out = subprocess.run(
        [rq, "info", "--url", valkey.url, "--raw"], capture_output=True, text=True, check=True
    ).stdout
    (line,) = [line for line in out.splitlines() if line.startswith("worker")]
    assert hand.record.name in line
    assert "busy" in line
    assert "a, b" in line
    crew.board.set_stop(hand.slot, Stop.DRAIN)
