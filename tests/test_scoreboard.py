"""The scoreboard as others see it while it is written to."""

from __future__ import annotations

import os
import signal
import time

import pytest

from resqued.scoreboard import Record, RecordWriter, Scoreboard, Stop, Vigil

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
    vigil = Vigil(7, True, 1.0, 2.0, 3.0)
    board.set_vigil(vigil)
    scribbled(lambda: board.set_vigil(vigil))
    assert seen(board.vigil) == {vigil}


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
