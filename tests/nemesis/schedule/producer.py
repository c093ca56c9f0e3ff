"""Schedules jobs and cancels some, past the proxy, at their times."""

from __future__ import annotations

import threading
import time
from collections import deque
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

Timed = deque[tuple[float, Order]]


class Producer(threading.Thread):
    """begin: the beginning, in Unix seconds. `prepare` before it, then `start`.

    cancelled: when Redis had acknowledged the cancellation of a job, in Unix seconds. late: seconds
    by which it was behind its times, at most.
    """

    def __init__(self, connection: redis.Redis, orders: Sequence[Order], begin: int) -> None:
        super().__init__(name="producer")
        self._connection = connection
        self._orders = orders
        self._begin = begin
        self.cancelled: dict[str, float] = {}
        self.late = 0.0
        self.error: Exception | None = None
        self._stopped = False

    def stop(self) -> None:
        """Before all is done."""
        self._stopped = True
        self.join()

    def prepare(self) -> None:
        """Schedule what is there before the beginning."""
        early = [order for order in self._orders if order.made == 0.0]
        for at in range(0, len(early), _TOGETHER):
            self._schedule(early[at : at + _TOGETHER])

    def run(self) -> None:
        made = [(order.made, order) for order in self._orders if order.made]
        ended = [(each.cancelled, each) for each in self._orders if each.cancelled is not None]
        try:
            self._live(
                deque(sorted(made, key=itemgetter(0))), deque(sorted(ended, key=itemgetter(0)))
            )
        except Exception as error:
            self.error = error

    def _live(self, made: Timed, ended: Timed) -> None:
        """In the order of their times; several together when it is behind, or they are close."""
        while (made or ended) and not self._stopped:
            first = min(each[0][0] for each in (made, ended) if each)
            pause(min(1.0, self._begin + first - time.time()))
            now = time.time() - self._begin
            due = []
            while made and made[0][0] <= now and len(due) < _TOGETHER:
                at, order = made.popleft()
                due.append(order)
                self.late = max(self.late, now - at)
            self._schedule(due)
            if ended and ended[0][0] <= now and not (made and made[0][0] <= ended[0][0]):
                at, order = ended.popleft()
                Job.fetch(order.job_id, self._connection).cancel()
                self.cancelled[order.job_id] = time.time()
                self.late = max(self.late, now - at)

    def _schedule(self, orders: Sequence[Order]) -> None:
        if not orders:
            return
        with self._connection.pipeline() as pipeline:
            for order in orders:
                Queue(order.queue, connection=self._connection).enqueue_at(
                    datetime.fromtimestamp(self._begin + order.due, UTC),
                    jobs.noop,
                    job_id=order.job_id,
                    pipeline=pipeline,
                )
            pipeline.execute()
