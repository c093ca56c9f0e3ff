"""Schedules jobs and cancels some, past the proxy, at their times."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from operator import itemgetter

import redis
from rq import Queue
from rq.job import Job

from harness import jobs
from harness.waiting import pause
from nemesis.schedule.plan import Order

_TOGETHER = 500  # jobs in one round trip


class Producer(threading.Thread):
    """begin: the beginning, in Unix seconds. `prepare` before it, then `start`.

    cancelled: jobs whose cancellation Redis has acknowledged.
    """

    def __init__(self, connection: redis.Redis, orders: Sequence[Order], begin: int) -> None:
        super().__init__(name="producer")
        self._connection = connection
        self._orders = orders
        self._begin = begin
        self.cancelled: set[str] = set()
        self.error: Exception | None = None

    def prepare(self) -> None:
        """Schedule what is there before the beginning."""
        early = [order for order in self._orders if order.made == 0.0]
        for at in range(0, len(early), _TOGETHER):
            with self._connection.pipeline(transaction=False) as pipeline:
                for order in early[at : at + _TOGETHER]:
                    self._schedule(order, pipeline)
                pipeline.execute()

    def run(self) -> None:
        made = [(order.made, 0, order) for order in self._orders if order.made]
        ended = [
            (order.cancelled, 1, order) for order in self._orders if order.cancelled is not None
        ]
        try:
            for at, what, order in sorted(made + ended, key=itemgetter(0, 1)):
                pause(self._begin + at - time.time())
                if what:
                    Job.fetch(order.job_id, self._connection).cancel()
                    self.cancelled.add(order.job_id)
                else:
                    self._schedule(order, None)
        except Exception as error:
            self.error = error

    def _schedule(self, order: Order, pipeline: redis.client.Pipeline | None) -> None:
        moment = datetime.fromtimestamp(self._begin + order.due, UTC)
        Queue(order.queue, connection=self._connection).enqueue_at(
            moment, jobs.noop, job_id=order.job_id, pipeline=pipeline
        )
