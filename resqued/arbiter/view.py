"""The arbiter as hooks see it: its state, and its verbs, which post to the loop."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from operator import is_

from resqued.arbiter.active_config import ActiveConfig
from resqued.arbiter.inbox import Inbox, PostedRequest
from resqued.arbiter.loop_delay import LoopDelay
from resqued.arbiter.periodic import Periodic, plugin_here
from resqued.arbiter.queue_facts import FactsReader
from resqued.config import Config
from resqued.core.state import State, WorkerHandle
from resqued.core.verbs import Verb
from resqued.death import Death
from resqued.scoreboard import Scoreboard
from resqued.snapshots import (
    Generation,
    LoopFacts,
    QueueCounts,
    QueueFacts,
    RedisFacts,
    ScheduleFacts,
    Worker,
    WorkerState,
)
from resqued.worker_snapshot import snapshot_of


class ArbiterView:
    """What every hook that runs in the arbiter gets as `arbiter`: see `resqued.Arbiter`.

    One object for its life, made in the thread of the loop, and safe to use in any.
    """

    def __init__(
        self,
        active: ActiveConfig,
        state: State,
        board: Scoreboard,
        inbox: Inbox,
        periodic: Periodic,
        delay: LoopDelay,
    ) -> None:
        self.pid = os.getpid()
        self._active = active
        self._state = state
        self._facts = FactsReader(board)
        self._inbox = inbox
        self._periodic = periodic
        self._delay = delay
        self._loop = threading.get_ident()
        # By slot; with what it was made from, since most of a thousand workers have not changed.
        self._snapshots: dict[int, tuple[tuple[object, ...], Worker]] = {}

    def __repr__(self) -> str:
        return f"<arbiter pid={self.pid} {self.state} workers={self.wished}>"

    # Facts.

    @property
    def config(self) -> Config:
        return self._active.config

    @property
    def generation(self) -> int:
        return self._state.current

    @property
    def state(self) -> str:
        return str(self._state.mode)

    @property
    def reloading(self) -> bool:
        return self._state.booting is not None

    @property
    def wished(self) -> int:
        return self._state.target

    @property
    def workers(self) -> tuple[Worker, ...]:
        # The list of the slots is copied in one step of the interpreter: the loop may add some.
        slots = sorted(list(self._state.slots.values()), key=lambda slot: slot.number)
        living = [worker for slot in slots if (worker := slot.worker) is not None]
        config, before, made = self.config, self._snapshots, {}
        for worker in living:
            basis = (worker, worker.seen, worker.state, worker.pid, worker.queues, config)
            known = before.get(worker.slot)
            if known is None or not all(map(is_, known[0], basis)):
                known = basis, self.snapshot(worker)
            made[worker.slot] = known
        self._snapshots = made
        return tuple(snapshot for _, snapshot in made.values())

    @property
    def queues(self) -> Mapping[str, QueueFacts]:
        workers = [slot.worker for slot in list(self._state.slots.values())]
        living = [worker for worker in workers if worker is not None]
        return self._facts.queues(living, self.config)

    @property
    def counts(self) -> Mapping[str, QueueCounts]:
        return self._facts.counts()

    @property
    def redis(self) -> RedisFacts | None:
        return self._facts.redis()

    @property
    def schedule(self) -> ScheduleFacts | None:
        return self._facts.schedule()

    @property
    def loop(self) -> LoopFacts:
        return self._delay.facts

    # Verbs.

    def reload(self) -> PostedRequest:
        return self._post(Verb.RELOAD)

    def reexec(self) -> PostedRequest:
        return self._post(Verb.REEXEC)

    def scale(self, count: int) -> PostedRequest:
        return self._post(Verb.SCALE, _number(count, "scale"))

    def drain(self) -> PostedRequest:
        return self._post(Verb.DRAIN)

    def stop(self) -> PostedRequest:
        return self._post(Verb.STOP)

    def rest(self) -> PostedRequest:
        return self._post(Verb.REST)

    def resume(self) -> PostedRequest:
        return self._post(Verb.RESUME)

    def recycle(self, number: int) -> PostedRequest:
        return self._post(Verb.RECYCLE, _number(number, "recycle"))

    def replan(self) -> PostedRequest:
        return self._post(Verb.REPLAN)

    def look_again(self) -> PostedRequest:
        return self._post(Verb.LOOK_AGAIN)

    def reopen_logs(self) -> PostedRequest:
        return self._post(Verb.REOPEN_LOGS)

    def call_soon(self, function: Callable[[], object]) -> PostedRequest:
        """Raises TypeError for what cannot be called."""
        if not callable(function):
            raise TypeError(f"call_soon: {function!r} is not a function")
        return self._inbox.call(function, self._owner_of(function))

    def every(self, seconds: float, function: Callable[[], object]) -> PostedRequest:
        """Raises as `Periodic.start` does."""
        request = self._inbox.request()
        self._periodic.start(self._owner_of(function), seconds, function, request)
        return request

    def _post(self, verb: Verb, number: int = 0) -> PostedRequest:
        plugin = self._asking()
        source = f"plugin '{plugin}'" if plugin else "a plugin"
        return self._inbox.post(verb, number, source)

    def _owner_of(self, function: Callable[[], object]) -> str:
        """The plugin that has written it, or that asks for it."""
        return self._active.hooks.owner_of(function) or self._asking() or "?"

    def _asking(self) -> str:
        """The plugin whose code runs in this thread; empty if that is not known."""
        if threading.get_ident() == self._loop:
            return self._active.hooks.calling
        return plugin_here()

    # For the arbiter itself.

    def snapshot(self, worker: WorkerHandle | Death) -> Worker:
        """The snapshot of a worker for hooks. Of a death: as it was when it died."""
        if isinstance(worker, Death):
            record = worker.record
            name, pid, generation = record.name, record.pid or None, record.generation
            state = WorkerState.KILLED if worker.reason else WorkerState.BUSY
        else:
            record, name, pid = worker.seen, worker.name, worker.pid
            generation, state = worker.generation, worker.state
        return snapshot_of(
            record,
            slot=worker.slot,
            name=name,
            pid=pid,
            generation=generation,
            queues=worker.queues,
            state=state,
            config=self.config,
            holds_job=record.phase.holds_job,
        )

    def generation_of(self, number: int, pid: int | None) -> Generation:
        """The snapshot of a generation for hooks, with the configuration that it has or tries."""
        config = self._active.config_of(number)
        return Generation(number, pid, config.require if config.preload_app else (), config)


def _number(value: int, verb: str) -> int:
    """Raises TypeError: here, where its author sees the line."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{verb}: {value!r} is not a whole number")
    return value
