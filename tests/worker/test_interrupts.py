"""Stopped now, wherever that hits: back at the front of the queue, or finished, never both."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from rq import Callback, Retry

from harness import jobs
from harness.oracle import assert_one_place_each
from harness.waiting import WaitedTooLong, wait_for
from resqued.scoreboard import Order, Phase, Reason
from resqued.signal_table import COMMAND, NOW

MOMENTS = int(os.environ.get("RESQUED_TEST_MOMENTS", "60"))

SOFT = {
    "sleep": (jobs.sleep, (60,)),
    "coroutine with subtasks": (jobs.coroutine, (60,)),
    "program": (jobs.run_program, (60,)),
    "inside a redis call": (jobs.wait_in_redis, ("nothing-comes", 60)),
}


def sleeps(pid):
    """The main thread is in a system call and stays in it."""
    return all(
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S" for _ in range(3)
    )


@pytest.fixture
def stopped(crew, queue, gate):
    """`stopped(body, args)`: run it, and stop it as the arbiter does: 0 s, 1 s, KILL at 3 s."""

    def stopped(body, arguments, **options):
        door = gate()
        job = queue("q").enqueue(body, *arguments, str(door), **options)
        behind = queue("q").enqueue(jobs.nothing)
        hand = crew.start("a", "q")
        door.wait_until_reached()
        wait_for(lambda: sleeps(hand.pid), 5, "the job to have begun its wait")
        hand.stop_now()
        killed = False
        for step, seconds in ((lambda: hand.signal(NOW), 1), (hand.kill, 2)):
            try:
                hand.gone(seconds)
                break
            except WaitedTooLong:
                step()
                killed = step == hand.kill
        hand.gone()
        if hand.record.phase is not Phase.LEFT:
            hand.recovered(interrupted=True)
        return hand, job, behind, killed

    return stopped


@pytest.mark.parametrize("name", SOFT)
def test_goes_back_to_the_front(stopped, connection, queue, name, ledger):
    hand, job, behind, killed = stopped(*SOFT[name])
    assert not killed
    assert hand.record.reason is Reason.ASKED
    assert queue("q").job_ids == [job.id, behind.id]
    assert job.get_status(refresh=True) == "queued"
    assert connection.hget(job.key, "interruptions") == b"1"
    assert not ledger.ended(job.id)
    assert_one_place_each(connection, [job.id, behind.id])
    assert not connection.smembers("rq:workers")


def test_thread_pool_is_left_at_the_second_signal(stopped, queue, connection):
    _, job, behind, killed = stopped(jobs.thread_pool, (20,))
    assert not killed
    assert queue("q").job_ids == [job.id, behind.id]


@pytest.mark.parametrize("body", [jobs.swallow, jobs.stuck_in_c])
def test_what_cannot_be_interrupted_is_killed(stopped, queue, connection, body):
    _, job, behind, killed = stopped(body, ())
    assert killed
    assert queue("q").job_ids == [job.id, behind.id]
    assert connection.hget(job.key, "interruptions") == b"1"
    assert_one_place_each(connection, [job.id])


def test_c_code_that_ends_in_time(stopped, queue):
    _, job, behind, killed = stopped(jobs.sleep_in_c, (1.5,))
    assert not killed
    assert queue("q").job_ids == [job.id, behind.id]


def test_inside_the_success_callback_the_job_is_finished(crew, queue, gate, connection, ends):
    door = gate()
    door.open()
    job = queue("q").enqueue(jobs.wait_at, str(door), on_success=Callback(jobs.slow_success))
    hand = crew.start("a", "q")
    wait_for(lambda: Path(f"{door}.callback").exists(), 5, "the callback")
    hand.stop_now()
    Path(f"{door}.go").touch()
    assert hand.gone() == 0
    assert assert_one_place_each(connection, [job.id]) == {job.id: "finished:q"}


def test_interruptions_are_limited(crew, queue, gate, connection, status):
    door = gate()
    job = queue().enqueue(jobs.sleep, 60, str(door), retry=Retry(5))
    for count in range(1, 5):
        Path(f"{door}.reached").unlink(missing_ok=True)
        hand = crew.start()
        door.wait_until_reached()
        hand.stop_now()
        hand.gone()
        if count < 4:
            assert queue().job_ids == [job.id], count
    assert status(job.id) == "failed"
    assert "Interrupted 4 times" in job.latest_result().exc_string
    assert_one_place_each(connection, [job.id])


def burn(seconds):
    """Python code that never sleeps, with the worker's own connection in use all the time."""
    from rq import get_current_job

    job = get_current_job()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        job.meta["n"] = job.meta.get("n", 0) + 1
        job.save_meta()


