"""A worker, the script and a network that loses, doubles, delays and reorders, against a model.

Never is a job lost, never has one two outcomes, and never runs one of which the worker does not
know.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.exceptions import ConnectionError as Disconnected

from broker.conftest import BOUNDS, EXECUTIONS, HANDS, OWNER, WORKER
from harness.examples import examples
from resqued.broker.hand import GIVE_BACK, RUNNING, STEP, Hand
from resqued.broker.wire import Wire

FATES = st.sampled_from(["arrives", "arrives", "request lost", "reply lost", "arrives late"])


class Network(Wire):
    """A wire. Copies that are under way come when the machine says."""

    def __init__(self, connection):
        super().__init__(connection, STEP)
        self.under_way = []
        self.fate = "arrives"

    def ask(self, request):
        fate = self.fate
        if fate in ("request lost", "arrives late"):
            if fate == "arrives late":
                self.under_way.append(request)
            raise Disconnected(fate)
        answer = super().ask(request)
        if fate == "reply lost":
            self.under_way.append(request)  # and maybe once more
            raise Disconnected(fate)
        return answer

    def deliver(self, at):
        super().ask(self.under_way.pop(at))


def machine_for(connection, outcome):
    class Machine(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            connection.flushall()
            self.give_back = connection.register_script(GIVE_BACK)
            self.pushed, self.runs, self.lives = 0, {}, 0
            self.begin()

        def begin(self):
            """A worker comes up."""
            self.lives += 1
            self.owner = f"{OWNER}.{self.lives}"
            self.network = Network(connection)
            self.network.under_way = getattr(self, "late", [])
            self.hand = Hand(self.network, self.owner, "host.test.1.1", WORKER, EXECUTIONS, BOUNDS)
            self.hand.register(connection)
            self.job = None  # in the worker's hand, as it knows it: id, execution
            self.ending = None  # its outcome, not written yet as far as the worker knows

        @rule(count=st.integers(1, 3))
        def push(self, count):
            for _ in range(count):
                self.pushed += 1
                job_id = f"job{self.pushed}"
                fields = {"origin": "q", "data": "d", "status": "queued", "timeout": "30"}
                connection.hset(f"rq:job:{job_id}", mapping=fields)
                connection.rpush("rq:queue:q", job_id)
                self.runs[job_id] = 0

        @rule(fate=FATES, take=st.booleans())
        def step(self, fate, take):
            """The worker ends what it has, and takes the next if it may."""
            if self.job is not None and self.ending is None:
                self.ending = outcome(*self.job)
            self.network.fate = fate
            try:
                step = self.hand.step(["rq:queue:q"] if take else [], self.ending)
            except Disconnected:
                return
            if self.ending is not None:
                assert step.ended == "written"
                self.job = self.ending = None
            assert step.what in ("job", "none", "again")
            if step.what == "job":
                self.job = step.job_id, step.execution_id
                self.runs[step.job_id] += 1

        @precondition(lambda self: self.network.under_way)
        @rule(data=st.data())
        def comes_late(self, data):
            at = data.draw(st.integers(0, len(self.network.under_way) - 1))
            self.network.deliver(at)

        @rule()
        def dies(self):
            """What it ran has no outcome: it is queued again. What it did not know of, too."""
            what, *_ = self.give_back(
                keys=[HANDS, RUNNING, EXECUTIONS], args=[self.owner, "", "rq", "", 0, 1]
            )
            assert what in (b"nothing", b"back")
            connection.hdel(HANDS, self.owner)
            self.late = self.network.under_way
            self.begin()

        @rule()
        def settles(self):
            """The network is well: nothing is left but what waits."""
            while self.network.under_way:
                self.network.deliver(0)
            for _ in range(2 * self.pushed + 4):
                self.step("arrives", True)
            assert self.job is None or connection.llen("rq:queue:q") == 0
            self.step("arrives", False)
            assert connection.zcard("rq:finished:q") == self.pushed
            assert not connection.exists(RUNNING, EXECUTIONS, "rq:wip:q")

        @invariant()
        def each_is_in_one_place_and_has_one_outcome(self):
            waiting = connection.lrange("rq:queue:q", 0, -1)
            running = [both.partition(b":")[0] for both in connection.zrange("rq:wip:q", 0, -1)]
            finished = connection.zrange("rq:finished:q", 0, -1)
            everywhere = sorted([*waiting, *running, *finished])
            assert everywhere == sorted(job_id.encode() for job_id in self.runs)
            assert len(running) <= 1
            for job_id in finished:
                assert connection.xlen(b"rq:results:" + job_id) == 1

    return Machine


def test_whatever_the_network_does(connection, outcome):
    run_state_machine_as_test(
        machine_for(connection, outcome),
        settings=settings(
            max_examples=examples(40),
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
        ),
    )
