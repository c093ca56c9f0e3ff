"""A cut is a cut: the job may catch it, or be in its callbacks; the cut decides the outcome."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
from rq import Callback, Retry

from harness import jobs
from harness.oracle import assert_one_place_each
from harness.waiting import read_lines, wait_for
from resqued import hookimpl
from resqued.scoreboard import Order, Phase


def return_something(gate):
    with contextlib.suppress(SystemExit):
        jobs.sleep(60, gate)
    return "done"


def catch_everything(gate):
    try:
        jobs.sleep(60, gate)
    except:  # noqa: E722
        return "done"


def return_in_finally(gate):
    try:
        jobs.sleep(60, gate)
    finally:
        return "done"  # noqa: B012


def raise_another(gate):
    try:
        jobs.sleep(60, gate)
    except BaseException:
        raise ValueError("transformed") from None


def ask_for_a_retry(gate):
    with contextlib.suppress(BaseException):
        jobs.sleep(60, gate)
    return Retry(max=3)


class Swallowing:
    """A plugin around the job that takes what it raises."""

    @hookimpl(wrapper=True)
    def perform_job(self):
        try:
            return (yield)
        except BaseException:
            return "swallowed"


SWALLOWS = {
    "except SystemExit": (return_something, ()),
    "bare except": (catch_everything, ()),
    "finally: return": (return_in_finally, ()),
    "another exception": (raise_another, ()),
    "a Retry": (ask_for_a_retry, ()),
    "a perform_job wrapper": (lambda: None, (Swallowing(),)),
}


@pytest.fixture
def running(crew, queue, gate):
    """`running(name)`: a job of SWALLOWS that has begun; its worker, and the job."""

    def running(name, retry=True, **settings):
        body, plugins = SWALLOWS[name]
        door = gate()
        arguments = (str(door),)
        if plugins:
            body, arguments = jobs.sleep, (60, str(door))
        retries = Retry(5) if retry else None
        job = queue().enqueue(body, *arguments, retry=retries, on_success=Callback(record))
        hand = crew.start(plugins=plugins, **settings)
        door.wait_until_reached()
        return hand, job

    return running


def record(job, connection, *rest):
    connection.rpush("called", job.id)


@pytest.mark.parametrize("name", SWALLOWS)
def test_a_stopped_job_that_swallows_it_is_stopped(running, connection, ends, name):
    hand, job = running(name)
    hand.told(Order.STOP)
    assert ends(job) == "stopped"
    assert hand.gone() == 0
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:default"}
    assert not connection.exists("called")


@pytest.mark.parametrize("name", SWALLOWS)
def test_an_interrupted_job_that_swallows_it_goes_back(running, connection, status, name):
    hand, job = running(name)
    hand.stop_now()
    assert hand.gone() == 0
    assert status(job.id) == "queued"
    assert connection.hget(job.key, "interruptions") == b"1"
    assert assert_one_place_each(connection, [job.id]) == {job.id: "queue:default"}
    assert not connection.exists("called")


def test_swallowing_does_not_get_around_the_limit(running, connection, status):
    hand, job = running("bare except", max_interruptions=0)
    hand.stop_now()
    hand.gone()
    assert status(job.id) == "failed"
    assert "Interrupted 1 times" in job.latest_result().exc_string


def test_a_killed_horse_that_swallows_it_has_failed(running, connection, status):
    hand, job = running("bare except", retry=False, on_worker_death="requeue")
    hand.told(Order.KILL)
    assert hand.gone() == 0
    assert status(job.id) == "failed"
    assert "killed by a kill-horse command" in job.latest_result().exc_string
    assert connection.hget(job.key, "deaths") is None


def test_a_killed_horse_that_does_not_leave_has_failed_too(crew, queue, gate, connection):
    """Whatever the policy for deaths is: somebody has asked for this one."""
    door = gate()
    job = queue().enqueue(jobs.swallow, str(door))
    hand = crew.start(on_worker_death="requeue")
    door.wait_until_reached()
    hand.told(Order.KILL)
    assert os.WTERMSIG(hand.gone()) == signal.SIGALRM
    assert hand.recovered() == ["failed"]
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:default"}


def test_of_a_stop_and_an_interruption_the_stop_counts(running, status):
    hand, job = running("bare except")
    os.kill(hand.pid, signal.SIGSTOP)
    hand.told(Order.STOP)
    hand.stop_now()
    os.kill(hand.pid, signal.SIGCONT)
    hand.gone()
    assert status(job.id) == "stopped"


def test_a_timeout_that_the_job_catches_is_its_own_affair(crew, queue, gate, ends):
    job = queue().enqueue(catch_everything, str(gate()), job_timeout=1)
    crew.start()
    assert ends(job) == "finished"


# In its callbacks.


def hang(job, connection, *rest):
    Path(job.meta["place"]).touch()
    time.sleep(60)


def hang_and_swallow(job, connection, *rest):
    while True:
        with contextlib.suppress(BaseException):
            Path(job.meta["place"]).touch()  # here, where it swallows what comes at once
            time.sleep(60)


def hang_once(job, connection, *rest):
    with contextlib.suppress(BaseException):
        hang(job, connection, *rest)


def handle(job, *exc_info):
    hang(job, None)


RETRY = Retry(5)


@pytest.fixture
def calling(crew, queue, tmp_path):
    """`calling(body, ...)`: a job whose callback has begun to hang; its worker, and the job."""

    def calling(body, settings=None, retry=RETRY, **callbacks):
        place = tmp_path / "place"
        options = {name: Callback(call, timeout=50) for name, call in callbacks.items()}
        job = queue().enqueue(
            body, meta={"place": str(place)}, on_stopped=Callback(record), retry=retry, **options
        )
        hand = crew.start(wait=False, **(settings or {}))
        wait_for(place.exists, 10, "the callback to have begun")
        return hand, job

    return calling


IN_CALLBACKS = {
    "success": (jobs.nothing, {"on_success": hang}),
    "failure": (jobs.fail, {"on_failure": hang}),
    "success, swallowed": (jobs.nothing, {"on_success": hang_once}),
    "failure, swallowed": (jobs.fail, {"on_failure": hang_once}),
    "exception handler": (jobs.fail, {}),
}


@pytest.mark.parametrize("name", IN_CALLBACKS)
def test_stop_job_ends_a_callback(calling, connection, ends, name):
    body, callbacks = IN_CALLBACKS[name]
    handlers = () if callbacks else ("worker.test_cuts.handle",)
    hand, job = calling(body, {"exception_handlers": handlers}, **callbacks)
    hand.told(Order.STOP)
    assert ends(job) == "stopped"
    assert hand.gone() == 0, "not by the alarm, which comes after a second"
    assert connection.lrange("called", 0, -1) == [job.id.encode()]
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:default"}


def test_a_callback_that_does_not_leave_is_killed_and_the_job_is_stopped(calling, connection):
    hand, job = calling(jobs.nothing, on_success=hang_and_swallow)
    assert hand.record.phase is Phase.RUNNING  # which is when the arbiter kills, were it in C code
    hand.told(Order.STOP)
    assert os.WTERMSIG(hand.gone()) == signal.SIGALRM
    assert hand.recovered() == ["failed"]
    assert connection.hget(job.key, "status") == b"stopped"


def test_kill_horse_in_a_callback_fails_the_job(calling, ends):
    hand, job = calling(jobs.nothing, retry=None, on_success=hang)
    hand.told(Order.KILL)
    assert ends(job) == "failed"
    assert "killed by a kill-horse command" in job.latest_result().exc_string


def test_an_interruption_waits_for_the_callback(calling, status, tmp_path):
    """The job has its result; a stop gives the callback the time that it gives everybody."""
    hand, job = calling(jobs.nothing, on_success=nap)
    hand.stop_now()
    assert hand.gone() == 0
    assert status(job.id) == "finished"


def nap(job, connection, *rest):
    Path(job.meta["place"]).touch()
    time.sleep(0.5)


# The callback of a stop.


def die(job, connection):
    record(job, connection)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(10)


def leave(job, connection):
    record(job, connection)
    os._exit(0)


def test_a_stopped_callback_has_its_own_time(crew, queue, gate, tmp_path, ends):
    """On the record, so that nobody takes the worker for stuck."""
    door = gate()
    place = tmp_path / "place"
    job = queue().enqueue(
        jobs.sleep, 60, str(door), meta={"place": str(place)}, on_stopped=Callback(nap, timeout=40)
    )
    hand = crew.start(loop_timeout=2.0)
    door.wait_until_reached()
    hand.told(Order.STOP)
    wait_for(place.exists, 5, "the callback")
    assert 38 < hand.record.deadline - time.monotonic() < 43
    assert hand.record.phase is Phase.RETURNED  # so no command kills it any more
    assert ends(job) == "stopped"


@pytest.mark.parametrize("callback", [die, leave])
def test_a_stopped_callback_that_ends_its_process_is_called_once(
    crew, queue, gate, connection, callback
):
    door = gate()
    job = queue().enqueue(jobs.sleep, 60, str(door), on_stopped=Callback(callback))
    hand = crew.start()
    door.wait_until_reached()
    hand.told(Order.STOP)
    hand.gone()
    assert hand.recovered() == ["failed"]
    assert connection.hget(job.key, "status") == b"stopped"
    assert connection.lrange("called", 0, -1) == [job.id.encode()]


def test_not_once_a_recovery_either(crew, queue, gate, connection):
    door = gate()
    job = queue().enqueue(jobs.swallow, str(door), on_stopped=Callback(die))
    hand = crew.start()
    door.wait_until_reached()
    hand.told(Order.STOP)
    hand.gone()
    assert hand.recovered() == [""]
    assert hand.recovered() == ["failed"]
    assert connection.lrange("called", 0, -1) == [job.id.encode()]
    assert not [line for line in read_lines(crew.log) if "[BUG]" in line]
    assert not connection.keys("rq:execution:*")
