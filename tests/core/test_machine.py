"""The core under a Hypothesis state machine: any order of events, in a kernel that is mean.

Every run makes the same examples. `RESQUED_HYPOTHESIS=long tests/run tests/core/test_machine.py`
makes a hundred times as many, other ones each time.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from harness.examples import examples
from harness.world import KILL, QUIT, World
from resqued import messages
from resqued.core import events, handover
from resqued.core.state import Mode, Policy, ReexecStage, State
from resqued.core.verbs import Verb
from resqued.scoreboard import Phase, Reason

SIGNALS = ["QUIT", "TERM", "INT", "HUP", "USR1", "USR2", "WINCH", "TTIN", "TTOU"]
GENTLE = ["HUP", "USR1", "USR2", "WINCH", "TTIN", "TTOU"]
FALLIBLE = [
    "AskPlan",
    "AskStuck",
    "BeginLoading",
    "CheckExec",
    "StartWorker",
    "LoadConfig",
    "Promote",
    "Send",
    "StartForkServer",
]
LONGEST_STOP = 20.0  # seconds, with nothing as it should be


def open_requests(state: State):
    """All that was asked for and is not answered."""
    holders = (state.generations, state.stewards, state.recoveries)
    every = [*state.workers(), *(each for holder in holders for each in holder.values())]
    return [each for each in every if each.request is not None]


class Arbiter(RuleBasedStateMachine):
    """Everything may happen at any time; the invariants hold after each of it."""

    world: World

    @initialize(
        workers=st.integers(0, 4),
        grace=st.sampled_from([None, 20.0]),
        on_term=st.sampled_from(["now", "drain"]),
        heals=st.booleans(),
    )
    def start(self, workers: int, grace: float | None, on_term: str, heals: bool) -> None:
        self.world = World(workers, grace=grace, on_term=on_term)
        self.heals = heals  # before it is stopped
        self.faulty = False
        self.drained_at: float | None = None

    def alive(self) -> bool:
        return self.world.finished is None

    @precondition(alive)
    @rule(names=st.lists(st.sampled_from(GENTLE), min_size=1, max_size=3))
    def gentle_signals(self, names: list[str]) -> None:
        for name in names:
            self.signal(name)

    @precondition(alive)
    @rule(name=st.sampled_from(SIGNALS))
    def any_signal(self, name: str) -> None:
        self.signal(name)

    def signal(self, name: str) -> None:
        self.world.signal(name)

    @precondition(alive)
    @rule()
    def let_everybody_run(self) -> None:
        self.world.run(4)

    @precondition(alive)
    @rule()
    def one_turn(self) -> None:
        self.world.turn()

    @precondition(alive)
    @rule(seconds=st.floats(0.01, 100.0))
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)
        self.world.turn()

    @precondition(alive)
    @rule(seconds=st.floats(100.0, 10_000.0))
    def the_machine_sleeps(self, seconds: float) -> None:
        judged = len(self.world.judged)
        self.world.advance(seconds)
        self.world.turn(overslept=True)
        assert len(self.world.judged) == judged

    @precondition(lambda self: self.alive() and self.world.workers)
    @rule(data=st.data(), status=st.sampled_from([0, 9, 11, 78 << 8]))
    def a_worker_dies(self, data: st.DataObject, status: int) -> None:
        worker = self.pick(data)
        self.faulty = True
        self.world.end_worker(worker, status)

    @precondition(lambda self: self.alive() and self.world.workers)
    @rule(data=st.data())
    def a_worker_takes_a_job(self, data: st.DataObject) -> None:
        worker = self.pick(data)
        if worker.record.phase is Phase.IDLE and not self.world.stops[worker.slot]:
            promised = self.world.now + 30
            worker.record = replace(
                worker.record,
                phase=Phase.RUNNING,
                job_id="j",
                execution_id=f"e{self.world.now}",
                deadline=promised,
            )

    @precondition(lambda self: self.alive() and self.world.workers)
    @rule(data=st.data())
    def a_job_ends(self, data: st.DataObject) -> None:
        worker = self.pick(data)
        if worker.record.phase is Phase.RUNNING:
            worker.record = replace(worker.record, phase=Phase.IDLE, job_id="", deadline=0.0)

    @precondition(lambda self: self.alive() and self.world.workers)
    @rule(data=st.data(), stubborn=st.booleans())
    def a_worker_hangs_or_wakes(self, data: st.DataObject, stubborn: bool) -> None:
        self.pick(data).stubborn = stubborn

    @precondition(lambda self: self.alive() and self.world.workers)
    @rule(data=st.data(), reason=st.sampled_from([Reason.RECYCLED, Reason.CUT, Reason.ASKED]))
    def a_worker_leaves(self, data: st.DataObject, reason: Reason) -> None:
        worker = self.pick(data)
        if not worker.stubborn:
            self.world.leave(worker, reason)

    def pick(self, data: st.DataObject):
        pids = sorted(self.world.workers)
        return self.world.workers[data.draw(st.sampled_from(pids))]

    @precondition(lambda self: self.alive() and self.world.servers)
    @rule(data=st.data(), status=st.sampled_from([9, 11, 0, 1 << 8]))
    def a_fork_server_dies(self, data: st.DataObject, status: int) -> None:
        self.faulty = True
        generation = data.draw(st.sampled_from(sorted(self.world.servers)))
        self.world.end_server(generation, status)

    @precondition(lambda self: self.alive() and self.world.stewards)
    @rule(data=st.data(), status=st.sampled_from([9, 11, 0, 1 << 8]))
    def a_steward_dies(self, data: st.DataObject, status: int) -> None:
        serial = data.draw(st.sampled_from(sorted(self.world.stewards)))
        self.world.end_steward(self.world.stewards[serial], status)

    @precondition(lambda self: self.alive() and self.world.stewards)
    @rule(data=st.data(), hung=st.booleans())
    def a_steward_hangs_or_wakes(self, data: st.DataObject, hung: bool) -> None:
        serial = data.draw(st.sampled_from(sorted(self.world.stewards)))
        self.world.stewards[serial].hung = hung

    @precondition(lambda self: self.alive() and self.world.workers)
    @rule(data=st.data(), word=st.sampled_from(["stop", "kill", "shutdown"]))
    def a_command_comes(self, data: st.DataObject, word: str) -> None:
        worker = self.pick(data)
        execution = worker.record.execution_id
        commanded = messages.Commanded(worker.slot, worker.serial, word, execution)
        self.world.hear(worker.generation, commanded)

    @precondition(lambda self: self.alive() and self.world.servers)
    @rule(data=st.data(), hung=st.booleans())
    def a_fork_server_hangs_or_wakes(self, data: st.DataObject, hung: bool) -> None:
        generation = data.draw(st.sampled_from(sorted(self.world.servers)))
        self.world.servers[generation].hung = hung

    @precondition(alive)
    @rule(
        app=st.sampled_from(["good", "broken", "hangs", "bad worker"]),
        workers=st.integers(0, 5),
        valid=st.booleans(),
    )
    def somebody_edits(self, app: str, workers: int, valid: bool) -> None:
        policy = self.world.config
        self.world.app, self.world.config_valid = app, valid
        self.world.config = Policy(workers=workers, grace=policy.grace, on_term=policy.on_term)

    @precondition(alive)
    @rule(fails=st.booleans())
    def forks_fail(self, fails: bool) -> None:
        self.world.fork_fails = fails

    @precondition(alive)
    @rule(error=st.sampled_from(["", "no such file", "too many open files"]))
    def spawns_fail(self, error: str) -> None:
        self.world.spawn_fails = error

    @precondition(alive)
    @rule(error=st.sampled_from(["", "no such file"]))
    def execs_fail(self, error: str) -> None:
        self.world.fails_exec = error

    @precondition(alive)
    @rule(name=st.sampled_from(FALLIBLE), broken=st.booleans())
    def an_action_fails(self, name: str, broken: bool) -> None:
        """Whatever the reason: the core hears of it, and asks again."""
        if broken:
            self.world.broken.add(name)
        else:
            self.world.broken.discard(name)

    @precondition(alive)
    @rule(seconds=st.sampled_from([None, 0.0, 5.0]))
    def a_plugin_vetoes(self, seconds: float | None) -> None:
        self.world.veto = seconds

    @precondition(lambda self: self.alive() and self.world.servers)
    @rule(data=st.data())
    def a_fork_server_will_die_in_a_fork(self, data: st.DataObject) -> None:
        generation = data.draw(st.sampled_from(sorted(self.world.servers)))
        self.world.servers[generation].dies_in_fork = True

    @precondition(lambda self: self.alive() and self.world.servers)
    @rule(data=st.data())
    def a_fork_server_is_told_to_leave(self, data: st.DataObject) -> None:
        generation = data.draw(st.sampled_from(sorted(self.world.servers)))
        self.world.tell_to_leave(self.world.servers[generation])

    @precondition(alive)
    @rule(name=st.sampled_from(["TERM", "QUIT", "INT"]), arbiter=st.sampled_from(["", "", "TERM"]))
    def everything_is_told_to_leave(self, name: str, arbiter: str) -> None:
        """As service managers and `kill 0` do; the arbiter hears of it last, or not at all."""
        for worker in list(self.world.workers.values()):
            worker.pending.add(QUIT)
        for server in list(self.world.servers.values()):
            self.world.tell_to_leave(server)
        for steward in list(self.world.stewards.values()):
            if not steward.hung:
                self.world.end_steward(steward, 0)
        if arbiter:
            self.signal(name)

    @precondition(alive)
    @rule(up=st.booleans())
    def redis_goes_or_comes(self, up: bool) -> None:
        self.world.redis = self.world.answers_recovery = up

    @precondition(lambda self: self.alive() and self.world.state.reexec is ReexecStage.CHECKING)
    @rule(reason=st.sampled_from(["", "exit status 78"]))
    def the_check_ends(self, reason: str) -> None:
        self.world.end_check(reason)

    @precondition(lambda self: not self.alive())
    @rule()
    def nothing_comes_after_the_end(self) -> None:
        assert self.world.workers == {}
        assert self.world.servers == {}
        assert self.world.stewards == {}

    @precondition(alive)
    @rule(count=st.integers(0, 6))
    def a_plugin_counts(self, count: int) -> None:
        self.world.do(events.Counted(count))

    @precondition(alive)
    @rule(verb=st.sampled_from(list(Verb)), number=st.integers(-1, 9))
    def a_plugin_asks(self, verb: Verb, number: int) -> None:
        self.world.ask(verb, number)

    @invariant()
    def each_request_of_a_plugin_is_open_or_answered(self) -> None:
        if self.alive():
            assert self.world.unanswered == set(self.world.state.verb_requests)

    @invariant()
    def no_slot_holds_two(self) -> None:
        for slot in range(1, 10):
            assert len(self.world.living(slot)) <= 1

    @invariant()
    def every_worker_is_known(self) -> None:
        serials = {worker.serial for worker in self.world.state.workers()}
        assert {worker.serial for worker in self.world.workers.values()} <= serials

    @invariant()
    def the_state_survives_a_handover(self) -> None:
        state = self.world.state
        assert handover.restore(json.loads(json.dumps(handover.dump(state)))) == state

    @invariant()
    def a_drain_never_turns_back(self) -> None:
        leaving = self.world.state.mode.leaving
        if self.drained_at is not None:
            assert leaving
        elif leaving:
            self.drained_at = self.world.now

    @invariant()
    def a_drain_without_grace_kills_no_busy_worker_that_keeps_its_promise(self) -> None:
        if self.world.state.mode is not Mode.DRAINING:
            return
        for worker in self.world.living():
            if worker.record.phase is Phase.RUNNING and worker.record.deadline > self.world.now:
                assert KILL not in worker.pending

    @invariant()
    def what_is_asked_for_can_still_be_answered(self) -> None:
        """Each open request is with a fork server that lives, or whose end is still to be told."""
        state = self.world.state
        for holder in open_requests(state):
            assert holder.request.generation in state.generations
            assert holder.request.generation in self.world.servers

    @invariant()
    def the_exit_code_is_documented(self) -> None:
        assert self.world.finished in (None, 0, 70, 75, 78)

    def teardown(self) -> None:
        """Heal everything: the arbiter comes to what is wished, and then to its end.

        Without healing it comes to its end all the same, and soon: TERM waits for nobody.
        """
        if not hasattr(self, "world") or self.world.finished is not None:
            return
        if not self.heals:
            self.stop_as_it_is()
            return
        self.heal()
        self.world.settle(200)
        if self.world.finished is None and not self.world.state.mode.leaving:
            self.heal()
            self.world.settle(200)
            assert self.world.ready() == self.world.state.target == len(self.world.living())
            assert self.world.state.booting is None
            assert open_requests(self.world.state) == []
            assert self.world.state.verb_requests == {}
            assert list(self.world.stewards) == list(self.world.state.stewards)
            assert len(self.world.stewards) == 1
            duties = [number for number, each in self.world.servers.items() if each.duties]
            assert duties == [self.world.state.current]
        if self.world.finished is None:
            self.world.signal("QUIT")
            self.world.signal("TERM")
            self.world.signal("TERM")
            self.heal()
            self.world.settle(300)
        assert self.world.finished is not None
        assert self.world.workers == {}
        assert self.world.servers == {}
        assert self.world.stewards == {}

    def stop_as_it_is(self) -> None:
        began = self.world.now
        self.world.signal("TERM")
        self.world.signal("TERM")
        self.world.settle(LONGEST_STOP)
        assert self.world.finished is not None
        assert self.world.now - began <= LONGEST_STOP
        assert self.world.workers == {}
        assert self.world.servers == {}
        assert self.world.stewards == {}

    def heal(self) -> None:
        world = self.world
        world.fork_fails, world.redis, world.answers_recovery = False, True, True
        world.spawn_fails, world.fails_exec, world.veto = "", "", None
        world.broken.clear()
        world.app, world.config_valid = "good", True
        for server in list(world.servers.values()):
            server.hung = server.dies_in_fork = False
            if server.config in ("hangs", "bad worker"):
                server.config = "good"
        for steward in list(world.stewards.values()):
            steward.hung = False
        for worker in list(world.workers.values()):
            worker.stubborn = False
            if worker.record.phase is Phase.RUNNING:
                worker.record = replace(worker.record, phase=Phase.IDLE, job_id="", deadline=0.0)
        if world.state.reexec is ReexecStage.CHECKING:
            world.end_check("given up")


Arbiter.TestCase.settings = settings(
    max_examples=examples(200),
    stateful_step_count=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestAnyOrderOfEvents = pytest.mark.slow(Arbiter.TestCase)
