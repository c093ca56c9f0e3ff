"""The scoreboard as others see it while it is written to."""

from __future__ import annotations

import math
import os
import signal
import time

import psutil
import pytest

from harness.waiting import stays_true, wait_for
from resqued.scoreboard import (
    Order,
    Phase,
    Reason,
    Record,
    RecordWriter,
    Scoreboard,
    StewardStatus,
    Stop,
)

SECONDS = 1.0


@pytest.fixture
def board():
    board = Scoreboard.create()
    yield board
    board.close()


@pytest.fixture
def scribbled(board):
    """`scribbled(write)`: another process writes on and on."""
    pids = []

    def scribbled(write):
        pid = os.fork()
        if not pid:
            try:
                while True:
                    write()
            finally:
                os._exit(1)
        pids.append(pid)

    yield scribbled
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def seen(read):
    """All different things that are read in a while."""
    found = set()
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        found.add(read())
    return found


def test_nobody_sees_half_of_a_vigil(board, scribbled):
    status = StewardStatus(7, True, 1.0, 2.0, 3.0)
    board.set_steward_status(status)
    scribbled(lambda: board.set_steward_status(status))
    assert seen(board.steward_status) == {status}


def test_nobody_sees_a_word_that_was_not_said(board, scribbled):
    board.set_stop(1, Stop.NOW)
    scribbled(lambda: board.set_stop(1, Stop.NOW))
    assert seen(lambda: board.stop_word(1)) == {Stop.NOW}


def test_a_record_is_one_of_those_written_and_never_an_older_one(board, scribbled):
    writer = RecordWriter(board, 1, Record(name="w", done=1, job_id="j1"))

    def write():
        done = writer.record.done + 1
        writer.update(done=done, job_id=f"j{done}")

    scribbled(write)
    last = 0
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        record = board.read(1)
        assert record.job_id == f"j{record.done}"
        assert record.done >= last
        last = record.done
    assert last > 1


@pytest.fixture
def sleepers(board):
    """`sleepers(count, seconds)`: so many processes sleep over the bell 7; pids of those left."""
    pids = set()

    def left():
        for pid in list(pids):
            if os.waitpid(pid, os.WNOHANG)[0]:
                pids.discard(pid)
        return pids

    def asleep(pid):
        return psutil.Process(pid).status() == psutil.STATUS_SLEEPING

    def sleepers(count, seconds=60.0):
        bell = board.bell(7)
        for _ in range(count):
            rung = bell.rung
            pid = os.fork()
            if not pid:
                try:
                    signal.signal(signal.SIGUSR1, lambda signum, frame: None)
                    bell.sleep(rung, seconds)
                finally:
                    os._exit(0)
            pids.add(pid)
        wait_for(lambda: all(map(asleep, pids)), 10, "all to sleep")
        return left

    yield sleepers
    for pid in left():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_ring_wakes_one_of_those_that_sleep(board, sleepers):
    left = sleepers(5)
    for number in range(4, -1, -1):
        board.bell(7).ring()
        wait_for(lambda number=number: len(left()) == number, 10, "one to be woken")
    board.bell(7).ring()  # nobody is there


def test_another_bell_wakes_nobody(board, sleepers):
    left = sleepers(2)
    board.bell(8).ring()
    stays_true(lambda: len(left()) == 2, 0.3, "they sleep")


def test_whoever_is_killed_in_its_sleep_takes_no_ring_with_it(board, sleepers):
    left = sleepers(3)
    os.kill(min(left()), signal.SIGKILL)
    wait_for(lambda: len(left()) == 2, 10, "it to be gone")
    board.bell(7).ring()
    wait_for(lambda: len(left()) == 1, 10, "one to be woken")


def test_a_signal_and_the_end_of_time_wake_too(sleepers):
    left = sleepers(2)
    os.kill(min(left()), signal.SIGUSR1)
    wait_for(lambda: len(left()) == 1, 10, "one to be woken")
    left = sleepers(1, 0.5)
    wait_for(lambda: len(left()) == 1, 10, "the other to be woken")


def test_who_has_looked_before_a_ring_does_not_sleep_over_it(board):
    bell = board.bell(7)
    rung = bell.rung
    bell.ring()
    assert bell.sleep(rung, 60)
    assert not bell.sleep(bell.rung, 0.01)


def test_a_scoreboard_of_an_older_version_has_no_bells():
    board = Scoreboard.create()
    os.ftruncate(board.fd, os.fstat(board.fd).st_size - 4 * 2**20)
    older = Scoreboard(os.dup(board.fd))
    assert older.bell(7) is None
    older.close()
    board.close()


def test_a_ring_for_all_wakes_all(board, sleepers):
    left = sleepers(4)
    board.bell(7).ring_all()
    wait_for(lambda: not left(), 10, "all to be woken")


def test_each_call_changes_the_number_of_calls(board):
    seen = [board.calls]
    for _ in range(3):
        board.call_idle()
        seen.append(board.calls)
    assert len(set(seen)) == 4


def test_the_reason_of_an_order_is_cut_and_no_longer_order_keeps_it(board):
    board.set_order(1, Order.FAIL, "e1", "holds a lock\nfor long " + "ü" * 1000)
    assert board.order(1) == (Order.FAIL, "e1")
    assert board.order_reason(1).startswith("holds a lock\nfor long üü")
    board.set_order(1, Order.FAIL, "e2", "")
    assert board.order_reason(1) == ""


def test_a_reason_lies_beside_the_record(board):
    writer = RecordWriter(board, 1, Record(name="w", lost_verdict="v" * 16))
    writer.update(done=1)
    for _ in range(2):
        board.set_order(1, Order.FAIL, "e" * 40, "x" * 2000)
        assert board.read(1) == writer.record
        writer.update(done=writer.record.done + 1)
    assert board.order_reason(1) == "x" * 640
    assert board.read(2) == Record()


def test_a_record_that_is_read_is_like_one_that_was_made(board):
    record = Record(Phase.RUNNING, Reason.NONE, 7, job_timeout=-1.0, name="wörker", done=2**40)
    board.write(1, record)
    read = board.read(1)
    assert read == record and hash(read) == hash(record) and repr(read) == repr(record)
    with pytest.raises(AttributeError):
        read.done = 0


def test_times_and_pids_that_cannot_be_are_brought_into_their_range(board):
    board.write(1, Record(Phase.IDLE, pid=-3, started=math.nan, deadline=-5.0, heartbeat=math.inf))
    assert board.read(1) == Record(Phase.IDLE)
