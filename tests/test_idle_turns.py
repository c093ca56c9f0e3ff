"""Which turns of the arbiter's loop are left out, and which never."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from harness.world import World
from resqued.arbiter.idle_turns import IdleTurns
from resqued.scoreboard import Phase, Scoreboard


@pytest.fixture
def board():
    board = Scoreboard.create()
    yield board
    board.close()


@pytest.fixture
def world():
    """Three workers, idle."""
    world = World(3)
    world.run()
    assert len(world.state.workers()) == 3
    return world


@pytest.fixture
def begin(board):
    """`begin(world, due)`: as after a whole turn; the IdleTurns."""
    doze = IdleTurns(board)

    def begin(world, due=None):
        for worker in world.workers.values():
            board.write(worker.slot, worker.record)
        seen = {
            worker.slot: board.read_again(worker.slot, None) for worker in world.state.workers()
        }
        doze.end()
        doze.begin(world.state, seen, due)
        return doze

    return begin


def test_idle_workers_that_only_live_are_left_alone(world, begin, board):
    doze = begin(world)
    assert doze.is_quiet()
    for _ in range(3):
        record = board.read(2)
        board.write(2, replace(record, heartbeat=record.heartbeat + 1, deadline=2000.0))
        assert doze.is_quiet()


@pytest.mark.parametrize(
    "changes",
    [{"phase": Phase.TAKEN}, {"done": 1}, {"phase": Phase.LEAVING}, {"phase": Phase.EMPTY}],
)
def test_a_record_that_says_more_is_read_at_once(world, begin, board, changes):
    doze = begin(world)
    board.write(2, replace(board.read(2), **changes))
    assert not doze.is_quiet()
    assert not doze.is_quiet(), "until a whole turn has seen it"


def test_what_is_due_is_not_slept_over(world, begin):
    assert not begin(world, due=time.monotonic() - 1).is_quiet()
    assert begin(world, due=time.monotonic() + 3600).is_quiet()


def test_before_all_are_idle_every_turn_is_whole(begin):
    world = World(3)
    assert not begin(world).is_quiet()
    world.run()
    assert begin(world).is_quiet()


@pytest.mark.parametrize("name", ["QUIT", "TERM", "HUP", "USR2", "TTIN"])
def test_what_was_asked_for_keeps_it_awake(world, begin, name):
    world.signal(name)
    assert not begin(world).is_quiet()


def test_a_worker_that_died_keeps_it_awake_until_another_is_idle(world, begin):
    world.end_worker(world.living(2)[0], 9)
    assert not begin(world).is_quiet()
    world.settle()
    assert begin(world).is_quiet()


def test_at_rest_there_is_nothing_to_see(world, begin):
    world.signal("WINCH")
    world.settle()
    assert not world.state.workers()
    assert begin(world).is_quiet()
