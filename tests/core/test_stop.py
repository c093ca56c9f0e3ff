"""A stop that finds nobody to recover a job: a fork server is started, within the stop's bound."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.world import World
from resqued.core.state import Stage
from resqued.scoreboard import Phase

BOUND = 5.0
"""Seconds that a stop may take, whatever happens in it."""


def started(workers: int = 1, **policy) -> World:
    world = World(workers, **policy)
    world.run()
    assert world.ready() == workers
    return world


def busy(world: World):
    (worker,) = world.living(1)
    worker.record = replace(worker.record, phase=Phase.RUNNING, job_id="j1")
    worker.stubborn = True
    world.turn()
    return worker


def stop_everybody(world: World) -> float:
    """TERM to the arbiter, the fork server and its worker; both of these are gone. Since when."""
    worker = busy(world)
    began = world.now
    world.tell_to_leave(world.servers[1])
    world.signal("TERM")
    world.turn()
    world.end_worker(worker, 9)
    world.end_server(1, 0)
    world.turn()
    return began


def load_for(world: World, seconds: float) -> None:
    """The fork server that has been started is busy for so long, up to the arbiter's deadlines."""
    assert list(world.servers) == [1], "a fork server was started for the recovery"
    world.servers[1].hung = True
    until = world.now + seconds
    while world.finished is None and world.now < until:
        due = world.core.next_deadline(world.now)
        world.now = min(until, due if due is not None else until)
        world.run(3)
    for server in world.servers.values():
        server.hung = False


@pytest.mark.parametrize("seconds", [0.0, 1.9, 2.5, 4.5])
def test_a_fork_server_that_is_slow_to_load_is_waited_for(seconds):
    world = started()
    began = stop_everybody(world)
    load_for(world, seconds)
    world.settle()
    assert world.finished == 0
    assert world.now - began <= BOUND
    assert any("recovered job=j1: requeued" in line for line in world.log)


def test_one_that_takes_too_long_is_not():
    world = started()
    began = stop_everybody(world)
    load_for(world, 100.0)
    world.settle()
    assert world.finished == 75
    assert world.now - began <= BOUND
    assert any("without having recovered: j1" in line for line in world.log)


def test_nor_is_one_for_a_name_without_a_job():
    world = started()
    worker = busy(world)
    worker.record = replace(worker.record, phase=Phase.IDLE, job_id="")
    began = world.now
    world.signal("TERM")
    world.turn()
    world.end_worker(worker, 9)
    world.end_server(1, 0)
    world.turn()
    load_for(world, 100.0)
    world.settle()
    assert world.finished == 0
    assert world.now - began <= 2.5


def test_a_recovery_that_got_no_answer_from_redis_is_not_waited_for_longer():
    world = started()
    world.answers_recovery = False
    worker = busy(world)
    began = world.now
    world.signal("TERM")
    world.turn()
    world.end_worker(worker, 9)
    world.settle()
    assert world.finished == 75
    assert world.now - began <= 2.5


def test_without_redis_it_stays_within_the_bound():
    world = started()
    world.answers_recovery = False
    began = stop_everybody(world)
    load_for(world, 1.5)
    world.settle()
    assert world.finished == 75
    assert world.now - began <= BOUND


@pytest.mark.parametrize("held", [True, False])
def test_nor_does_a_steward_that_waits_for_redis_hold_it_up(held):
    """One that takes connections and says nothing: worker, recovery and steward wait for it."""
    world = started()
    world.answers_recovery = False
    for steward in world.stewards.values():
        steward.hung = True
    (worker,) = world.living(1)
    worker.stubborn = True
    if held:
        busy(world)
    began = world.now
    world.signal("TERM")
    world.settle()
    assert world.finished == (75 if held else 0)
    assert world.now - began <= BOUND


@pytest.mark.parametrize("name", ["TERM", "QUIT"])
def test_a_fork_server_that_backs_off_is_started_at_once(name):
    """It was killed again and again, and its last worker has a job in hand."""
    world = started()
    worker = busy(world)
    world.end_server(1, 9)
    for _ in range(5):
        world.spawn_fails = "no more processes"
        world.settle(5)
    world.spawn_fails = ""
    generation = world.state.generations[1]
    assert generation.stage is Stage.WAITING
    assert generation.not_before - world.now > 5
    began = world.now
    world.signal(name)
    world.turn()
    world.end_worker(worker, 9)
    world.settle()
    assert world.finished == 0
    assert world.now == began
    assert any("recovered job=j1" in line for line in world.log)


def test_a_fork_server_that_was_still_loading_is_not_given_up_for_good():
    world = started()
    worker = busy(world)
    world.end_server(1, 9)
    world.turn()
    assert world.state.generations[1].stage is Stage.STARTING
    began = world.now
    world.signal("TERM")
    world.turn()
    world.end_worker(worker, 9)
    world.settle()
    assert world.finished == 0
    assert world.now - began <= BOUND
    assert any("recovered job=j1" in line for line in world.log)
