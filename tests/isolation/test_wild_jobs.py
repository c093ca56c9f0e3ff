"""Jobs that treat their process badly: the worker does not notice, their outcome is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import jobs, processes
from harness.waiting import wait_for
from isolation import tasks


@pytest.mark.parametrize("forked", ["for it", "ahead"])
def test_they_end_as_they_should_and_the_worker_lives_on(
    isolated, queue, gate, ends, ahead, forked
):
    before = ahead if forked == "ahead" else list
    arbiter = isolated(expect_errors="descriptors|log")
    worker = arbiter.wait_for_workers(1)[1].pid
    before()
    closed = queue().enqueue(tasks.closes_everything, "closed")
    assert ends(closed) == "finished"
    assert closed.return_value(refresh=True) == "closed"
    before()
    littered = queue().enqueue(tasks.litter)
    assert ends(littered) == "finished"
    assert littered.return_value(refresh=True) == "littered"
    before()
    twice = queue().enqueue(jobs.fork_and_return)
    assert ends(twice) == "finished"
    assert ends(queue().enqueue(jobs.change_handlers)) == "finished"
    assert ends(queue().enqueue(jobs.shout)) == "finished"
    door = gate()
    before()
    left = queue().enqueue(tasks.leaves_a_group_member, 1000, str(door))
    assert ends(left) == "finished"
    member = int(Path(f"{door}.child").read_text())
    wait_for(lambda: not processes.alive(member), 15, "what the job has left to end")
    assert ends(queue().enqueue(tasks.pid)) == "finished"
    assert arbiter.wait_for_workers(1)[1].pid == worker


def test_three_hundred_jobs_leave_nothing(isolated, queue, connection, ends):
    arbiter = isolated("-q")
    worker = arbiter.wait_for_workers(1)[1]

    def run(count):
        many = [queue().enqueue(jobs.nothing) for _ in range(count)]
        for job in many:
            assert ends(job, 60) == "finished"
        wait_for(lambda: not worker.children(), 10, "the last children to be gone")
        return worker.num_fds(), worker.num_threads(), worker.memory_info().rss

    descriptors, threads, memory = run(50)
    after = run(250)
    assert after[:2] == (descriptors, threads)
    assert after[2] - memory < 2 * 2**20
