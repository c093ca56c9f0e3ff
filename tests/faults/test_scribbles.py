"""A wild write of job code into the scoreboard: readers clamp, and writers write it right."""

from __future__ import annotations

import math
import os
import random
from dataclasses import astuple, replace

import pytest

from harness.waiting import stays_true, wait_for
from harness.world import World
from resqued.core import events
from resqued.scoreboard import Phase, Reason, Record, RecordWriter, Scoreboard, StewardStatus, Stop

PAGE = 4096

SCRIBBLER = """
    import os

    def scribble(page, offset, data):
        for name in os.listdir("/proc/self/fd"):
            try:
                found = "resqued-scoreboard" in os.readlink(f"/proc/self/fd/{name}")
            except OSError:
                continue
            if found:
                os.pwrite(int(name), data, 4096 * page + offset)
                return
        raise RuntimeError("no scoreboard")
"""


@pytest.fixture
def board():
    board = Scoreboard.create()
    yield board
    board.close()


def wished(arbiter):
    """By `--status`; None while what it reads is not what the arbiter wrote."""
    try:
        return arbiter.status().get("wished")
    except AssertionError:
        return None


@pytest.mark.parametrize("seed", range(20))
def test_whatever_stands_there_can_be_read_and_is_mended_by_the_next_write(board, seed):
    dice = random.Random(seed)
    writer = RecordWriter(board, 1, Record(pid=7, serial=3))
    junk = b"\xff" * PAGE if seed == 0 else dice.randbytes(PAGE)
    os.pwrite(board.fd, junk, 2 * PAGE)
    os.pwrite(board.fd, junk, 0)
    os.pwrite(board.fd, junk, PAGE * 4097)  # the summary
    record, status = board.read(1), board.steward_status()
    numbers = [value for value in (*astuple(record), *astuple(status)) if isinstance(value, float)]
    assert all(math.isfinite(number) and number >= -1 for number in numbers)
    assert record.pid >= 0
    assert record.horse >= 0
    assert board.stop_word(1) in set(Stop)
    board.order(1)
    assert math.isfinite(board.maintained)
    assert board.summary.read() == {}

    writer.update(phase=Phase.IDLE)
    board.set_stop(1, Stop.DRAIN)
    board.set_steward_status(StewardStatus(2, True, 1.0, 2.0, 3.0))
    board.mend_header()
    board.summary.write({"state": "running"})
    assert board.read(1) == writer.record
    assert board.stop_word(1) is Stop.DRAIN
    assert board.steward_status() == StewardStatus(2, True, 1.0, 2.0, 3.0)
    fresh = Scoreboard(os.dup(board.fd))
    assert fresh.summary.read() == {"state": "running"}
    fresh.close()


def test_a_record_of_garbage_says_nothing(board):
    os.pwrite(board.fd, b"\xff" * PAGE, 2 * PAGE)
    assert board.read(1) == Record()


def test_a_time_to_come_does_not_make_a_steward_immortal():
    world = World(1)
    world.run()
    (steward,) = world.stewards.values()
    steward.hung = True
    steward.turned = 1e14
    world.turn()
    world.advance(100)
    world.turn()
    world.run()
    (successor,) = world.stewards.values()
    assert successor.serial > steward.serial


def test_a_steward_to_come_does_not_make_every_other_leave():
    world = World(1)
    world.run()
    world.do(events.Turn({}, StewardStatus(2**64 - 1), frozenset(), False))
    assert world.cleared == 1
    world.turn()
    assert world.cleared == 1


def test_who_dies_with_a_spoilt_record_is_recovered_by_what_was_seen_of_it():
    world = World(1)
    world.run()
    (worker,) = world.living(1)
    worker.record = replace(worker.record, phase=Phase.RUNNING, job_id="j1")
    world.turn()
    worker.record = Record(name="w", serial=worker.serial, reason=Reason.NONE)
    world.end_worker(worker, 9)
    world.run()
    assert any("recovered job=j1" in line for line in world.log)


@pytest.mark.parametrize(
    ("page", "offset", "data"),
    [
        pytest.param(2, 0, b"\xff" * PAGE, id="own page"),
        pytest.param(3, 0, b"\xff" * PAGE, id="page of another"),
        pytest.param(2, 128, b"\x4d\0\0\0", id="phase 77"),
        pytest.param(0, 0, b"\xff" * PAGE, id="header"),
        pytest.param(4097, 0, b"\xff" * 200, id="summary"),
    ],
)
def test_a_job_that_writes_over_the_scoreboard_stops_nobody(resqued, queue, page, offset, data):
    arbiter = resqued("-n", 2, "-r", "app", app=SCRIBBLER)
    arbiter.wait_for_workers(2)
    evil = queue().enqueue("app.scribble", page, offset, data)
    wait_for(lambda: evil.get_status(refresh=True) == "finished", 15, "the scribbler")
    after = [queue().enqueue("harness.jobs.noop") for _ in range(6)]
    wait_for(lambda: all(job.get_status(refresh=True) == "finished" for job in after), 30, "jobs")
    wait_for(lambda: wished(arbiter) == 2, 10, "--status to answer again")
    wait_for(lambda: arbiter.status()["steward"], 10, "the steward to be known")
    before = arbiter.status()["steward"]
    stays_true(lambda: [each.pid for each in arbiter.stewards()] == [before], 2, "one steward")
    assert arbiter.stop("TERM") == 0
