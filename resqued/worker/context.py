"""What the parts of one worker share: its slot, and what it uses to talk to Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from rq.job import Job
from rq.worker import BaseWorker

from resqued.broker.claims import Claims
from resqued.broker.connection import answer_time
from resqued.broker.executions import LONGEST_TTL
from resqued.broker.fast_path import FastPath
from resqued.broker.limits import QueueLimits
from resqued.broker.listener import Listener
from resqued.broker.outages import RetryPolicy
from resqued.broker.queues import Queues
from resqued.shares import limits_of
from resqued.worker.idle import TURN, Waiter
from resqued.worker.job.unreadable import UnreadableJobs
from resqued.worker.open_queues import OpenQueues
from resqued.worker.queue_order import QueueOrder
from resqued.worker.slot import WorkerSlot


class Context:
    """What one worker shares, made at its first use; that opens no connection. worker: RQ's."""

    def __init__(self, worker: BaseWorker, slot: WorkerSlot) -> None:
        self.worker: Any = worker
        self.slot = slot
        self.unreadable = UnreadableJobs()
        self.fast_path: FastPath | None = None
        """The fast path; None if it cannot be used. Set by the job runner."""

    @cached_property
    def retry(self) -> RetryPolicy:
        slot = self.slot
        return RetryPolicy(
            slot.config,
            lambda more: slot.turn(slot.turn_limit + more if more else None),
            slot.seen_elsewhere,
        )

    @cached_property
    def claims(self) -> Claims:
        prefix = self.worker.job_class.key_for("")
        return Claims(self.worker.connection, self.slot.owner, prefix, self.limits)

    @cached_property
    def limits(self) -> QueueLimits:
        return QueueLimits(limits_of(self.slot.config.queues))

    @cached_property
    def queues(self) -> Queues:
        named = [queue.name for queue in self.slot.config.queues]
        return Queues(self.worker, self.slot.queues, named)

    @cached_property
    def open_queues(self) -> OpenQueues:
        board = self.slot.writer.board
        return OpenQueues(self.worker.connection, board, self._heed, alone=self.slot.alone)

    def _heed(self, guests: Mapping[str, Sequence[str]]) -> None:
        """Leave room for workers that do not obey limits."""
        if self.limits.set_guests(guests) and self.fast_path is not None:
            self.fast_path.hand.forget_limits()

    @cached_property
    def order(self) -> QueueOrder | None:
        """Asks plugins which queues to look into; None if no plugin has the hook."""
        return QueueOrder(self.slot) if self.slot.hooks.has("order_queues") else None

    @cached_property
    def listener(self) -> Listener:
        # Commands come with a signal, which would end the process without resqued's handlers.
        hears = self.slot.alone and self.slot.signals.installed
        channel = self.worker.pubsub_channel_name if hears else None
        return Listener(self.worker.connection, channel, answer_time(self.slot.config))

    def renew_listener(self) -> None:
        """Make the listener again once the handlers are installed, to receive commands too."""
        for name in ("listener", "waiter"):
            vars(self).pop(name, None)

    @cached_property
    def waiter(self) -> Waiter:
        slot = self.slot
        turn = min(TURN, slot.turn_limit / 4)
        return Waiter(slot.signals, self.listener, slot.writer.board, self._realm(), turn)

    def _realm(self) -> str:
        """Identifies the Redis database: distinguishes queues of the same name."""
        pool = self.worker.connection.connection_pool
        parts = [pool.connection_kwargs.get(name) for name in ("host", "port", "path", "db")]
        return repr([*parts, getattr(pool, "service_name", None)])

    @property
    def has_next(self) -> bool:
        """Whether the next job is started already: nothing slow may run before it."""
        return self.fast_path is not None and self.fast_path.has_next

    def seconds_of(self, job: Job) -> float:
        """A job's timeout in seconds; negative: none."""
        return float(min(job.timeout or self.worker.queue_class.DEFAULT_TIMEOUT, LONGEST_TTL))
