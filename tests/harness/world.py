"""A fake kernel with fork servers and workers, so that the core's decisions can be tried in it.

Pids come from a small range and are used again once they are reaped. Signals coalesce in a set.
Time moves only when told. Nothing here decides anything: it does actions the way the shell and
real processes do, and makes the events that follow.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field, replace

from resqued import messages
from resqued.core import actions, events, handover
from resqued.core.core import Core
from resqued.core.events import Heard
from resqued.core.state import Policy, State
from resqued.core.verbs import Verb
from resqued.death import Death
from resqued.plan import Plan
from resqued.scoreboard import Phase, Reason, Record, StewardStatus, Stop, StopCause
from resqued.shares import parse_queue
from resqued.signal_table import NOW
from resqued.snapshots import Exit, WorkerState
from resqued.verdicts import Dump, Kill, Verdict

KILL, QUIT = 9, 3

QUEUES = (parse_queue("a"), parse_queue("b=50%"))


@dataclass
class FakeWorker:
    pid: int
    slot: int
    serial: int
    generation: int
    record: Record
    parent: int | None  # generation of its fork server; None: the arbiter
    stubborn: bool = False  # obeys nothing but KILL
    pending: set[int] = field(default_factory=set)


@dataclass
class FakeServer:
    generation: int
    pid: int
    config: str = "good"
    inbox: deque = field(default_factory=deque)
    loaded: bool = False
    hung: bool = False
    retiring: bool = False
    leaving: bool = False  # told so by somebody else
    duties: bool = False  # whether it was told to have a duties process
    dies_in_fork: bool = False  # after its next fork, before it can tell of it


@dataclass
class FakeSteward:
    serial: int
    pid: int
    parent: int | None  # generation of its fork server; None: the arbiter
    turned: float = 0.0
    hello: bool = False
    hung: bool = False


class World:
    """Everything outside the core."""

    def __init__(self, workers: int, **policy) -> None:
        self.now = 1000.0
        self.free = deque(range(10, 60))
        self.servers: dict[int, FakeServer] = {}
        self.workers: dict[int, FakeWorker] = {}
        self.stewards: dict[int, FakeSteward] = {}
        self.newest = 0  # serial of the last steward that has said hello
        self.cleared = 0  # how often what none can have said was taken away
        self.stops: dict[int, Stop] = {}
        self.causes: list[StopCause] = []
        self.log: list[str] = []
        self.finished: int | None = None
        self.dying: list[int] = []  # generations whose fork server was sent KILL
        self.app = (
            "good"  # good, broken (for good), hangs, bad worker: what a new generation will be like
        )
        self.config = Policy(workers=workers, **policy)
        self.config_valid = True
        self.fork_fails = False
        self.spawn_fails = ""  # why no fork server can be started
        self.veto: float | None = None  # seconds until a vetoed fork may be tried again
        self.redis = True
        self.answers_recovery = True
        self.judged: list[int] = []
        self.verdicts: list[Verdict | None] | None = None  # to answer with; None: the watchdog's
        self.orders: dict[int, actions.SetOrder] = {}
        self.killed: list[tuple[int, str]] = []
        self.told_ready: list[str] = []
        self.told_exited: list[Exit] = []
        self.told_lost: list[tuple[str, str]] = []  # jobs of living workers, and their verdicts
        self.execs = 0
        self.fails_exec = ""
        self.broken: set[str] = set()  # names of actions that fail
        self.largest = 8  # no plan for more workers than this
        self.tickets = 0  # of plugins' requests
        self.unanswered: set[int] = set()
        self.answers: dict[int, str | None] = {}  # None: done
        self.core = Core(State("host.1", self.config, self.plan(workers)))
        self.perform(self.core.begin(self.now))

    @property
    def state(self) -> State:
        return self.core.state

    def plan(self, count: int) -> Plan:
        numbers = range(1, count + 1)
        return Plan(tuple(tuple(q.name for q in QUEUES if n <= q.share(count)) for n in numbers))

    # Time and turns.

    def signal(self, name: str) -> None:
        self.do(events.Signalled(name))

    def ask(self, verb: Verb, number: int = 0) -> int:
        """A plugin asks for a verb; the ticket of its request."""
        self.tickets += 1
        self.unanswered.add(self.tickets)
        self.do(events.Asked(self.tickets, verb, number))
        return self.tickets

    def turn(self, *, overslept: bool = False) -> None:
        records = {
            handle.slot: worker.record
            for handle in self.state.workers()
            for worker in self.workers.values()
            if worker.serial == handle.serial
        }
        self.do(events.Turn(records, self.steward_status(), frozenset(), overslept))
        due = self.core.next_deadline(self.now)
        assert due is None or due > self.now

    def steward_status(self) -> StewardStatus:
        """What the newest steward has left on the scoreboard."""
        for steward in self.stewards.values():
            if not steward.hung:
                steward.turned = self.now
        newest = self.stewards.get(self.newest)
        return StewardStatus(self.newest, turned=newest.turned if newest else 0.0)

    def run(self, turns: int = 12) -> None:
        """Let everybody do what they have to do, without time passing."""
        for _ in range(turns):
            while self.dying:
                self.end_server(self.dying.pop(), KILL)
            for server in list(self.servers.values()):
                self._serve(server)
            for worker in list(self.workers.values()):
                self._live(worker)
            for steward in list(self.stewards.values()):
                self._attend(steward)
            self.turn()
            if self.finished is not None:
                break

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def settle(self, limit: float = 300.0) -> None:
        """Run on from deadline to deadline until nothing is due within `limit` seconds."""
        until = self.now + limit
        while self.finished is None:
            self.run()
            due = self.core.next_deadline(self.now)
            if due is None or due > until:
                break
            self.now = due
            self.run(2)

    # Carrying out.

    def do(self, event: events.Event) -> None:
        self.perform(self.core.step(event, self.now))

    def perform(self, todo: list[actions.Action]) -> None:
        for action in todo:
            name = type(action).__name__
            if name in self.broken:
                self.do(events.ActionFailed(action, "it is broken"))
            else:
                getattr(self, f"_{name}", lambda action: None)(action)

    def _Log(self, action: actions.Log) -> None:
        self.log.append(f"{action.level} {action.text}")

    def _StartForkServer(self, action: actions.StartForkServer) -> None:
        assert action.generation not in self.servers, "two fork servers of one generation"
        if self.spawn_fails or not self.free:
            self.do(events.ActionFailed(action, self.spawn_fails or "EAGAIN"))
            return
        server = FakeServer(action.generation, self.free.popleft(), self.app)
        self.servers[action.generation] = server
        server.inbox.append("hello")
        self.do(events.Started(action.generation, server.pid))

    def _BeginLoading(self, action: actions.BeginLoading) -> None:
        self.deliver(action.generation, "begin")

    def _KillForkServer(self, action: actions.KillForkServer) -> None:
        self.dying.append(action.generation)  # its end is told later, as waitpid would

    def _Send(self, action: actions.Send) -> None:
        if action.generation in self.servers:  # else it is dropped
            self.deliver(action.generation, action.message)

    def _StartWorker(self, action: actions.StartWorker) -> None:
        assert not self.state.mode.leaving, f"forks while it leaves: {self.log[-5:]}"
        worker = action.worker
        self.stops[worker.slot] = Stop.NONE
        server = self.servers[worker.generation]
        assert server.loaded, "forks before the app is loaded"
        server.inbox.append(
            messages.ForkWorker(worker.slot, worker.name, worker.serial, list(worker.queues))
        )

    def _SetStop(self, action: actions.SetStop) -> None:
        self.stops[action.slot] = action.word
        self.causes.append(action.cause)

    def _SetOrder(self, action: actions.SetOrder) -> None:
        self.orders[action.slot] = action

    def _SignalChild(self, action: actions.SignalChild) -> None:
        worker = self.workers.get(action.pid)
        if worker is not None:
            assert worker.parent is None, "signals the child of a fork server"
            self._deliver(worker, action.signum)
        for steward in list(self.stewards.values()):
            if steward.pid == action.pid:
                assert steward.parent is None, "signals the child of a fork server"
                self._signal_steward(steward.serial, action.signum)

    def _KillGroup(self, action: actions.KillGroup) -> None:
        worker = self.workers.get(action.pid)
        assert worker is None or worker.slot == action.slot, "kills a stranger"
        if worker is not None:
            self._deliver(worker, KILL)

    def _ClearStewardStatus(self, action: actions.ClearStewardStatus) -> None:
        self.cleared += 1

    def deliver(self, generation: int, message) -> None:
        self.servers[generation].inbox.append(message)

    def _LoadConfig(self, action: actions.LoadConfig) -> None:
        if not self.config_valid:
            self.do(events.ActionFailed(action, "syntax error"))
            return
        wanted = max(0, self.config.workers + action.difference)
        count = wanted if wanted <= self.largest else self.config.workers
        self.do(events.ConfigLoaded(action.generation, self.config, self.plan(count)))

    def _Promote(self, action: actions.Promote) -> None:
        self.do(events.Promoted(action.reason, action.count))

    def _AskPlan(self, action: actions.AskPlan) -> None:
        if action.count <= self.largest:
            self.do(events.Planned(self.plan(action.count)))
        else:
            self.do(events.ActionFailed(action, "no queue"))

    def _AskStuck(self, action: actions.AskStuck) -> None:
        self.judged.append(action.worker.serial)
        verdict: Verdict | None = Dump if action.attempt == 0 else Kill
        if self.verdicts is not None:
            verdict = self.verdicts.pop(0) if self.verdicts else None
        self.do(events.Judged(action.worker.slot, action.worker.serial, verdict))

    def _TellLost(self, action: actions.TellLost) -> None:
        if not isinstance(action.worker, Death):
            self.told_lost.append((action.job_id, action.verdict))

    def _TellExited(self, action: actions.TellExited) -> None:
        self.told_exited.append(action.exit)

    def _TellReady(self, action: actions.TellReady) -> None:
        self.told_ready.append(action.reason)

    def _CheckExec(self, action: actions.CheckExec) -> None:
        pass  # a rule answers it

    def end_check(self, problem: str = "") -> None:
        """The check of a re-exec ends."""
        failed = events.ActionFailed(actions.CheckExec(), problem)
        self.do(failed if problem else events.ExecChecked())

    def _Exec(self, action: actions.Exec) -> None:
        if self.fails_exec:
            self.do(events.ActionFailed(action, self.fails_exec))
            return
        self.execs += 1
        self.unanswered.clear()  # who asked is gone
        self.core = Core(handover.restore(json.loads(json.dumps(handover.dump(self.state)))))
        self.do(events.Resumed())

    def _Answer(self, action: actions.Answer) -> None:
        assert action.ticket in self.unanswered, "nobody waits for this answer"
        self.unanswered.discard(action.ticket)
        self.answers[action.ticket] = action.refused

    def _Finish(self, action: actions.Finish) -> None:
        self.finished = action.code

    # Processes.

    def _serve(self, server: FakeServer) -> None:
        while server.inbox and not server.hung and self._lives(server):
            self._obey(server, server.inbox.popleft())
        children = any(w.parent == server.generation for w in self.workers.values())
        done = (server.retiring or server.leaving) and not server.hung and not children
        if done and server.generation in self.servers:
            self.end_server(server.generation, 0)

    def _lives(self, server: FakeServer) -> bool:
        dying = server.generation in self.dying
        return not dying and self.servers.get(server.generation) is server

    def hear(self, generation: int, message: messages.FromForkServer) -> None:
        """It comes over the channel, as JSON."""
        self.do(Heard(generation, messages.decode(messages.encode(message))))

    def _obey(self, server: FakeServer, packet) -> None:
        generation = server.generation
        match packet:
            case "hello":
                self.hear(generation, messages.Hello(1, server.pid))
            case "begin" if server.config == "hangs":
                pass
            case "begin" if server.config == "broken for good":  # its exit hangs
                self.hear(generation, messages.LoadFailed("ImportError"))
            case "begin" if server.config == "broken":
                self.hear(generation, messages.LoadFailed("ImportError"))
                if generation in self.servers:
                    self.end_server(generation, 78 << 8)
            case "begin":
                server.loaded = True
                self.hear(generation, messages.Ready())
            case messages.Retire():
                server.retiring = True
            case messages.ForkWorker(slot, _, serial):
                self._fork(server, slot, serial)
            case messages.SignalWorker(slot, pid, signum):
                worker = self.workers.get(pid)
                if worker is not None and worker.parent == generation and worker.slot == slot:
                    self._deliver(worker, signum)
            case messages.ForkSteward(serial):
                self._fork_steward(server, serial)
            case messages.SignalSteward(serial, signum):
                self._signal_steward(serial, signum)
            case messages.RunDuties(wanted):
                assert wanted != server.duties, "told the same again"
                server.duties = wanted
            case messages.Recover(death):
                done = self.answers_recovery and not self.fork_fails
                verdict = "requeued" if done else ""
                self.hear(generation, messages.Recovered(death.slot, death.name, verdict))

    def _fork(self, server: FakeServer, slot: int, serial: int) -> None:
        generation = server.generation
        if server.leaving:
            self.hear(generation, messages.WorkerNotForked(slot, serial, "ESHUTDOWN", True))
            return
        if self.veto is not None:
            self.hear(generation, messages.Vetoed(slot, serial, "not now", self.veto))
            return
        if self.fork_fails or not self.free:
            self.hear(generation, messages.WorkerNotForked(slot, serial, "EAGAIN"))
            return
        pid = self.free.popleft()
        record = Record(
            phase=Phase.BOOTING, pid=pid, generation=generation, serial=serial, started=self.now
        )
        worker = FakeWorker(pid, slot, serial, generation, record, parent=generation)
        self.workers[pid] = worker
        if server.dies_in_fork:
            self.end_server(generation, KILL)
            return
        self.hear(generation, messages.WorkerForked(slot, serial, pid))

    def _fork_steward(self, server: FakeServer, serial: int) -> None:
        if self.fork_fails or not self.free:
            self.hear(server.generation, messages.StewardNotForked(serial, "EAGAIN"))
            return
        pid = self.free.popleft()
        self.stewards[serial] = FakeSteward(serial, pid, parent=server.generation)
        if server.dies_in_fork:
            self.end_server(server.generation, KILL)
            return
        self.hear(server.generation, messages.StewardForked(serial, pid))

    def _signal_steward(self, serial: int, signum: int) -> None:
        steward = self.stewards.get(serial)
        if steward is not None and (signum == KILL or not steward.hung):
            self.end_steward(steward, signum if signum == KILL else 0)

    def _attend(self, steward: FakeSteward) -> None:
        if steward.serial not in self.stewards or steward.hung:
            return
        if self.newest > steward.serial:
            self.end_steward(steward, 0)
        elif self.redis and not steward.hello:
            steward.hello = True
            self.newest = steward.serial

    def end_steward(self, steward: FakeSteward, status: int) -> None:
        server = self.servers.get(steward.parent) if steward.parent is not None else None
        if server is not None and server.hung:
            steward.hung = True  # a zombie that nobody reaps
            return
        if self.stewards.pop(steward.serial, None) is not None:
            self.free.append(steward.pid)
            generation = steward.parent or self.state.stewards[steward.serial].generation
            self.hear(generation, messages.StewardExited(steward.serial, status))

    def _deliver(self, worker: FakeWorker, signum: int) -> None:
        worker.pending.add(signum)
        if signum == KILL:
            self.end_worker(worker, KILL)

    def _live(self, worker: FakeWorker) -> None:
        if worker.pid not in self.workers or worker.stubborn:
            return
        record = worker.record
        server = self.servers.get(worker.generation)
        if worker.pending & {QUIT, NOW} or (self.stops.get(worker.slot) and self._reads(worker)):
            if not record.phase.holds_job or NOW in worker.pending:
                self.leave(worker, Reason.ASKED)
        elif record.phase is Phase.BOOTING:
            if server is not None and server.config == "bad worker":
                self.end_worker(worker, 78 << 8)
            else:
                worker.record = replace(record, phase=Phase.CONNECTING)
        elif record.phase is Phase.CONNECTING and self.redis:
            worker.record = replace(record, phase=Phase.IDLE, ready=self.now)

    def _reads(self, worker: FakeWorker) -> bool:
        return worker.record.phase in (Phase.IDLE, Phase.CONNECTING)

    def leave(self, worker: FakeWorker, reason: Reason) -> None:
        worker.record = replace(worker.record, phase=Phase.LEFT, reason=reason, job_id="")
        self.end_worker(worker, 0)

    def end_worker(self, worker: FakeWorker, status: int) -> None:
        if self.workers.pop(worker.pid, None) is None:
            return
        server = self.servers.get(worker.parent) if worker.parent is not None else None
        if server is not None and server.hung:
            self.workers[worker.pid] = worker  # a zombie that nobody reaps
            worker.stubborn = True
            return
        self.free.append(worker.pid)
        death = Death(worker.slot, status, {}, worker.record, ("a",))
        exited = messages.WorkerExited(worker.serial, worker.pid, death)
        self.hear(worker.generation, exited)

    def end_server(self, generation: int, status: int) -> None:
        """Its workers are ours from here on; PDEATHSIG tells them to leave."""
        server = self.servers.pop(generation, None)
        if server is None:
            return
        self.free.append(server.pid)
        stewards = {s.serial: s.pid for s in self.stewards.values() if s.parent == generation}
        for serial in stewards:
            self.stewards[serial].parent = None
        orphans = [w for w in self.workers.values() if w.parent == generation]
        found = {w.slot: w.pid for w in orphans}
        for worker in orphans:
            worker.parent = None
            worker.pending.add(QUIT)
        self.do(events.ForkServerGone(generation, status, found, stewards))

    def tell_to_leave(self, server: FakeServer) -> None:
        """Somebody signals it, a service manager for one, and it has its workers leave first."""
        server.leaving = True
        for worker in self.workers.values():
            if worker.parent == server.generation:
                worker.pending.add(QUIT)

    # What a test looks at.

    def living(self, slot: int | None = None) -> list[FakeWorker]:
        return [w for w in self.workers.values() if w.slot > 0 and slot in (None, w.slot)]

    def ready(self) -> int:
        return sum(
            worker.state in (WorkerState.IDLE, WorkerState.BUSY)
            for worker in self.state.workers()
            if not worker.trial
        )
