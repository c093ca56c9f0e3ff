"""The callback of a job that was stopped: called once, whatever it does to its process.

That it has begun stands in Redis, in the hash of the execution, which the outcome deletes: who
comes after a process that died in the callback (a recovery, after it another one, the next start)
does not begin it again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final

from rq.executions import Execution
from rq.job import Job

from resqued.broker.retry import RetryPolicy
from resqued.broker.script import read_script
from resqued.logs import logger

_BEGUN: Final = "stopped_callback"
"""Field of an execution's hash: which call has begun the callback."""

_BEGIN: Final = read_script("begin_callback")


def call_once(
    job: Job, execution: Execution, retry: RetryPolicy, run: Callable[[Job], None]
) -> None:
    """Have `run` call the stopped callback of a job, if it has one and nobody has begun it. Waits
    until Redis has answered. Raises what `run` does."""
    if not job._stopped_callback_name:
        return
    call = Call(job.connection, execution)
    if not retry.until_answered(call.is_ours):
        logger.warning(f"stopped callback of job={job.id} not called again: it had begun")
        return
    retry.allow(max(0.0, job.stopped_callback_timeout))
    run(job)
    retry.turn()


class Call:
    """One attempt to be the one that calls it."""

    def __init__(self, connection: Any, execution: Execution) -> None:
        self._begin = connection.register_script(_BEGIN)
        self._key = execution.key
        self._call = f"{os.getpid()} {time.time_ns()}"

    def is_ours(self) -> bool:
        """Whether nobody else has begun it; from here on nobody else will. May be asked again.

        Raises redis errors.
        """
        return bool(self._begin(keys=[self._key], args=[_BEGUN, self._call]))
