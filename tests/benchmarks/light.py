"""An application that is imported at once, and its jobs: each kind that the figures are of."""

from __future__ import annotations

import os
import time

from rq import Callback, Queue, Repeat, Retry
from rq.queue import EnqueueData


def nothing() -> None:
    """A job that does nothing."""


def take(data: str) -> None:
    """A job with an argument of any size."""


def fail() -> None:
    raise ValueError("this job fails")


def succeeded(job: object, connection: object, result: object) -> None:
    """A callback that does nothing."""


def tell_lateness(began: float, path: str) -> None:
    """Append to a file how many seconds ago the job was pushed; began: of time.monotonic()."""
    late = time.monotonic() - began
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, b"%f\n" % late)
    os.close(file)


def plain() -> EnqueueData:
    return Queue.prepare_data(nothing)


def failure() -> EnqueueData:
    return Queue.prepare_data(fail)


def retry() -> EnqueueData:
    return Queue.prepare_data(fail, retry=Retry(max=1))


def retry_later() -> EnqueueData:
    return Queue.prepare_data(fail, retry=Retry(max=1, interval=1000))


def repeat() -> EnqueueData:
    return Queue.prepare_data(nothing, repeat=Repeat(times=1, interval=0))


def callback() -> EnqueueData:
    return Queue.prepare_data(nothing, on_success=Callback(succeeded))
