"""Counts on the scoreboard: what is counted, and that no end of a worker makes a total fall."""

from __future__ import annotations

import os
import signal
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import jobs
from harness.board import totals_of
from harness.waiting import wait_for
from resqued.scoreboard import Record, Scoreboard
from resqued.scoreboard.counts import (
    BOUNDS,
    OTHER,
    OUTCOMES,
    SLOT_QUEUES,
    Counts,
    arbiter_table,
    slot_table,
    totals,
)


@pytest.fixture
def board():
    board = Scoreboard.create()
    yield board
    board.close()


def test_one_job_is_counted_in_its_buckets(board):
    table = slot_table(board, 1)
    table.start("high", 0.02)
    table.end("high", "finished", 2.5)
    counts = totals(board)["high"]
    assert (counts.started, counts.finished, counts.ended) == (1, 1, 1)
    assert counts.waits[BOUNDS.index(0.03)] == 1 and sum(counts.waits) == 1
    assert counts.runs[BOUNDS.index(3.0)] == 1 and sum(counts.runs) == 1
    assert (counts.wait_sum, counts.run_sum) == (0.02, 2.5)


def test_a_bound_belongs_to_its_bucket_and_the_last_takes_all(board):
    table = slot_table(board, 1)
    for bound in BOUNDS:
        table.start("a", min(bound, 1e9))
    assert totals(board)["a"].waits == (1,) * len(BOUNDS)


def test_an_unknown_time_is_in_no_bucket(board):
    table = slot_table(board, 1)
    table.start("a", None)
    table.end("a", "failed", None)
    assert totals(board)["a"] == Counts(started=1, failed=1)


def test_what_is_no_outcome_of_this_worker_is_not_counted(board):
    slot_table(board, 1).end("a", "superseded", 1.0)
    assert totals(board) == {}


def test_a_successor_in_the_slot_goes_on(board):
    slot_table(board, 3).end("a", "finished", 1.0)
    slot_table(board, 3).end("a", "finished", 1.0)
    assert totals(board)["a"].finished == 2


def test_queues_beyond_the_first_are_counted_together(board):
    table = slot_table(board, 1)
    for number in range(SLOT_QUEUES + 5):
        table.end(f"q{number}", "finished", 0.1)
    found = totals(board)
    assert found[OTHER].finished == 5 and len(found) == SLOT_QUEUES + 1


def test_a_full_table_is_moved_and_has_room_again(board):
    table = slot_table(board, 1)
    for number in range(SLOT_QUEUES + 5):
        table.end(f"q{number}", "finished", 0.1)
    before = totals(board)
    arbiter_table(board).take(slot_table(board, 1))
    assert totals(board) == before and slot_table(board, 1).used == 0
    slot_table(board, 1).end("new", "finished", 0.1)
    assert totals(board)["new"].finished == 1


def test_counts_survive_the_loss_of_the_descriptor(board):
    board.write(7, Record(done=1))
    slot_table(board, 7).end("a", "finished", 0.1)
    arbiter_table(board).end("b", "failed", None)
    before = totals(board)
    lost = os.dup(board.fd)
    board.renew()
    os.close(lost)
    assert totals(board) == before and len(before) == 2
    assert os.fstat(board.fd).st_blocks * 512 < 100_000


events = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.sampled_from([f"q{number}" for number in range(20)]),
        st.sampled_from(OUTCOMES),
        st.floats(0, 5000),
        st.booleans(),
    ),
    max_size=60,
)


@given(events)
def test_the_totals_are_the_sums_whatever_is_moved(events):
    board = Scoreboard.create()
    try:
        for slot, queue, outcome, seconds, moved in events:
            table = slot_table(board, slot)
            table.start(queue, seconds)
            table.end(queue, outcome, seconds)
            if moved:
                arbiter_table(board).take(table)
        found = totals(board).values()
        assert sum(counts.started for counts in found) == len(events)
        assert sum(counts.ended for counts in found) == len(events)
        assert sum(sum(counts.runs) for counts in found) == len(events)
    finally:
        board.close()


