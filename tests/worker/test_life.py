"""A worker's life: coming up, running jobs, leaving."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import psutil
import pytest

from harness import jobs
from harness.waiting import scaled, stays_true, wait_for
from resqued import hookimpl
from resqued.scoreboard import Phase, Reason, Stop
from resqued.signal_table import DUMP


def test_runs_jobs_in_order_of_priority(crew, queue, ends, ledger):
    low = [queue("low").enqueue(jobs.noop) for _ in range(2)]
    high = [queue("high").enqueue(jobs.noop) for _ in range(2)]
    hand = crew.start("high", "low")
    assert ends(low[-1]) == "finished"
    assert ledger.ended() == [job.id for job in (*high, *low)]
    assert ledger.pids() == {hand.pid}
    wait_for(lambda: hand.record.done == 4, 5, "four jobs on the record")


def test_a_worker_is_registered_together_with_its_owner(crew, proxy):
    """One that died between the two would be nobody's to drop from `rq info`."""
    crew.url = proxy.url
    crew.start()
    (birth,) = {chunk.data for chunk in proxy.chunks if b"version" in chunk.data}
    assert b"SADD" in birth
    assert b"resqued_owner" in birth


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_stop_signal_finishes_the_job_first(crew, queue, gate, status, signum):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    hand = crew.start()
    door.wait_until_reached()
    for _ in range(3):
        hand.signal(signum)
    stays_true(lambda: hand.record.phase is Phase.RUNNING, 0.2, "the job goes on")
    door.open()
    assert hand.gone() == 0
    assert status(job.id) == "finished"
    assert (hand.record.phase, hand.record.reason) == (Phase.LEFT, Reason.ASKED)


def test_idle_worker_leaves_at_once(crew, connection):
    hand = crew.start("a", "b")
    hand.signal(signal.SIGTERM)
    assert hand.gone() == 0
    assert not connection.smembers("rq:workers")


def test_stop_word_alone_is_obeyed_between_jobs(crew, queue, gate, status):
    door = gate()
    first = queue().enqueue(jobs.wait_at, str(door))
    second = queue().enqueue(jobs.noop)
    hand = crew.start()
    door.wait_until_reached()
    crew.board.set_stop(hand.slot, Stop.DRAIN)
    door.open()
    assert hand.gone() == 0
    assert (status(first.id), status(second.id)) == ("finished", "queued")


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR2", "SIGTTIN", "SIGTTOU", "SIGWINCH"])
def test_signals_that_mean_nothing(crew, queue, gate, ends, name):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    hand = crew.start()
    door.wait_until_reached()
    hand.signal(signal.Signals[name])
    door.open()
    assert ends(job) == "finished"
    hand.signal(signal.Signals[name])
    assert ends(queue().enqueue(jobs.noop)) == "finished"


def test_job_that_takes_all_signals_for_itself(crew, queue, ends):
    job = queue().enqueue(jobs.change_handlers)
    hand = crew.start()
    assert ends(job) == "finished"
    hand.reached(Phase.IDLE)
    hand.signal(signal.SIGTERM)
    assert hand.gone() == 0


def test_child_that_returns_from_the_job(crew, queue, ends, ledger):
    job = queue().enqueue(jobs.fork_and_return)
    hand = crew.start()
    assert ends(job) == "finished"
    assert ends(queue().enqueue(jobs.noop)) == "finished"
    wait_for(lambda: hand.record.done == 2, 5, "two jobs on the record")
    assert len(ledger.ended(job.id)) == 2  # the child came through too, and went no further


def terminate_child():
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join(scaled(5))
    return child.exitcode


def test_children_of_a_job_can_be_terminated(crew, queue, ends):
    crew.start()
    job = queue().enqueue(terminate_child)
    assert ends(job) == "finished"
    assert job.latest_result().return_value == -signal.SIGTERM


def test_descriptors_closed_by_a_job(crew, queue, ends):
    job = queue().enqueue(jobs.close_everything)
    hand = crew.start(wait=False)
    assert ends(job) == "finished"
    assert hand.gone() == 0
    assert hand.record.reason is Reason.CUT


def test_burst(crew, queue, status):
    ids = [queue().enqueue(jobs.nothing).id for _ in range(5)]
    hand = crew.start(burst=True, wait=False)
    assert hand.gone() == 0
    assert {status(job_id) for job_id in ids} == {"finished"}
    assert hand.record.reason is Reason.BURST


def test_failed_job_is_failed(crew, queue, ends):
    job = queue().enqueue(jobs.fail, "on purpose")
    hand = crew.start()
    assert ends(job) == "failed"
    assert "on purpose" in job.latest_result().exc_string
    wait_for(lambda: hand.record.failed == 1, 5, "the failure on the record")


@pytest.mark.parametrize("body", [jobs.leave, jobs.fail])
def test_job_that_exits_or_raises_does_not_end_the_worker(crew, queue, ends, body):
    crew.start()
    assert ends(queue().enqueue(body)) == "failed"
    assert ends(queue().enqueue(jobs.noop)) == "finished"


def test_trial_worker_takes_no_job(crew, queue, status):
    job = queue().enqueue(jobs.noop)
    hand = crew.start(trial=True)
    assert hand.record.phase is Phase.IDLE
    stays_true(lambda: status(job.id) == "queued", 0.3, "the job stays in its queue")
    crew.board.set_stop(hand.slot, Stop.DRAIN)
    hand.signal(signal.SIGTERM)
    assert hand.gone() == 0
    assert hand.record.phase is Phase.LEFT


