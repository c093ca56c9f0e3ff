"""What follows a verdict of `worker_stuck`: in the fake kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.world import World
from resqued.core import actions
from resqued.messages import Commanded
from resqued.scoreboard import Order, Phase, Stop
from resqued.signal_table import COMMAND, NOW
from resqued.snapshots import WorkerState
from resqued.verdicts import Dump, Fail, Kill, Terminate, Wait


@pytest.fixture
def stuck():
    """`stuck(*verdicts)`: a worker past its deadline, whose job resists; plugins answer so."""

    def stuck(*verdicts, phase=Phase.RUNNING, execution="e1"):
        world = World(1)
        world.run()
        (worker,) = world.living(1)
        world.verdicts = list(verdicts)
        job = "j1" if phase.holds_job else ""
        worker.record = replace(
            worker.record,
            phase=phase,
            job_id=job,
            execution_id=execution if job else "",
            deadline=world.now + 1,
        )
        worker.stubborn = True
        world.turn()
        assert world.judged == []
        world.advance(1)
        world.turn()
        assert len(world.judged) == 1
        return world, worker

    return stuck


def handle(world):
    return world.state.slot(1).worker


def to_the_next(world):
    """Go on to the next deadline; the seconds until then."""
    due = world.core.next_deadline(world.now)
    seconds = round(due - world.now, 3)
    world.now = due
    world.turn()
    return seconds


def recovered(world):
    """The death of the only worker that has died, as it is recovered."""
    (recovery,) = world.state.recoveries.values()
    return recovery.death


def test_after_terminate_the_hook_is_asked_again_before_any_kill(stuck):
    world, _ = stuck(Terminate, Kill)
    assert world.stops[1] is Stop.NOW
    assert handle(world).state is WorkerState.STOPPING
    assert to_the_next(world) == 1.0, "the nudge"
    assert len(world.judged) == 1
    assert to_the_next(world) == 2.0
    assert len(world.judged) == 2
    assert handle(world).state is WorkerState.KILLED
    assert any("stuck in job=j1 for 3 s" in line for line in world.log)


def test_terminate_may_be_followed_by_patience(stuck):
    world, _ = stuck(Terminate, Wait(20), Terminate, Wait(5), Kill)
    world.settle(12.0)
    assert len(world.judged) == 2
    assert handle(world).state is WorkerState.STOPPING
    world.settle(23.5)
    assert len(world.judged) == 4
    world.settle(12.0)
    assert any("killed: stuck" in line for line in world.log)


def test_who_interrupts_and_says_no_more_has_it_killed(stuck):
    world, _ = stuck(Terminate)
    world.settle(4.0)
    assert any("interrupted in vain, and no plugin judges it" in line for line in world.log)
    assert world.ready() == 1, "a successor"


def test_a_worker_that_obeys_terminate_leaves_as_told(stuck):
    world, worker = stuck(Terminate)
    worker.stubborn = False
    world.run()
    assert world.ready() == 1
    assert not any("killed" in line for line in world.log)


def test_a_stop_of_all_kills_who_was_interrupted_before(stuck):
    world, _ = stuck(Terminate, Wait(600))
    world.settle(4.0)
    assert handle(world).state is WorkerState.STOPPING
    began = world.now
    world.signal("TERM")
    world.settle(10.0)
    assert world.finished == 0
    assert world.now - began < 5


def test_fail_is_an_order_with_a_reason_and_three_seconds(stuck):
    world, worker = stuck(Fail("holds a lock"))
    order = world.orders[1]
    assert (order.word, order.execution_id, order.reason) == (Order.FAIL, "e1", "holds a lock")
    world.run(1)
    assert COMMAND in worker.pending
    assert NOW not in worker.pending
    world.turn()
    assert to_the_next(world) == 3.0
    assert any("did not leave 3 s after it was to fail" in line for line in world.log)
    world.answers_recovery = False
    world.run()
    death = recovered(world)
    assert (death.record.stopped, death.failure) == (Order.FAIL, "holds a lock")
    assert world.ready() == 1


def test_a_job_that_ends_in_time_costs_no_worker(stuck):
    world, worker = stuck(Fail("late"))
    worker.record = replace(worker.record, phase=Phase.IDLE, job_id="", execution_id="", deadline=0)
    world.settle(60)
    assert world.living(1) == [worker]


def test_a_dead_worker_fails_its_job_however_it_died(stuck):
    """The worker's own alarm may be first."""
    world, worker = stuck(Fail("late"))
    world.answers_recovery = False
    world.end_worker(worker, 14)
    death = recovered(world)
    assert (death.record.stopped, death.failure) == (Order.FAIL, "late")


def test_the_failure_is_not_that_of_another_job(stuck):
    world, worker = stuck(Fail("late"))
    worker.record = replace(worker.record, job_id="j2", execution_id="e2", deadline=0)
    world.turn()
    world.answers_recovery = False
    world.end_worker(worker, 9)
    assert recovered(world).record.stopped == Order.NONE


@pytest.mark.parametrize("phase", [Phase.IDLE, Phase.LEAVING, Phase.RETURNED])
def test_without_a_job_to_fail_the_worker_is_killed(stuck, phase):
    world, _ = stuck(Fail("slow"), phase=phase)
    world.settle(5)
    assert any("without a job to fail: slow" in line for line in world.log)


def command(world, word, execution="e1"):
    worker = handle(world)
    world.hear(worker.generation, Commanded(1, worker.serial, word, execution))


def test_a_stop_command_is_stronger_and_kill_horse_is_weaker(stuck):
    world, _ = stuck(Fail("late"))
    command(world, "kill")
    assert world.orders[1].word is Order.FAIL
    command(world, "stop")
    assert world.orders[1].word is Order.STOP
    assert world.state.slot(1).worker.order is Order.STOP


def test_a_job_that_is_being_stopped_stays_so(stuck):
    world, _ = stuck(Wait(1), Fail("late"))
    command(world, "stop")
    world.settle(1.5)
    assert world.orders[1].word is Order.STOP


def test_the_reason_is_one_that_a_log_can_show(stuck):
    world, _ = stuck(Fail("\x1b[2Jfaked\nsecond line"))
    assert world.orders[1].reason == "\\x1b[2Jfaked\nsecond line"
    assert not any("\x1b" in line or "\n" in line for line in world.log)


def test_dump_is_followed_by_a_question_a_second_later(stuck):
    world, _ = stuck(Dump, Kill)
    assert to_the_next(world) == 1.0
    assert handle(world).state is WorkerState.KILLED


def test_the_state_with_a_failure_survives_a_re_exec(stuck):
    world, _ = stuck(Fail("late"))
    world._Exec(actions.Exec())
    assert handle(world).failure == "late"
    assert handle(world).order is Order.FAIL
