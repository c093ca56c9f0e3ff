"""How requests of plugins end, in the core alone."""

from __future__ import annotations

import pytest

from harness.world import World
from resqued.core.state import Mode
from resqued.core.verbs import Verb
from resqued.scoreboard import StopCause


@pytest.fixture
def world():
    world = World(2)
    world.settle()
    return world


def test_scale_is_open_until_the_workers_are_ready(world):
    ticket = world.ask(Verb.SCALE, 3)
    assert ticket not in world.answers
    world.settle()
    assert world.answers[ticket] is None
    assert world.ready() == 3


def test_a_signal_replaces_a_plugins_target(world):
    ticket = world.ask(Verb.SCALE, 4)
    world.signal("TTOU")
    assert world.answers[ticket] == "replaced by a newer request: TTOU"


def test_a_plan_that_cannot_be_refuses_the_scale(world):
    ticket = world.ask(Verb.SCALE, 9)
    assert world.answers[ticket] == "no queue"
    assert world.state.target == 2


def test_scale_ends_a_rest(world):
    world.signal("WINCH")
    world.settle()
    ticket = world.ask(Verb.SCALE, 1)
    world.settle()
    assert world.answers[ticket] is None
    assert world.state.mode is Mode.RUNNING
    assert world.ready() == 1


def test_resume_ends_a_rest_with_the_count_before_it(world):
    world.signal("TTIN")
    rest = world.ask(Verb.REST)
    world.settle()
    assert world.answers[rest] is None
    resume = world.ask(Verb.RESUME)
    world.settle()
    assert world.answers[resume] is None
    assert world.ready() == 3


def test_a_reload_ends_a_rest_whose_workers_have_not_left(world):
    for worker in world.workers.values():
        worker.stubborn = True
    rest = world.ask(Verb.REST)
    world.signal("HUP")
    world.settle(5)
    assert world.answers[rest] == "a reload has ended the rest"


def test_a_failed_reload_refuses_its_request_with_the_reason(world):
    world.app = "broken"
    ticket = world.ask(Verb.RELOAD)
    world.settle()
    assert world.answers[ticket]
    assert world.state.current == 1


def test_an_older_reload_goes_on_if_a_newer_one_has_no_valid_configuration(world):
    older = world.ask(Verb.RELOAD)
    world.config_valid = False
    newer = world.ask(Verb.RELOAD)
    assert world.answers[newer] == "syntax error"
    world.settle()
    assert world.answers[older] is None


def test_a_reload_during_the_check_of_a_re_exec_follows_it_if_that_fails(world):
    reexec = world.ask(Verb.REEXEC)
    reload = world.ask(Verb.RELOAD)
    assert reload not in world.answers
    world.end_check("exit status 78")
    assert world.answers[reexec] == "exit status 78"
    world.settle()
    assert world.answers[reload] is None
    assert world.state.current == 2


def test_a_re_exec_does_not_wait_for_a_worker_where_none_is_wanted():
    world = World(0)
    ticket = world.ask(Verb.REEXEC)
    world.settle()
    world.end_check()
    assert world.execs == 1
    assert ticket not in world.answers, "who asked is gone"


def test_a_drain_is_done_when_no_worker_is_left(world):
    scale = world.ask(Verb.SCALE, 4)
    drain = world.ask(Verb.DRAIN)
    again = world.ask(Verb.DRAIN)
    world.settle()
    assert world.answers[scale] == "no longer possible: draining"
    assert world.answers[drain] is None
    assert world.answers[again] is None
    assert world.finished == 0


def test_a_stop_refuses_the_drain_that_it_overtakes(world):
    for worker in world.workers.values():
        worker.stubborn = True
    drain = world.ask(Verb.DRAIN)
    world.run()
    stop = world.ask(Verb.STOP)
    assert "stopping now" in world.answers[drain]
    world.settle()
    assert world.answers[stop] is None


@pytest.mark.parametrize(
    ("verb", "number"), [(Verb.SCALE, -1), (Verb.SCALE, 10**6), (Verb.RECYCLE, 3)]
)
def test_what_cannot_be_is_refused_at_once(world, verb, number):
    ticket = world.ask(verb, number)
    assert world.answers[ticket]


def test_while_leaving_nothing_else_is_accepted(world):
    for worker in world.workers.values():
        worker.stubborn = True
    world.signal("QUIT")
    world.run()
    for verb in (Verb.RELOAD, Verb.REEXEC, Verb.SCALE, Verb.REST, Verb.RESUME, Verb.REPLAN):
        assert world.answers[world.ask(verb, 1)]


def test_recycle_replaces_the_worker_of_that_number_once(world):
    before = {worker.slot: worker.serial for worker in world.living()}
    first = world.ask(Verb.RECYCLE, 1)
    second = world.ask(Verb.RECYCLE, 1)
    world.settle()
    assert world.answers[first] == "replaced by a newer request: recycle"
    assert world.answers[second] is None
    after = {worker.slot: worker.serial for worker in world.living()}
    assert after[1] > before[1]
    assert after[2] == before[2]


def test_a_count_beyond_the_limit_is_brought_to_it_and_logged_once():
    from resqued.core import events

    world = World(1, max_workers=3)
    world.settle()
    for _ in range(3):
        world.do(events.Counted(7))
    world.settle()
    assert world.ready() == 3
    assert len([line for line in world.log if "wants 7 workers: at most 3" in line]) == 1


@pytest.mark.parametrize(
    ("ask", "cause"),
    [
        (lambda world: world.signal("HUP"), StopCause.RELOAD),
        (lambda world: world.signal("WINCH"), StopCause.REST),
        (lambda world: world.signal("TTOU"), StopCause.SCALE),
        (lambda world: world.signal("QUIT"), StopCause.STOP),
        (lambda world: world.signal("INT"), StopCause.STOP),
        (lambda world: world.ask(Verb.RECYCLE, 1), StopCause.RECYCLE),
    ],
    ids=["reload", "rest", "fewer", "drain", "stop", "recycle"],
)
def test_a_worker_that_is_told_to_leave_is_told_why(world, ask, cause):
    ask(world)
    world.settle()
    assert set(world.causes) - {StopCause.TRIAL} == {cause}
