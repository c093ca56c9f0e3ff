"""The core's decisions about the steward, about commands, and about processes that are stopped."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from harness.world import World
from resqued import messages
from resqued.core import actions, events
from resqued.core.step import Step
from resqued.core.stewards import STALE, keep
from resqued.scoreboard import Order, Phase, StewardStatus


def started(workers: int = 1, **policy) -> World:
    world = World(workers, **policy)
    world.run()
    assert world.ready() == workers
    return world


def the_steward(world: World):
    (steward,) = world.stewards.values()
    return steward


def test_there_is_one_and_a_dead_one_is_replaced_at_once():
    world = started()
    first = the_steward(world)
    world.end_steward(first, 9)
    world.run()
    assert the_steward(world).serial > first.serial
    assert any(f"steward={first.serial}" in line and "signal 9" in line for line in world.log)


@pytest.mark.parametrize("status", [11, 0], ids=["dies", "leaves unasked"])
def test_one_that_dies_or_leaves_again_and_again_backs_off(status):
    world = started()
    deaths = []
    for _ in range(6):
        world.end_steward(the_steward(world), status)
        deaths.append(world.now)
        while not world.stewards:
            world.run(2)
            if not world.stewards:
                world.now = world.core.next_deadline(world.now)
        world.run()
    gaps = [round(b - a) for a, b in itertools.pairwise(deaths)]
    assert gaps == [0, 1, 2, 4, 8]


def test_one_that_stands_still_is_killed():
    world = started()
    first = the_steward(world)
    first.hung = True
    world.advance(STALE - 1)
    world.turn()
    assert world.stewards == {first.serial: first}
    world.advance(2)
    world.turn()
    world.run()
    assert the_steward(world).serial > first.serial


def test_a_machine_that_slept_does_not_kill_it():
    world = started()
    first = the_steward(world)
    first.hung = True
    world.advance(1000)
    world.turn(overslept=True)
    first.hung = False
    world.run()
    assert the_steward(world) is first


def test_a_reload_brings_a_new_one_and_the_old_one_leaves_after_its_hello():
    world = started(2)
    first = the_steward(world)
    world.signal("HUP")
    world.settle(5)
    new = the_steward(world)
    assert (new.serial > first.serial, new.parent) == (True, 2)


def test_without_redis_the_old_one_stays_beside_the_new_one():
    world = started()
    world.redis = False
    first = the_steward(world)
    world.end_server(1, 9)
    world.settle(5)
    assert first.serial in world.stewards
    assert len(world.stewards) == 2
    world.redis = True
    world.settle(5)
    assert the_steward(world).serial > first.serial


def test_it_leaves_after_the_workers_and_recoveries_and_before_the_fork_server():
    world = started(2)
    order = []
    world.perform = track(world, order)
    world.signal("QUIT")
    world.settle()
    assert world.finished == 0
    kinds = [
        type(action.message if isinstance(action, actions.Send) else action).__name__
        for action in order
    ]
    assert kinds.index("SignalSteward") < kinds.index("Retire")
    assert max(at for at, kind in enumerate(kinds) if kind == "SignalWorker") < kinds.index(
        "SignalSteward"
    )


def track(world: World, order: list[actions.Action]):
    perform = world.perform

    def tracked(todo: list[actions.Action]) -> None:
        order.extend(todo)
        perform(todo)

    return tracked


def test_one_that_does_not_leave_does_not_hold_up_the_end():
    world = started()
    the_steward(world).hung = True
    began = world.now
    world.signal("TERM")
    world.settle()
    assert world.finished == 0
    assert world.now - began <= 8


# Commands.


def running(world: World, execution_id: str = "e1"):
    (worker,) = world.living(1)
    worker.record = replace(
        worker.record, phase=Phase.RUNNING, job_id="j1", execution_id=execution_id
    )
    world.turn()
    return worker


@pytest.mark.parametrize(("word", "stopped"), [("stop", 1), ("kill", 2)])
def test_a_job_that_does_not_leave_goes_with_its_worker(word, stopped):
    world = started()
    worker = running(world)
    world.hear(1, messages.Commanded(1, worker.serial, word, "e1"))
    assert world.state.slot(1).worker.order is Order[word.upper()]
    world.advance(1.9)
    world.turn()
    assert world.living(1) == [worker]
    world.answers_recovery = False
    world.advance(0.2)
    world.turn()
    world.run()
    (recovery,) = world.state.recoveries.values()
    assert (recovery.death.record.job_id, recovery.death.record.stopped) == ("j1", stopped)
    assert world.living(1) != [worker]


def test_a_stop_is_known_to_the_recovery_of_who_died_before_it_knew_of_the_job():
    world = started()
    (worker,) = world.living(1)
    worker.record = replace(worker.record, token="e1")
    world.turn()
    world.hear(1, messages.Commanded(1, worker.serial, "stop", "e1"))
    world.answers_recovery = False
    world.end_worker(worker, 9)
    world.run()
    (recovery,) = world.state.recoveries.values()
    assert recovery.death.record.stopped == Order.STOP


def test_a_stop_after_a_kill_counts_and_not_the_other_way_round():
    """Who stops a job does not want it retried, as a killed one may be."""
    world = started()
    worker = running(world)
    for word in ("kill", "stop", "kill"):
        world.hear(1, messages.Commanded(1, worker.serial, word, "e1"))
    assert world.state.slot(1).worker.order is Order.STOP


def test_a_job_that_has_left_in_time_costs_nobody_his_life():
    world = started()
    worker = running(world)
    world.hear(1, messages.Commanded(1, worker.serial, "stop", "e1"))
    running(world, "e2")
    world.advance(5)
    world.turn()
    assert world.living(1) == [worker]


def test_news_of_an_earlier_worker_is_ignored():
    world = started()
    worker = running(world)
    world.hear(1, messages.Commanded(1, worker.serial - 1, "shutdown", ""))
    world.hear(1, messages.Commanded(1, worker.serial, "dance", "e1"))
    world.advance(5)
    world.turn()
    assert world.living(1) == [worker]


# Stopped processes.


def frozen_turn(world: World, *slots: int) -> None:
    records = {worker.slot: worker.record for worker in world.living()}
    world.do(events.Turn(records, world.steward_status(), frozenset(slots)))


def test_a_stopped_process_is_judged_though_its_job_has_no_deadline():
    world = started(2, loop_timeout=20.0)
    worker = running(world)
    frozen_turn(world, 1)
    world.advance(19)
    frozen_turn(world, 1)
    assert world.judged == []
    world.advance(2)
    frozen_turn(world, 1)
    assert world.judged == [worker.serial]


def test_one_that_goes_on_in_time_is_left_alone():
    world = started(1, loop_timeout=20.0)
    running(world)
    frozen_turn(world, 1)
    world.advance(15)
    frozen_turn(world)
    world.advance(15)
    frozen_turn(world, 1)
    assert world.judged == []


def test_a_hello_counts_as_a_turn_of_its_loop():
    """Whatever the scoreboard says of the loop at that moment."""
    world = started()
    (steward,) = world.core.state.stewards.values()
    steward.ready, steward.turned = False, 0.0
    step = Step(world.core.state, world.now + STALE)
    keep(step, StewardStatus(serial=steward.serial, turned=0.0))
    assert steward.ready
    assert step.actions == []
