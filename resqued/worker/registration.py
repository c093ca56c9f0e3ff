"""How a worker appears in RQ: birth, state, heartbeats, death.

`rq info` and dashboards see what RQ's own code writes. The methods replaced here would raise out of
RQ's loop when Redis is away, or cost a round trip at every step. An argument rqs is the method of
RQ that is replaced. A worker also checks its entry in Redis while it is idle: it may have been
flushed or evicted and in part written again, or its worker taken for dead.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

import redis
from redis.client import Pipeline
from redis.exceptions import ResponseError
from rq import worker_registration
from rq.utils import now, utcformat, utcparse
from rq.worker import BaseWorker
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY

from resqued import linux, logs
from resqued.broker.bad_data import is_data_error, text_of
from resqued.broker.connection import answer_time
from resqued.broker.executions import set_rosters_aside
from resqued.broker.outages import NO_ANSWER
from resqued.broker.owner import (
    GENERATION,
    OWNER,
    RUNNING,
    Owner,
    owner_of,
    parse_running,
    worker_key,
)
from resqued.broker.strict import make_strict
from resqued.broker.wire import read_script
from resqued.config import Config
from resqued.logs import LogEvent
from resqued.worker.slot import WorkerSlot

if TYPE_CHECKING:
    from resqued.worker.context import Context

_WANT: Final = read_script("want_name")

_HEARTBEAT: Final = 10.0  # seconds; two heartbeats are at least so far apart
_PROBE: Final = 5.0  # seconds without a write after which an idle worker tries one
_LOOK_AFTER: Final = 5.0  # seconds between two checks of the worker's entry in Redis

_MOST: Final = 100  # sets of workers, one per queue, that are checked


class WorkerRegistration:
    """The registration of one worker."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._slot = context.slot
        self._worker = context.worker
        self._beat_at = self._probed_at = self._looked_at = 0.0

    @cached_property
    def _entry(self) -> WorkerEntry:
        return WorkerEntry(self._worker, self._slot.owner)

    # Birth.

    def birth(self, rqs: Callable[[], None]) -> None:
        """Replaces BaseWorker.register_birth. Raises redis errors. Under an arbiter the name
        belongs to this worker, also if the key of its predecessor still exists."""
        worker = self._worker
        self._slot.registered = True
        if not self._slot.alone:
            worker.connection.hset(worker.key, "death", "")
        if self._context.fast_path is not None:
            self._context.fast_path.register()
        try:
            rqs()
        except ResponseError as error:
            aside = is_data_error(error) and set_rosters_aside(
                worker.connection, worker.queue_names()
            )
            if not aside:
                raise
            worker.connection.hset(
                worker.key, "death", ""
            )  # the rest of the transaction was carried out
            rqs()

    def serialize(self, rqs: dict[str, Any]) -> dict[str, Any]:
        """What `register_birth` writes, and the owner, by which dead workers' keys are dropped."""
        return {
            **rqs,
            OWNER: str(self._slot.owner),
            GENERATION: str(self._slot.writer.record.generation),
        }

    # State and heartbeats.

    def set_state(
        self, rqs: Callable[..., None], state: str, pipeline: Pipeline | None = None
    ) -> None:
        """Write the state only if it changes; a failure is no reason to leave the loop."""
        if pipeline is not None:
            rqs(state, pipeline)
        elif state != self._worker.get_state():
            try:
                rqs(state)
            except NO_ANSWER as error:
                logs.debug(f"state {state} not written: {error}")

    def heartbeat(
        self, rqs: Callable[..., None], timeout: int | None, pipeline: Pipeline | None
    ) -> None:
        """In a given pipeline always; else every ten seconds, unless the steward does it."""
        if pipeline is not None:
            rqs(timeout, pipeline)
            self.note_heartbeat()
        elif time.monotonic() >= self._beat_at + _HEARTBEAT and not self._slot.has_steward:
            with contextlib.suppress(*NO_ANSWER):
                self._beat(rqs, timeout)

    def note_heartbeat(self) -> None:
        """Redis has accepted a heartbeat."""
        self._beat_at = time.monotonic()

    def beat(self) -> None:
        """Send a heartbeat that must arrive. Raises redis errors."""
        self._beat(partial(BaseWorker.heartbeat, self._worker), None)

    def _beat(self, rqs: Callable[..., None], timeout: int | None) -> None:
        worker = self._worker
        with worker.connection.pipeline(transaction=False) as pipeline:
            rqs(timeout, pipeline)
            new, *_ = pipeline.execute()
            if new and worker.birth_date is not None:  # the key had expired, in an outage
                self._entry.write(pipeline)
                pipeline.execute()
        self.note_heartbeat()

    def maintain(self, rqs: Callable[..., None], job: Any, execution: Any) -> None:
        """Replaces `maintain_heartbeats`, which a forking class calls while its horse runs. If it
        raised, the horse would be abandoned."""
        self._slot.turn()
        with contextlib.suppress(*NO_ANSWER):
            rqs(job, execution)

    def probe(self) -> None:
        """Make Redis accept a write while the worker is idle. Raises redis errors. A former master
        still answers queries on connections from before a failover, and a worker that writes
        nothing would wait there for jobs that never come."""
        if time.monotonic() >= max(self._beat_at, self._probed_at) + _PROBE:
            worker = self._worker
            worker.connection.expire(worker.key, worker.worker_ttl + 60)
            self._probed_at = time.monotonic()

    def look(self) -> list[tuple[str, str]]:
        """Check from time to time that Redis has the whole entry of this worker. Job and execution
        ids that the entry says it runs. Raises redis errors."""
        if time.monotonic() < self._looked_at + _LOOK_AFTER:
            return []
        self._looked_at = time.monotonic()
        return self._entry.look()

    def check_soon(self) -> None:
        """Make the next `look` check at once: Redis has been away."""
        self._looked_at = 0.0