def test_random_moments(crew, queue, connection):
    """At any moment: taking, starting, running, returning, writing."""
    seed = random.randrange(1 << 30)
    print("seed", seed)
    dice = random.Random(seed)
    ids = []
    for number in range(MOMENTS):
        ids += [queue("q").enqueue(burn, 0.004 * (number % 4)).id for _ in range(4)]
        hand = crew.start("a", "q", max_interruptions=1000)
        time.sleep(dice.random() * 0.06)
        hand.stop_now()
        hand.gone()
        assert hand.record.phase is Phase.LEFT
    where = assert_one_place_each(connection, ids)
    assert set(where.values()) <= {"queue:q", "finished:q"}
    hand = crew.start("a", "q", wait=False, burst=True)
    hand.gone(60)
    assert set(assert_one_place_each(connection, ids).values()) == {"finished:q"}


# Timeouts.


def test_timeout_fails_the_job_and_replaces_the_worker(crew, queue, status):
    job = queue().enqueue(jobs.sleep, 60, job_timeout=1)
    hand = crew.start(wait=False)
    assert hand.gone() == 0
    assert status(job.id) == "failed"
    assert "JobTimeoutException" in job.latest_result().exc_string
    assert hand.record.reason is Reason.CUT


def test_deadline_of_a_job_is_its_timeout_and_the_grace(crew, queue, gate):
    door = gate()
    queue().enqueue(jobs.wait_at, str(door), job_timeout=100)
    hand = crew.start(kill_after=7.0)
    door.wait_until_reached()
    record = hand.record
    assert 106 < record.deadline - record.job_started < 108


# Commands.


def test_stop_job(crew, queue, gate, connection, ends, status):
    door = gate()
    job = queue().enqueue(jobs.sleep, 60, str(door), retry=Retry(3))
    hand = crew.start()
    door.wait_until_reached()
    hand.told(Order.STOP)
    assert ends(job) == "stopped"
    assert hand.gone() == 0, "not by the alarm, which comes after a second"
    assert hand.record.reason is Reason.CUT
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:default"}


def test_stop_job_that_does_not_listen(crew, queue, gate, connection):
    door = gate()
    job = queue().enqueue(jobs.swallow, str(door), retry=Retry(3))
    hand = crew.start()
    door.wait_until_reached()
    hand.told(Order.STOP)
    assert os.WTERMSIG(hand.gone()) == signal.SIGALRM
    assert hand.recovered() == ["failed"]
    assert connection.hget(job.key, "status") == b"stopped"
    assert assert_one_place_each(connection, [job.id]) == {job.id: "failed:default"}


def test_stop_of_another_job_is_ignored(crew, queue, gate, ends):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    hand = crew.start()
    door.wait_until_reached()
    crew.board.set_order(hand.slot, Order.STOP, "somebody else's")
    hand.signal(COMMAND)
    door.open()
    assert ends(job) == "finished"
    assert ends(queue().enqueue(jobs.noop)) == "finished"


def test_kill_horse_fails_the_job(crew, queue, gate, ends):
    door = gate()
    job = queue().enqueue(jobs.sleep, 60, str(door))
    hand = crew.start()
    door.wait_until_reached()
    hand.told(Order.KILL)
    assert ends(job) == "failed"
    assert "Work-horse terminated unexpectedly" in job.latest_result().exc_string


def test_stop_job_while_the_job_is_being_begun(crew, queue, gate, ends, monkeypatch):
    """Redis says that it has started, and the worker has not taken note of it yet."""
    door = gate()
    monkeypatch.setenv("RESQUED_PAUSE", f"begun {door}")
    job = queue().enqueue(jobs.sleep, 60)
    hand = crew.start(wait=False, worker_class="worker.paused.PausedWorker")
    door.wait_until_reached()
    hand.told(Order.STOP)
    door.open()
    assert ends(job) == "stopped"
    assert hand.gone() == 0
