"""The verdict Fail: the job is interrupted and fails with a reason, whatever its retries."""

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
from harness.waiting import wait_for
from resqued import hookimpl
from resqued.scoreboard import Order, Phase

REASON = "holds the lock of\nthe warehouse"


def return_something(gate):
    with contextlib.suppress(BaseException):
        jobs.sleep(60, gate)
    return "done"


def ask_for_a_retry(gate):
    with contextlib.suppress(BaseException):
        jobs.sleep(60, gate)
    return Retry(max=3)


def in_a_callback(job, connection, *rest):
    Path(job.meta["gate"] + ".reached").touch()
    time.sleep(60)


@pytest.fixture
def running(crew, queue, gate):
    """`running(body)`: a job with retries that has begun; its worker, and the job."""

    def running(body=return_something, plugins=(), **settings):
        door = gate()
        job = queue().enqueue(body, str(door), retry=Retry(5))
        hand = crew.start(plugins=plugins, **settings)
        door.wait_until_reached()
        wait_for(lambda: hand.record.phase is Phase.RUNNING, 5, "it to be on the record")
        return hand, job

    return running


def assert_failed(connection, job, reason=REASON):
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:default"}
    assert job.latest_result().exc_string == reason


SETTINGS = {
    "fast path": {},
    "RQ's way": {"fast_path": "off"},
    "fork": {"isolation": ("fork",)},
    "rq.Worker": {"worker_class": "rq.Worker"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("body", [return_something, ask_for_a_retry])
def test_the_job_fails_with_the_reason(running, connection, ends, body, settings):
    hand, job = running(body, **settings)
    hand.told(Order.FAIL, REASON)
    assert ends(job) == "failed"
    assert_failed(connection, job)
    if settings.get("isolation") or settings.get("worker_class"):
        hand.reached(Phase.IDLE)
        assert (hand.record.done, hand.record.failed) == (1, 1)
    else:
        assert hand.gone() == 0


def test_without_a_reason_it_says_where_it_comes_from(running, connection, ends):
    hand, job = running()
    hand.told(Order.FAIL)
    assert ends(job) == "failed"
    assert_failed(connection, job, "Failed by a verdict of worker_stuck")


def test_a_job_that_resists_is_killed_and_its_recovery_fails_it(crew, queue, gate, connection):
    """The kernel's alarm in the worker, three seconds later; also if nobody knows the reason."""
    door = gate()
    job = queue().enqueue(jobs.swallow, str(door), retry=Retry(5))
    hand = crew.start(on_worker_death="requeue")
    door.wait_until_reached()
    hand.told(Order.FAIL, REASON)
    began = time.monotonic()
    assert os.WTERMSIG(hand.gone()) == signal.SIGALRM
    assert time.monotonic() - began > 2.5
    assert hand.record.stopped == Order.FAIL
    assert hand.recovered(failure=REASON) == ["failed"]
    assert_failed(connection, job)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_worker_that_was_killed_has_its_job_failed(running, connection, settings):
    hand, job = running(**settings)
    hand.kill()
    assert hand.recovered(order=Order.FAIL, failure=REASON) == ["failed"]
    assert_failed(connection, job)


def test_also_one_that_hangs_before_its_job(crew, queue, gate, connection):
    door = gate()

    class Hangs:
        @hookimpl
        def before_job(self):
            Path(f"{door}.reached").touch()
            while True:
                with contextlib.suppress(BaseException):
                    time.sleep(1)

    job = queue().enqueue(jobs.nothing, retry=Retry(5))
    hand = crew.start(plugins=[Hangs()])
    wait_for(Path(f"{door}.reached").exists, 10, "the hook")
    hand.told(Order.FAIL, REASON)
    hand.kill()
    assert hand.recovered(order=Order.FAIL, failure=REASON) == ["failed"]
    assert_failed(connection, job)


def test_a_class_that_does_not_fork_is_killed_by_the_arbiter(running, connection):
    hand, job = running(worker_class="rq.SimpleWorker")
    hand.told(Order.FAIL, REASON)
    wait_for(lambda: hand.record.stopped == Order.FAIL, 5, "it to be on the record")
    hand.kill()
    assert hand.recovered(failure=REASON) == ["failed"]
    assert_failed(connection, job)


def test_a_callback_is_interrupted_like_the_job(crew, queue, gate, connection, ends):
    door = gate()
    job = queue().enqueue(
        jobs.nothing,
        meta={"gate": str(door)},
        on_success=Callback(in_a_callback, timeout=50),
        retry=Retry(5),
    )
    hand = crew.start()
    wait_for(Path(f"{door}.reached").exists, 10, "the callback")
    hand.told(Order.FAIL, REASON)
    assert ends(job) == "failed"
    assert_failed(connection, job)


def test_of_a_stop_and_a_failure_the_stop_counts(running, connection, ends):
    hand, job = running()
    os.kill(hand.pid, signal.SIGSTOP)
    hand.told(Order.FAIL, REASON)
    hand.told(Order.STOP)
    os.kill(hand.pid, signal.SIGCONT)
    assert ends(job) == "stopped"


def test_of_an_interruption_and_a_failure_the_failure_counts(running, connection, ends):
    hand, job = running()
    os.kill(hand.pid, signal.SIGSTOP)
    hand.told(Order.FAIL, REASON)
    hand.stop_now()
    os.kill(hand.pid, signal.SIGCONT)
    assert ends(job) == "failed"
    assert_failed(connection, job)


def test_the_arbiter_carries_out_what_a_plugin_answers(resqued, queue, gate, connection):
    doors = [gate() for _ in range(2)]
    arbiter = resqued(
        "-n",
        2,
        "--kill-after",
        0,
        config="""
            from resqued import Fail, hookimpl

            @hookimpl
            def worker_stuck(worker, attempt):
                return Fail(f"{worker.function} took too long, {worker.timeout:g} s: {attempt}")
        """,
        expect_errors="stuck|killed|died|recovered",
    )
    tame = queue().enqueue(jobs.swallow_once, str(doors[0]), job_timeout=1, retry=Retry(5))
    wild = queue().enqueue(jobs.swallow, str(doors[1]), job_timeout=1, retry=Retry(5))
    for job in (tame, wild):
        wait_for(lambda job=job: job.get_status() == "failed", 25, "it to fail")
    assert tame.latest_result().exc_string == "harness.jobs.swallow_once took too long, 1 s: 0"
    assert wild.latest_result().exc_string == "harness.jobs.swallow took too long, 1 s: 0"
    assert_one_place_each(connection, [tame.id, wild.id])
    arbiter.wait_for(f"recovered job={wild.id}: failed")  # killed, by the arbiter or its own alarm


def test_after_terminate_the_hook_decides_again(resqued, queue, gate, connection):
    door = gate()
    arbiter = resqued(
        "-n",
        1,
        "--kill-after",
        0,
        config="""
            from resqued import Terminate, Wait, Kill, hookimpl

            @hookimpl
            def worker_stuck(worker, attempt):
                return [Terminate, Wait(1.5), Kill][attempt]
        """,
        expect_errors="stuck|killed|died|recovered",
    )
    job = queue().enqueue(jobs.swallow, str(door), job_timeout=1)
    began = time.monotonic()
    arbiter.wait_for("killed: stuck", timeout=20)
    assert time.monotonic() - began > 1 + 3 + 1.5
    arbiter.wait_for(f"put back job={job.id}")  # it was interrupted