def test_what_job_code_has_written_over_is_not_shown_and_breaks_nothing(board):
    table = slot_table(board, 1)
    table.end("a", "finished", 1.0)
    at = board.counts_at(1)
    board.put_bytes(at, b"\xff" * 1024)
    assert totals(board) == {}
    table.start("a", 1.0)
    table.end("a", "finished", 1.0)
    slot_table(board, 2).end("a", "finished", 1.0)
    assert totals(board)["a"].finished >= 1


def test_readers_never_see_a_total_fall(board):
    """While another process counts and moves."""
    pid = os.fork()
    if not pid:
        try:
            while True:
                table = slot_table(board, 1)
                for number in range(40):
                    table.end(f"q{number % 18}", "finished", 0.001)
                arbiter_table(board).take(table)
        finally:
            os._exit(1)
    try:
        last = 0
        wait_for(lambda: totals(board), 10, "the first counts")
        for _ in range(500):
            total = sum(counts.finished for counts in totals(board).values())
            assert total >= last
            last = total
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_kill_in_the_middle_of_a_write_leaves_whole_counts(board):
    """Each count is one word: of one job, at most, some are written and others are not."""
    kills = 20
    for number in range(kills):
        ready, told = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                table = slot_table(board, 1)
                os.write(told, b"x")
                while True:
                    table.start("a", 0.02)
                    table.end("a", "finished", 0.02)
            finally:
                os._exit(1)
        os.read(ready, 1)
        time.sleep(0.002 * number)  # anywhere in the loop
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(told)
    counts = totals(board)["a"]
    told = (counts.finished, sum(counts.waits), sum(counts.runs))
    sums = (round(counts.wait_sum / 0.02), round(counts.run_sum / 0.02))
    assert counts.started > 0
    assert all(0 <= counts.started - each <= kills for each in (*told, *sums))


# The real command.


def finished(arbiter, name):
    return totals_of(arbiter.pid).get(name, Counts()).finished


@pytest.mark.parametrize(
    "way", [(), ("--isolation", "fork"), ("-w", "rq.Worker")], ids=["worker", "fork", "rq"]
)
def test_jobs_are_counted_by_queue_and_outcome(resqued, queue, way):
    arbiter = resqued(
        *("-n", 2, "--queue", "a", "--queue", "b"),
        *way,
        expect_errors="told to fail|exception raised|failed job|Traceback",
    )
    arbiter.wait_for_workers(2)
    for _ in range(4):
        queue("a").enqueue(jobs.nothing)
    queue("b").enqueue(jobs.fail)

    def all_counted():
        found = totals_of(arbiter.pid)
        ended = [found.get(name, Counts()).ended for name in "ab"]
        return found if ended == [4, 1] else None

    found = wait_for(all_counted, 10, "the counts")
    assert (found["a"].started, found["a"].finished, found["b"].failed) == (4, 4, 1)
    assert sum(found["a"].waits) == 4 and sum(found["a"].runs) == 4
    assert 0 < found["a"].run_sum < 10


def test_totals_stay_when_workers_are_killed_replaced_and_the_arbiter_is_replaced(resqued, queue):
    arbiter = resqued("-n", 2, "--queue", "a")
    workers = arbiter.wait_for_workers(2)
    for _ in range(4):
        queue("a").enqueue(jobs.nothing)
    wait_for(lambda: finished(arbiter, "a") == 4, 10, "four jobs")
    arbiter.signal("KILL", pid=workers[1].pid)
    wait_for(
        lambda: arbiter.wait_for_workers(2)[1].pid != workers[1].pid, 10, "another in its place"
    )
    assert finished(arbiter, "a") == 4
    for name, done in (("HUP", "gen=2 in service"), ("USR2", "re-exec done")):
        mark = arbiter.mark()
        arbiter.signal(name)
        arbiter.wait_for(done, after=mark)
        assert finished(arbiter, "a") == 4
    arbiter.wait_for_workers(2)
    queue("a").enqueue(jobs.nothing)
    wait_for(lambda: finished(arbiter, "a") == 5, 10, "the fifth")