def address_of(connection: Any) -> str:
    """As BaseWorker._set_ip_address, without a warning where CLIENT is forbidden."""
    with contextlib.suppress(ResponseError, KeyError, TypeError):
        return str(connection.client_info()["addr"])
    return "unknown"


def settle_name(slot: WorkerSlot, connection: redis.Redis, identity: str) -> None:
    """Keep the name on the record, or take a longer one if another living worker has it.

    With `--name` two arbiters may use the same names: replicas of one deployment, a new container
    beside the old one. RQ has one key per name, so the second worker would overwrite the first, and
    the first to exit would deregister both. identity: the arbiter's. Runs in the worker, before it
    registers. Raises redis errors.
    """
    given, config = slot.writer.record.name, slot.config
    if not identity or given.startswith(f"{identity}."):
        return  # the name contains the identity, so it is unique
    longer = f"{given}.{identity.rpartition('.')[2]}"
    for name in (given, longer):
        slot.writer.update(name=name)
        slot.owner = owner_of(slot.writer.record, identity)
        if _take(connection, name, slot.owner, config):
            break
    if (name := slot.writer.record.name) != given:
        logs.info(
            f"another worker is called {given}; this one is called {name}", LogEvent.WORKER_NOTICE
        )
        make_strict(connection, name, answer_time(config))


def _take(connection: redis.Redis, name: str, owner: Owner, config: Config) -> bool:
    """Take the name; False if a living worker has it."""
    want = connection.register_script(_WANT)
    gone = ""
    while True:
        ttl = config.worker_ttl + 60
        answer = want([worker_key(name)], [OWNER, str(owner), gone, utcformat(now()), ttl])
        if answer is None:
            return True
        bearer, birth, beat = (text_of(raw) or "" for raw in answer)
        if gone == bearer or _lives(bearer, birth, beat, owner, config):
            return False
        gone = bearer


def _lives(bearer: str, birth: str, beat: str, own: Owner, config: Config) -> bool:
    try:
        owner = Owner.parse(bearer)
    except ValueError:  # not resqued's: it counts as alive while it is registered
        return True
    if owner.arbiter == own.arbiter:
        return False  # the previous worker in this slot
    if owner.machine == linux.machine() and (life := owner.life) is not linux.Life.UNKNOWN:
        return life is not linux.Life.DEAD
    try:
        return now() - utcparse(beat) < timedelta(seconds=config.dead_after)
    except ValueError:
        return bool(birth)


class WorkerEntry:
    """What Redis has of one worker. Methods raise redis errors."""

    def __init__(self, worker: BaseWorker, owner: Owner) -> None:
        self._worker = worker
        self._owner = owner

    def look(self) -> list[tuple[str, str]]:
        """Register again if the entry is incomplete. Job and execution ids that it names."""
        worker = self._worker
        names = worker.queue_names()[:_MOST]
        with worker.connection.pipeline(transaction=False) as pipeline:
            pipeline.smembers(worker.executions_key)
            pipeline.hmget(worker.key, "birth", "death")
            pipeline.sismember(REDIS_WORKER_KEYS, worker.key)
            for name in names:
                pipeline.sismember(WORKERS_BY_QUEUE_KEY % name, worker.key)
            members, key, *listed = pipeline.execute(raise_on_error=False)
        for answer in (members, key, *listed):
            if isinstance(answer, Exception) and not is_data_error(answer):
                raise answer
        born, dead = (False, False) if isinstance(key, Exception) else key
        if not born or dead or not all(listed):
            self._register(delete=isinstance(key, Exception))
        if isinstance(members, Exception):
            return []
        return self._own([text for text in map(text_of, members) if text])

    def _own(self, keys: list[str]) -> list[tuple[str, str]]:
        """Of these executions those of this worker: a dead one may have had its name."""
        if not keys:
            return []
        notes: Any = self._worker.connection.hmget(RUNNING, keys)
        found = []
        for key, note in zip(keys, notes, strict=True):
            with contextlib.suppress(ValueError):
                if note is not None and parse_running(note)[0] == self._owner:
                    job_id, _, execution_id = key.rpartition(":")
                    found.append((job_id, execution_id))
        return found

    def _register(self, *, delete: bool) -> None:
        worker: Any = self._worker
        logs.info(
            "registered again: the entry of this worker in redis was incomplete",
            LogEvent.WORKER_NOTICE,
        )
        with worker.connection.pipeline() as pipeline:
            if delete:
                pipeline.delete(worker.key)
            self.write(pipeline)
            pipeline.execute()

    def write(self, pipeline: Pipeline) -> None:
        """Write all that `register_birth` writes, and the state, of a registered worker."""
        worker: Any = self._worker
        worker.last_heartbeat = now()
        fields = {**worker.serialize(), "state": worker.get_state()}
        pipeline.hdel(worker.key, "death")
        pipeline.hset(worker.key, mapping=fields)
        worker_registration.register(worker, pipeline)
        pipeline.expire(worker.key, worker.worker_ttl + 60)
