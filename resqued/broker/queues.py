"""The queues that a worker serves; `*` stands for all that the configuration does not name."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import redis
from redis.exceptions import ResponseError
from rq import worker_registration
from rq.queue import Queue

from resqued import logs
from resqued.broker.bad_data import abbreviate, is_data_error, log_once, text_of
from resqued.logs import LogEvent
from resqued.printable import listed

REST: Final = "*"
"""In a list of queues: all that RQ knows and the configuration does not name."""

_KNOWN: Final = 1.0  # seconds for which the list of all queues is used


class Queues:
    """The queues of one worker. worker: RQ's. served: the queues to serve, in order of priority,
    maybe with `*`. named: all that the configuration names, which `*` does not include."""

    def __init__(self, worker: Any, served: Sequence[str], named: Sequence[str]) -> None:
        self._worker = worker
        self._served = served
        self._named = named
        self._wild = REST in served
        self._count = 0  # number of all queues, at the last look
        self._looked = 0.0

    @property
    def known(self) -> tuple[str, int] | None:
        """Key of the set of all queues, and its size at the last look; None without `*`."""
        return (self._worker.queue_class.redis_queues_keys, self._count) if self._wild else None

    @property
    def are_outdated(self) -> bool:
        """Whether it is time to look up again what `*` stands for."""
        return self._wild and time.monotonic() >= self._looked + _KNOWN

    def forget(self) -> None:
        """Make the next `refresh` look up the queues, however recent the last look."""
        self._looked = 0.0

    def refresh(self) -> None:
        """Look up again what `*` stands for, if it is time. Raises redis errors."""
        if not self.are_outdated:
            return
        worker = self._worker
        self._looked = time.monotonic()
        known = known_queues(worker.connection, worker.queue_class)
        self._count = len(known)
        names = expand(self._served, self._named, known)
        if names == worker.queue_names():
            return
        worker.queues = [self.make(name) for name in names]
        worker._ordered_queues = worker.queues[:]
        logs.info(f"serving queues={listed(names)}", LogEvent.WORKER_NOTICE)
        with worker.connection.pipeline() as pipeline:
            worker_registration.register(worker, pipeline)
            pipeline.hset(worker.key, "queues", ",".join(names))
            pipeline.execute()

    def has_changed(self) -> bool:
        """Look up now whether `*` stands for other queues, at a burst's end. Raises redis
        errors."""
        before = self._worker.queue_names()
        self.forget()
        self.refresh()
        return bool(self._worker.queue_names() != before)

    def by_key(self, key: str) -> Queue:
        """The queue with this key."""
        for queue in self._worker._ordered_queues:
            if queue.key == key:
                found: Queue = queue
                return found
        return self.make(key.removeprefix(self._worker.queue_class.redis_queue_namespace_prefix))

    def make(self, name: str) -> Queue:
        """A queue object as RQ's worker makes it."""
        return make_queue(self._worker, name)


def make_queue(worker: Any, name: str) -> Queue:
    """A queue object with the classes of this worker, as RQ's makes it."""
    made: Queue = worker.queue_class(
        name=name,
        connection=worker.connection,
        job_class=worker.job_class,
        serializer=worker.serializer,
        death_penalty_class=worker.death_penalty_class,
    )
    return made


def known_queues(connection: redis.Redis, queue_class: type[Queue]) -> list[str]:
    """The names of all queues that RQ knows, sorted. A name that is not text is logged once."""
    prefix, names = queue_class.redis_queue_namespace_prefix, []
    try:
        members: Any = connection.smembers(queue_class.redis_queues_keys)
    except ResponseError as error:
        if not is_data_error(error):
            raise
        key = queue_class.redis_queues_keys
        log_once(key, f"key={key} is no set, so `*` stands for no queue: {error}")
        return []
    for raw in members:
        key_text = text_of(raw)
        if key_text is None:
            log_once(
                f"queue {raw!r}", f"queue {abbreviate(raw)} is not served: its name is not UTF-8"
            )
        elif key_text.startswith(prefix) and len(key_text) > len(prefix):
            names.append(key_text[len(prefix) :])
    return sorted(names)


def expand(queues: Sequence[str], named: Iterable[str], known: Iterable[str]) -> list[str]:
    """`queues` with `*` replaced by the known queues that are not named anywhere."""
    rest = sorted(set(known) - set(named) - set(queues))
    names: list[str] = []
    for name in queues:
        names.extend(rest if name == REST else [name])
    return names
