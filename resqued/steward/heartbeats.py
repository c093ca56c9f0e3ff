"""The heartbeats of all workers of an arbiter, in one round trip.

A heartbeat says that the process exists. Its script extends the expiry of keys that exist and
creates none, so a heartbeat that is late cannot bring back what a death or an outcome has removed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import redis
from redis.exceptions import NoScriptError
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE, Execution, ExecutionRegistry
from rq.job import Job
from rq.registry import StartedJobRegistry
from rq.suspension import WORKERS_SUSPENDED
from rq.utils import now, utcformat
from rq.worker_registration import REDIS_WORKER_KEYS

import resqued
from resqued import linux, logs
from resqued.broker.bad_data import is_data_error, log_once, set_aside
from resqued.broker.executions import NO_TIMEOUT, set_lists_aside, set_rosters_aside
from resqued.broker.owner import ARBITERS, worker_key
from resqued.broker.wire import read_script
from resqued.config import Config
from resqued.logs import LogEvent
from resqued.scoreboard import Phase, Record, Scoreboard, Seen
from resqued.steward.registration import WorkerRegistrations

LEASE: Final = 300
"""Seconds, at least, for which a job with a timeout is registered as running after a heartbeat."""

GONE: Final = 0
"""A worker's key does not exist, though the worker does."""

TORN: Final = 2
"""A worker's key lacks fields, or is missing from one of RQ's sets."""

DECLARED_DEAD: Final = -1
"""The worker was deregistered: by itself, or by a process that took it for dead."""

WHOLE: Final = 1
"""The worker's key is complete."""

OVERWRITTEN: Final = -2
"""A worker's key was not a hash; it was deleted."""

_BEAT: Final = read_script("heartbeat")
_IDLE: Final = read_script("idle_heartbeats")

_TOGETHER: Final = 100
"""Idle workers per script, which blocks the server for about a millisecond."""

LATELY: Final = 35.0
"""Seconds after the last write to its record for which an idle worker is taken for alive. A living
worker writes every thirty, and a dead one is recovered by then. For the others the kernel is asked,
which for all workers would take longer than the rest of the round."""