def test_doorbell_rings_when_ready(crew):
    crew.start()
    assert os.eventfd_read(crew.bell) >= 1


class Recycler:
    @hookimpl
    def should_recycle(self, worker):
        return "enough" if worker.config and self.count() >= 2 else None

    def __init__(self):
        self.jobs = 0

    def count(self):
        return self.jobs

    @hookimpl
    def after_job(self):
        self.jobs += 1


def test_recycled_between_jobs(crew, queue, status):
    ids = [queue().enqueue(jobs.nothing).id for _ in range(3)]
    hand = crew.start(plugins=[Recycler()], wait=False)
    assert hand.gone() == 0
    assert hand.record.reason is Reason.RECYCLED
    assert [status(job_id) for job_id in ids] == ["finished", "finished", "queued"]


class Broken:
    @hookimpl
    def after_fork(self):
        raise OSError("no such host")


def test_after_fork_that_raises(crew):
    hand = crew.start(plugins=[Broken()], wait=False)
    assert os.waitstatus_to_exitcode(hand.gone()) == 78
    assert hand.record.reason is Reason.BOOT


def test_redis_that_is_not_there_yet(crew, valkey, queue, ends):
    valkey.stop()
    hand = crew.start(wait=False)
    hand.reached(Phase.CONNECTING)
    stays_true(lambda: hand.record.phase is Phase.CONNECTING, 0.3, "it waits")
    valkey.start()
    hand.reached(Phase.IDLE)
    assert ends(queue().enqueue(jobs.noop)) == "finished"


def test_leaves_while_redis_is_away(crew, valkey):
    valkey.stop()
    hand = crew.start(wait=False)
    hand.reached(Phase.CONNECTING)
    hand.signal(signal.SIGTERM)
    assert hand.gone() == 0


def test_redis_restarts_under_an_idle_worker(crew, valkey, queue, ends):
    hand = crew.start("a", "b")
    assert ends(queue("a").enqueue(jobs.noop)) == "finished"
    valkey.restart()
    assert ends(queue("b").enqueue(jobs.noop)) == "finished"
    hand.signal(signal.SIGTERM)
    assert hand.gone() == 0


def test_redis_restarts_under_a_job(crew, valkey, queue, gate, ends):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    crew.start()
    door.wait_until_reached()
    valkey.stop()
    door.open()
    valkey.start()
    assert ends(job) == "finished"
    assert queue().finished_job_registry.get_job_ids() == [job.id]


class Goodbye:
    @hookimpl
    def worker_exiting(self, worker, reason):
        print(f"goodbye {reason} {worker.state.value} {worker.pid}", flush=True)

    @hookimpl
    def reopen_logs(self, role):
        print(f"reopened {role}", flush=True)


def test_says_goodbye_once_and_before_it_is_deregistered(crew):
    hand = crew.start(plugins=[Goodbye()])
    hand.signal(signal.SIGTERM)
    hand.gone()
    said = [line for line in crew.log.read_text().splitlines() if line.startswith("goodbye")]
    assert said == [f"goodbye asked stopping {hand.pid}"]


def test_logs_are_reopened_at_the_next_turn(crew, queue, gate, ends):
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    hand = crew.start(plugins=[Goodbye()])
    hand.signal(signal.SIGUSR1)
    door.wait_until_reached()
    hand.signal(signal.SIGUSR1)
    door.open()
    assert ends(job) == "finished"
    wait_for(lambda: "reopened worker" in crew.log.read_text(), 5, "the hook")


def test_stacks_are_dumped_from_inside_c_code(crew, queue, gate):
    door = gate()
    queue().enqueue(jobs.stuck_in_c, str(door))
    hand = crew.start()
    door.wait_until_reached()
    hand.signal(DUMP)
    wait_for(lambda: b"stuck_in_c" in os.pread(crew.dumps, 1 << 16, 0), 5, "the stacks")


def test_modules_are_imported_by_each_worker_without_preload(crew, tmp_path, monkeypatch):
    (tmp_path / "lateapp.py").write_text("print('imported late', flush=True)")
    (tmp_path / "brokenapp.py").write_text("raise RuntimeError('no database')")
    monkeypatch.syspath_prepend(tmp_path)
    crew.start(preload_app=False, require=("lateapp",))
    assert "imported late" in crew.log.read_text()
    hand = crew.start(wait=False, require=("brokenapp",))
    assert os.waitstatus_to_exitcode(hand.gone()) == 78
    assert "no database" in crew.log.read_text()
    assert hand.record.phase is Phase.LEFT


def test_leaves_when_its_parent_has_gone(crew, queue, gate, status):
    """The fork server is gone; its worker has been told by nobody."""
    door = gate()
    job = queue().enqueue(jobs.wait_at, str(door))
    middle = os.fork()
    if middle == 0:
        try:
            crew.start(wait=False)
            door.wait_until_reached()
        finally:
            os._exit(0)
    os.waitpid(middle, 0)
    record = wait_for(lambda: crew.board.read(1), 5, "the record")
    worker = psutil.Process(record.pid)
    door.open()
    wait_for(lambda: crew.board.read(1).phase is Phase.LEFT, 5, "its end")
    assert crew.board.read(1).reason is Reason.ORPHANED
    assert status(job.id) == "finished"
    wait_for(lambda: not worker.is_running() or worker.status() == "zombie", 5, "its end")
    os.waitpid(record.pid, 0)  # the test run is a subreaper
