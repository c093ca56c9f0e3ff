"""`/status.json`: what the page shows, as plain JSON. No arguments and no descriptions of jobs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from resqued import Arbiter, Worker, WorkerState, __version__
from resqued_plugins.http.counts import Counts
from resqued_plugins.http.history import History, totals

SHOWN: Final = 200
"""Workers, and queues, that are listed."""

EVENTS: Final = 30


def status(arbiter: Arbiter, counts: Counts, history: History) -> dict[str, Any]:
    """As it is now. Ages are in seconds, times in seconds since the epoch."""
    now, workers = time.monotonic(), arbiter.workers
    redis = arbiter.redis
    others = [worker for worker in workers if worker.state is not WorkerState.IDLE]
    queues = sorted(
        arbiter.queues.values(), key=lambda queue: (-queue.waiting, -queue.busy, queue.name)
    )
    return {
        "version": __version__,
        "time": time.time(),
        "pid": arbiter.pid,
        "state": arbiter.state,
        "generation": arbiter.generation,
        "wished": arbiter.wished,
        "redis": None if redis is None else {**vars(redis), "since": now - redis.since},
        "loop_delay": arbiter.loop.delay,
        "loop_turned": now - arbiter.loop.turned,
        "workers": Counter(worker.state.value for worker in workers),
        "idle": ranges(each.number for each in workers if each.state is WorkerState.IDLE),
        "listed": [_worker(worker, now) for worker in others[:SHOWN]],
        "unlisted": max(0, len(others) - SHOWN),
        "jobs": totals(counts.get(1.0)),
        "queues": [vars(queue) for queue in queues[:SHOWN]],
        "queues_unlisted": max(0, len(queues) - SHOWN),
        "events": history.marks()[-EVENTS:],
    }


def _worker(worker: Worker, now: float) -> dict[str, Any]:
    started, began = worker.started_at, worker.job_started
    return {
        "number": worker.number,
        "pid": worker.pid,
        "generation": worker.generation,
        "state": worker.state.value,
        "age": None if started is None else now - started,
        "function": worker.function,
        "job": worker.job_id,
        "queue": worker.queue,
        "seconds": None if began is None else now - began,
        "timeout": worker.timeout,
        "jobs": worker.jobs,
        "failed": worker.failed,
        "memory": worker.memory,
    }


def ranges(numbers: Iterable[int]) -> str:
    """`1-3, 7`. numbers: in order."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
