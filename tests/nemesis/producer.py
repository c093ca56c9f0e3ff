"""Enqueues the load in a steady stream, and knows which of it Redis has taken."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry as Attempts
from rq import Callback, Queue, Repeat, Retry
from rq.exceptions import DuplicateJobError
from rq.job import Dependency, Job

from harness.waiting import pause
from nemesis.load import Order, note_failure, note_success

_KEEP = 86400  # seconds that results are kept: longer than any run


def _dependency(order: Order) -> Dependency | None:
    if not order.parents:
        return None
    return Dependency(jobs=list(order.parents), allow_failure=order.patient)


class Producer(threading.Thread):
    """Its connection has no time limit, so it does not fail while the server is frozen: when it
    fails the server has dropped it, and will not carry out later what it has sent."""

    def __init__(self, socket: str, load: Sequence[Order], seconds: float) -> None:
        super().__init__(name="producer")
        self._connection = redis.Redis(unix_socket_path=socket, retry=Attempts(NoBackoff(), 0))
        self._load = load
        self._seconds = seconds
        self._stopped = threading.Event()
        self.taken: list[Order] = []
        """What Redis has acknowledged, or was seen to have."""

    def run(self) -> None:
        began = time.monotonic()
        for number, order in enumerate(self._load):
            pause(began + self._seconds * number / len(self._load) - time.monotonic())
            if not self._enqueue(order):
                break
            self.taken.append(order)
        self._connection.close()

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def _enqueue(self, order: Order) -> bool:
        """Until Redis has it; False when we are told to stop before."""
        again = False
        while not self._stopped.is_set():
            try:
                if not (again and self._connection.exists(Job.key_for(order.job_id))):
                    self._send(order)
                return True
            except DuplicateJobError:
                return True
            except (redis.RedisError, OSError):
                again = True
                pause(0.02)
        return False

    def _send(self, order: Order) -> None:
        Queue(order.queue, connection=self._connection).enqueue_call(
            order.function,
            order.arguments,
            job_id=order.job_id,
            retry=Retry(max=order.retries) if order.retries else None,
            repeat=Repeat(times=order.repeats) if order.repeats else None,
            depends_on=_dependency(order),
            result_ttl=0 if order.expires else _KEEP,
            on_success=Callback(note_success) if order.callbacks else None,
            on_failure=Callback(note_failure) if order.callbacks else None,
            unique=not order.parents,
        )
