"""Whose failure it was: a slot backs off for its own; and what is asked for ends by a failure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.world import World
from resqued import messages
from resqued.core import requests
from resqued.core.slot_failures import BRAKE, IN_A_ROW
from resqued.core.state import Stage
from resqued.death import Death
from resqued.forkserver import recoveries
from resqued.scoreboard import Phase, Reason


def started(workers: int = 1, **policy) -> World:
    world = World(workers, **policy)
    world.run()
    assert world.ready() == workers
    return world


def take(world: World, slot: int = 1):
    (worker,) = world.living(slot)
    worker.record = replace(
        worker.record, phase=Phase.RUNNING, job_id="j1", execution_id=f"e{worker.serial}"
    )
    world.turn()
    return worker


def end_job(world: World, slot: int = 1) -> None:
    (worker,) = world.living(slot)
    worker.record = replace(
        worker.record, phase=Phase.IDLE, job_id="", execution_id="", done=worker.record.done + 1
    )
    world.turn()


def gaps_of(world: World, deaths: int, end) -> list[float]:
    """Seconds that slot 1 stays empty after each of so many ends."""
    gaps = []
    for _ in range(deaths):
        end()
        began = world.now
        while not world.living(1):
            world.run(2)
            if not world.living(1):
                world.now = world.core.next_deadline(world.now)
        gaps.append(round(world.now - began, 1))
        world.run()
    return gaps


@pytest.mark.parametrize(
    ("phase", "status", "reason"),
    [(Phase.RUNNING, 9, "died"), (Phase.IDLE, 9, "asked"), (Phase.LEFT, 0, "asked")],
)
def test_a_worker_that_was_asked_to_leave_may_die_of_its_job(phase, status, reason):
    """With a job in hand it had not left yet: `worker_exited` is told that it died."""
    world = started()
    worker = take(world)
    worker.stubborn = True
    world.signal("QUIT")
    world.turn()
    job = "j1" if phase.holds_job else ""
    worker.record = replace(worker.record, phase=phase, job_id=job)
    world.end_worker(worker, status)
    world.turn()
    assert [exit.reason for exit in world.told_exited] == [reason]


# A slot's failures, and a job's.


@pytest.mark.parametrize("status", [9, 11, 0, 3 << 8])
@pytest.mark.parametrize("phase", [Phase.TAKEN, Phase.PREPARED, Phase.RUNNING, Phase.RETURNED])
def test_whoever_dies_of_a_job_has_a_successor_at_once(phase, status):
    world = started()

    def end() -> None:
        worker = take(world)
        worker.record = replace(worker.record, phase=phase)
        world.turn()
        world.end_worker(worker, status)

    assert gaps_of(world, 8, end) == [0] * 8
    assert world.state.slot(1).failures == 0


def test_a_stop_order_that_kills_is_not_the_slots_failure():
    world = started()

    def end() -> None:
        worker = take(world)
        world.hear(1, messages.Commanded(1, worker.serial, "stop", worker.record.execution_id))
        world.advance(2.1)
        world.turn()
        world.run()

    assert gaps_of(world, 30, end) == [0] * 30


def test_a_kill_after_the_timeout_is_not_the_slots_failure():
    world = started()

    def end() -> None:
        worker = take(world)
        worker.record = replace(worker.record, deadline=world.now + 5)
        worker.stubborn = True
        while worker.pid in world.workers and world.workers[worker.pid] is worker:
            world.turn()
            world.now = world.core.next_deadline(world.now)
            world.run(1)

    assert gaps_of(world, 30, end) == [0] * 30


def test_an_idle_worker_that_dies_is_the_slots_failure():
    world = started()
    gaps = gaps_of(world, 7, lambda: world.end_worker(world.living(1)[0], 11))
    assert gaps == [0, 1, 2, 4, 8, 16, 30]


def test_an_idle_worker_that_dies_after_a_job_is_not_the_slots_failure():
    """A thread that the job has left may have ended it."""
    world = started()

    def die() -> None:
        take(world)
        end_job(world)
        world.end_worker(world.living(1)[0], 9 << 8)

    assert gaps_of(world, 6, die) == [0] * 6


def test_a_worker_that_leaves_since_it_cannot_read_its_jobs_is_the_slots_failure():
    world = started()

    def leave() -> None:
        take(world)
        end_job(world)
        world.leave(world.living(1)[0], Reason.UNREADABLE)

    assert gaps_of(world, 4, leave) == [0, 1, 2, 4]


def test_a_job_between_two_failures_of_the_slot_ends_the_row():
    world = started()
    for _ in range(3):
        world.end_worker(world.living(1)[0], 11)
        world.settle(5)
    world.end_worker(take(world), 9)
    world.run()
    assert gaps_of(world, 2, lambda: world.end_worker(world.living(1)[0], 11)) == [0, 1]


# Recycled before the first job.


def recycle(world: World, after: float = 0.1) -> None:
    (worker,) = world.living(1)
    world.advance(after)
    world.leave(worker, Reason.RECYCLED)


def test_a_recycle_before_the_first_job_backs_off_and_says_so():
    world = started()
    assert gaps_of(world, 7, lambda: recycle(world)) == [0, 1, 2, 4, 8, 16, 30]
    told = [line for line in world.log if "before its first job" in line]
    assert len(told) == 7
    assert all(line.startswith("WARNING") for line in told)
    assert "next try in 30 s" in told[-1]


def test_a_service_whose_workers_are_all_recycled_at_once_is_not_given_up():
    """It came up: a limit is wrong, which the log says."""
    world = World(1)
    for _ in range(5):
        while not world.living(1):
            world.run(1)
            if not world.living(1):
                world.now = world.core.next_deadline(world.now)
        (worker,) = world.living(1)
        worker.record = replace(worker.record, ready=world.now)  # and nobody looks before its end
        world.leave(worker, Reason.RECYCLED)
    assert world.finished is None
    assert world.state.ever_ready


def test_a_recycle_after_a_job_does_not():
    world = started()

    def end() -> None:
        take(world)
        end_job(world)
        recycle(world)

    assert gaps_of(world, 8, end) == [0] * 8


def test_a_recycle_of_old_age_without_a_job_does_not():
    world = started()
    assert gaps_of(world, 8, lambda: recycle(world, after=30)) == [0] * 8


# The brake.


def die(world: World, slot: int) -> None:
    world.end_worker(take(world, slot), 4)
    world.turn()


def test_twenty_deaths_in_a_row_without_a_job_that_ends_slow_everybody_down():
    world = started(2)
    for count in range(IN_A_ROW - 1):
        die(world, 1 + count % 2)
        world.run()
        assert len(world.living()) == 2
    assert not any("in a row" in line for line in world.log)
    die(world, 2)
    assert world.living(2) == []
    world.run()
    assert len(world.living()) == 1
    (told,) = [line for line in world.log if "in a row" in line]
    assert told.startswith("ERROR")
    world.advance(BRAKE)
    world.run()
    assert gaps_of(world, 5, lambda: die(world, 1)) == [BRAKE] * 5
    assert len([line for line in world.log if "in a row" in line]) == 1


def test_a_job_that_ends_lets_go_of_the_brake():
    world = started(2)
    for _ in range(IN_A_ROW + 2):
        die(world, 1)
        world.settle(5)
    take(world, 2)
    end_job(world, 2)
    assert any("a job has ended" in line for line in world.log)
    assert gaps_of(world, 5, lambda: die(world, 1)) == [0] * 5


def test_the_count_survives_a_re_exec():
    world = started()
    for _ in range(5):
        die(world, 1)
        world.run()
    world.signal("USR2")
    world.end_check()
    assert world.execs == 1
    assert world.state.deaths == 5


# What is asked for, and cannot be had.


@pytest.mark.parametrize("name", ["TERM", "QUIT"])
@pytest.mark.parametrize("why", ["no such file", "too many open files", "no more processes"])
def test_after_a_reload_that_could_not_be_started_it_can_be_stopped(why, name):
    world = started(2)
    world.spawn_fails = why
    world.signal("HUP")
    world.settle(30)
    assert world.state.last_reload == f"generation 2: failed: {why}"
    assert list(world.state.generations) == [1]
    assert world.ready() == 2
    began = world.now
    world.signal(name)
    world.settle()
    assert (world.finished, world.now - began) == (0, 0)


def test_a_lost_fork_server_whose_successor_cannot_be_started_is_tried_again():
    world = started()
    world.spawn_fails = "no more processes"
    world.end_server(1, 9)
    world.settle(60)
    assert world.living() == []
    assert world.state.generations[1].stage is Stage.WAITING
    world.spawn_fails = ""
    world.settle(60)
    assert world.ready() == 1


def test_without_a_process_for_anything_it_can_be_stopped():
    world = started()
    world.spawn_fails, world.fork_fails = "no more processes", True
    world.end_worker(take(world), 9)
    world.end_server(1, 9)
    world.settle(100)
    began = world.now
    world.signal("TERM")
    world.settle()
    assert world.finished == 75  # the job is left to the next start
    assert world.now - began <= 5


def test_a_recovery_that_cannot_be_forked_is_tried_again():
    world = started()
    world.fork_fails = True
    world.end_worker(take(world), 9)
    world.settle(100)
    assert len(world.state.recoveries) == 1
    world.fork_fails = False
    world.settle(60)
    assert world.state.recoveries == {}
    assert any("recovered job=j1" in line for line in world.log)


def test_a_fork_server_that_owes_nothing_but_a_recovery_and_hangs_is_killed():
    world = started()
    world.servers[1].hung = True
    worker = take(world)
    world.workers.pop(worker.pid)  # reaped and told before it hung
    death = Death(worker.slot, 9, {}, worker.record, ("a",))
    world.hear(1, messages.WorkerExited(worker.serial, worker.pid, death))
    world.state.slot(1).not_before = world.now + 10_000  # nothing else is asked of it
    world.turn()
    assert world.state.recoveries
    world.settle(requests.RECOVERY + 100)
    assert any("fork server does not answer" in line for line in world.log)
    world.settle()
    assert world.state.recoveries == {}


def test_a_recovery_has_time_for_as_long_as_its_fork_server_gives_it():
    assert recoveries.LIMIT < requests.RECOVERY


def test_a_steward_that_was_asked_for_before_a_suspend_is_not_forgotten():
    world = started()
    world.servers[1].hung = True
    (first,) = world.stewards.values()
    world.stewards.clear()
    world.hear(1, messages.StewardExited(first.serial, 9))
    world.turn()
    assert len(world.state.stewards) == 1
    world.advance(10_000)
    world.turn(overslept=True)
    world.servers[1].hung = False
    world.run()
    assert list(world.stewards) == list(world.state.stewards)
    world.signal("TERM")
    world.settle()
    assert (world.finished, world.stewards) == (0, {})


@pytest.mark.parametrize("what", ["worker", "steward"])
def test_children_that_were_not_reported_are_adopted(what):
    world = started()
    if what == "worker":
        world.end_worker(world.living(1)[0], 9)
    else:
        world.end_steward(next(iter(world.stewards.values())), 9)
    world.turn()
    world.servers[1].dies_in_fork = True
    world.settle(30)
    assert world.ready() == 1
    assert list(world.stewards) == list(world.state.stewards)
    world.signal("TERM")
    world.settle()
    assert (world.finished, world.stewards, world.workers) == (0, {}, {})


def test_a_retired_fork_server_that_does_not_leave_is_killed():
    world = started()
    world.signal("HUP")
    while world.state.generations[1].stage is not Stage.RETIRING:
        world.run(1)
    world.servers[1].hung = True
    world.settle(100)
    assert list(world.servers) == [2]
    assert any("did not leave in 30 s" in line for line in world.log)


def test_a_fork_server_that_has_failed_is_given_the_time_to_leave():
    world = started()
    world.app = "broken for good"
    world.signal("HUP")
    world.run(5)
    assert 2 in world.servers
    assert 2 not in world.dying
    assert any("reload failed" in line for line in world.log)
    world.settle(100)
    assert list(world.servers) == [1]
    assert any("gen=2 fork server did not leave: killed" in line for line in world.log)


# Actions that fail.


def test_an_end_that_cannot_be_finished_is_finished_by_a_later_turn():
    world = started()
    world.broken.add("Finish")
    world.signal("TERM")
    for _ in range(5):
        world.run(4)
        world.advance(1)
    assert world.finished is None
    world.broken.clear()
    world.settle()
    assert world.finished == 0


def test_a_promotion_that_fails_does_not_stop_the_reload():
    world = started(2)
    world.broken.add("Promote")
    world.signal("HUP")
    world.settle()
    assert world.state.current == 2
    assert world.state.booting is None
    world.broken.clear()
    world.signal("TTIN")
    world.settle()
    assert world.ready() == 3


def test_settings_that_cannot_be_sent_end_the_fork_server_that_waits_for_them():
    world = started()
    world.broken.add("BeginLoading")
    world.signal("HUP")
    world.settle(20)
    assert world.state.booting is None
    assert (world.state.current, world.ready()) == (1, 1)
    assert list(world.servers) == [1]


def test_a_fork_server_that_cannot_be_started_any_more_is_tried_again_less_and_less_often():
    """Its program was deleted, hours after the generation came into service."""
    world = started()
    world.advance(3600)
    world.spawn_fails = "[Errno 2] No such file or directory"
    world.end_server(1, 9)
    for _ in range(600):  # each failed start wakes the loop, since its child has ended
        world.run(2)
        world.advance(1)
    tries = [line for line in world.log if "cannot be started" in line]
    assert 20 <= len(tries) <= 40, f"{len(tries)} tries in ten minutes"
    world.spawn_fails = ""
    world.settle()
    assert world.ready() == 1