class Heartbeats:
    """Sends the heartbeats of one arbiter and its workers. Runs in the steward. Methods raise redis
    errors."""

    def __init__(
        self,
        connection: redis.Redis,
        board: Scoreboard,
        config: Config,
        identity: str,
        arbiter: int,
    ) -> None:
        self.every = min(10.0, config.dead_after / 4)
        """Seconds between two rounds."""
        self._connection = connection
        self._board = board
        self._config = config
        self._identity = identity
        self._arbiter = arbiter
        self._sha = self._sha_idle = ""
        self._seen: dict[int, Seen] = {}  # records, as of the last round
        self.registration = WorkerRegistrations(connection, config, identity)
        """What RQ knows of the workers, and which queues they serve."""

    def look(self) -> bool:
        """Whether `rq suspend` is in force."""
        return bool(self._connection.exists(WORKERS_SUSPENDED))

    def beat(self) -> bool:
        """One round; whether `rq suspend` is in force."""
        workers = self._workers()
        suspended, answers = self._beat_all(workers)
        torn = []
        for slot, record in workers:
            answer = answers[record.name]
            if answer == WHOLE or isinstance(answer, Exception) or not self._works_on(slot, record):
                continue
            torn.append(record)
            if answer == OVERWRITTEN:
                logs.error(
                    f"key={worker_key(record.name)} was not a hash: written again",
                    LogEvent.STEWARD_NOTICE,
                )
            elif answer == DECLARED_DEAD:
                logs.warning(
                    f"worker={record.name} was taken for dead; registered again",
                    LogEvent.WORKER_NOTICE,
                )
        self.registration.again(torn, suspended=suspended)
        return suspended

    def _workers(self) -> list[tuple[int, Record]]:
        """Slots and records of all workers that RQ knows and that live."""
        look, before = self._board.read_again, self._seen
        self._seen = {slot: look(slot, before.get(slot)) for slot in self._board.used()}
        present = time.monotonic()
        return [
            (slot, record)
            for slot, (_, record) in self._seen.items()
            if _is_registered(record)
            and (
                (record.phase is Phase.IDLE and 0 <= present - record.heartbeat < LATELY)
                or linux.lives(record.pid, record.ticks)
            )
        ]

    def _works_on(self, slot: int, record: Record) -> bool:
        """Whether the worker is still registered: one that leaves has deregistered itself."""
        current = self._board.read(slot)
        return (current.pid, current.serial) == (record.pid, record.serial) and (
            current.phase < Phase.LEAVING and linux.lives(record.pid, record.ticks)
        )

    def sign_off(self) -> None:
        """Remove the arbiter's entry, since it leaves."""
        self._connection.hdel(ARBITERS, self._identity)

    def _beat_all(self, workers: list[tuple[int, Record]]) -> tuple[bool, dict[str, Any]]:
        """Answers by worker name. Reads the keys of new workers, too. An error that is due to the
        data of one worker's keys is an answer."""
        new = self.registration.to_learn(workers)
        together = True
        while True:
            if not self._sha:
                self._sha = str(self._connection.script_load(_BEAT))
                self._sha_idle = str(self._connection.script_load(_IDLE))
            groups = self._groups(workers, together=together)
            with self._connection.pipeline(transaction=False) as pipeline:
                pipeline.exists(WORKERS_SUSPENDED)
                pipeline.hset(ARBITERS, self._identity, self._entry())
                for record in new:
                    pipeline.hgetall(worker_key(record.name))
                for group in groups:
                    self._ask_beat(pipeline, group)
                suspended, entered, *rest = pipeline.execute(raise_on_error=False)
            if any(isinstance(answer, NoScriptError) for answer in rest):
                self._sha = ""  # the server was restarted, or flushed
                continue
            if is_data_error(entered) and set_aside(self._connection, ARBITERS):
                continue
            learned, answers = rest[: len(new)], rest[len(new) :]
            refused = any(isinstance(answer, Exception) for answer in answers)
            if refused and together and len(groups) < len(workers):
                together = False  # to see which worker the error is of
                continue
            beaten = [
                (record, each)
                for group, answer in zip(groups, answers, strict=True)
                for record, each in zip(group, _each(answer, len(group)), strict=True)
            ]
            if self._set_aside(beaten):
                continue
            self._note_refusal(f"key={ARBITERS}", entered)
            for record, answer in (*zip(new, learned, strict=True), *beaten):
                self._note_refusal(f"worker={record.name}", answer)
            if isinstance(suspended, Exception):
                raise suspended
            for record, answer in zip(new, learned, strict=True):
                if isinstance(answer, dict):
                    self.registration.learn(record, answer)
            return bool(suspended), {record.name: answer for record, answer in beaten}

    def _groups(
        self, workers: list[tuple[int, Record]], *, together: bool
    ) -> list[Sequence[Record]]:
        """Workers per script: idle workers that serve the same queues are one group."""
        groups: list[Sequence[Record]] = []
        idle: dict[tuple[str, ...], list[Record]] = {}
        for _, record in workers:
            if not together or record.phase.holds_job:
                groups.append((record,))
                continue
            group = idle.setdefault(self.registration.queues_of(record), [])
            if not group:
                groups.append(group)
            group.append(record)
            if len(group) == _TOGETHER:
                del idle[self.registration.queues_of(record)]
        return groups

    def _ask_beat(self, pipeline: Any, group: Sequence[Record]) -> None:
        if len(group) == 1:
            keys, arguments = self._beat_of(group[0])
            pipeline.evalsha(self._sha, len(keys), *keys, *arguments)
            return
        sets = self.registration.checked(self.registration.queues_of(group[0]))
        keys = [REDIS_WORKER_KEYS, *sets]
        for record in group:
            keys += (worker_key(record.name), WORKER_EXECUTIONS_KEY_TEMPLATE.format(record.name))
        arguments = [utcformat(now()), self._config.worker_ttl + 60, len(sets)]
        pipeline.evalsha(self._sha_idle, len(keys), *keys, *arguments)

    def _set_aside(self, beaten: list[tuple[Record, Any]]) -> bool:
        """Whether keys of workers or executions were of another type; those were set aside."""
        found = False
        for record, answer in beaten:
            if not is_data_error(answer):
                continue
            wip = StartedJobRegistry.key_template.format(record.queue)
            queues = self.registration.queues_of(record)
            found |= set_rosters_aside(self._connection, queues)
            if record.job_id:
                found |= set_lists_aside(self._connection, wip, record.job_id, record.name)
        return found

    def _note_refusal(self, name: str, answer: Any) -> None:
        """Log an error of one worker's data; raise any other."""
        if not isinstance(answer, Exception):
            return
        if not is_data_error(answer):
            raise answer
        log_once(f"beat {name}", f"no heartbeat for {name}: {answer}")

    def _entry(self) -> str:
        """The arbiter's entry for other arbiters. It differs from one round to the next."""
        return json.dumps(
            {
                "version": resqued.__version__,  # none: 0.1, which knows no hands
                "host": linux.host_name(),
                "machine": linux.machine(),
                "pid": self._arbiter,
                "ticks": linux.birth_ticks(self._arbiter),
                "every": self.every,
                "beat": time.monotonic(),
            }
        )

    def _beat_of(self, record: Record) -> tuple[list[str], list[Any]]:
        """KEYS and ARGV for one worker."""
        sets = self.registration.checked(self.registration.queues_of(record))
        keys = [worker_key(record.name), WORKER_EXECUTIONS_KEY_TEMPLATE.format(record.name)]
        keys += [REDIS_WORKER_KEYS, *sets]
        arguments: list[Any] = [utcformat(now()), self._config.worker_ttl + 60, len(sets)]
        if record.execution_id and record.phase.holds_job and not record.overflow:
            execution = Execution(record.execution_id, record.job_id, self._connection)
            keys += [
                execution.key,
                StartedJobRegistry.key_template.format(record.queue),
                ExecutionRegistry.key_template.format(record.job_id),
                Job.key_for(record.job_id),
            ]
            ttl = LEASE if record.job_timeout >= 0 else NO_TIMEOUT
            writes = int(record.phase >= Phase.RETURNED)
            arguments += [time.time(), ttl, execution.composite_key, execution.id, writes]
            arguments.append(record.name)
        return keys, arguments


def living(board: Scoreboard) -> Iterator[tuple[int, Record]]:
    """Slots and records of all workers that RQ knows and whose process exists."""
    for slot in board.used():
        record = board.read(slot)
        if _is_registered(record) and linux.lives(record.pid, record.ticks):
            yield slot, record


def _is_registered(record: Record) -> bool:
    return Phase.IDLE <= record.phase <= Phase.LEAVING


def _each(answer: Any, count: int) -> Sequence[Any]:
    """The answer for each of `count` workers; an error is the answer for all."""
    if count == 1:
        return (answer,)
    return (answer,) * count if isinstance(answer, Exception) else answer
