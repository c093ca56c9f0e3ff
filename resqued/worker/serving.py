"""Which queues a worker serves, when `*` stands for those that nobody has named."""

from __future__ import annotations

import time
from typing import Final

from rq import worker_registration
from rq.queue import Queue

from resqued.broker.claims import REST, Taken, expand, known_queues
from resqued.logs import logger
from resqued.printable import listed
from resqued.worker.presence import Present

_KNOWN: Final = 1.0  # seconds that the list of all queues is good for


class Serving(Present):
    """Mixed in before an RQ worker class."""

    _resqued_known = 0
    _resqued_known_at = 0.0

    @property
    def _resqued_known_queues(self) -> tuple[str, int] | None:
        """The set of all queues and how many it had; None when only named ones are served."""
        if REST not in self._resqued_slot.queues:
            return None
        return self.queue_class.redis_queues_keys, self._resqued_known

    def _resqued_refresh_queues(self) -> None:
        """Look up again what `*` stands for."""
        slot = self._resqued_slot
        if not self._resqued_knows_too_little():
            return
        self._resqued_known_at = time.monotonic()
        named = [queue.name for queue in slot.config.queues]
        known = known_queues(self.connection, self.queue_class)
        self._resqued_known = len(known)
        names = expand(slot.queues, named, known)
        if names == self.queue_names():
            return
        self.queues = [self._resqued_make_queue(name) for name in names]
        self._ordered_queues = self.queues[:]
        logger.info(f"serving queues={listed(names)}")
        with self.connection.pipeline() as pipeline:
            worker_registration.register(self, pipeline)
            pipeline.hset(self.key, "queues", ",".join(names))
            pipeline.execute()

    def _resqued_knows_too_little(self) -> bool:
        """Whether it is time to look up again what `*` stands for."""
        looked = self._resqued_known_at
        return REST in self._resqued_slot.queues and time.monotonic() >= looked + _KNOWN

    def _resqued_learns_a_queue(self) -> bool:
        """Whether `*` stands for more by now than at the last look. For the end of a burst."""
        before = self.queue_names()
        self._resqued_known_at = 0.0
        self._resqued_refresh_queues()
        return self.queue_names() != before

    def _resqued_queue_of(self, taken: Taken) -> Queue:
        for queue in self._ordered_queues:
            if queue.key == taken.queue_key:
                return queue
        prefix = self.queue_class.redis_queue_namespace_prefix
        return self._resqued_make_queue(taken.queue_key.removeprefix(prefix))
