"""Run a job inside the `perform_job` wrappers of plugins, which cannot swallow its early end.

What a job raises is a wrapper's to take. But a cut or the timeout ends the job whatever a wrapper
makes of it, also if it was raised in the wrapper's own code. A job that catches its timeout itself
is another matter: as in RQ, that is its right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rq.job import Job

from resqued import logs
from resqued.logs import LogEvent
from resqued.worker.job.interruptions import DeathPenalty, Interrupted, has_timed_out

if TYPE_CHECKING:
    from resqued.worker.slot import WorkerSlot


def run_wrapped(slot: WorkerSlot, job: Job, perform: Callable[[], Any]) -> Any:
    """What the outermost wrapper returns. Raises what it raises; the early end of the job, if the
    wrappers have swallowed that. Runs in the job's process, inside its timeout. perform: the job
    itself."""
    ended: list[BaseException] = []
    timeouts: list[BaseException] = []

    def run() -> Any:
        if slot.signals.cut is not None:  # raised in a wrapper, which went on
            raise slot.signals.cut
        if timeouts:
            raise timeouts[0]
        try:
            value = perform()
        except BaseException as error:
            if isinstance(error, Interrupted) or has_timed_out(error):
                ended.append(error)
            raise
        timeouts.clear()  # the job has caught it
        return value

    DeathPenalty.raised = timeouts
    try:
        value = slot.hooks.perform(run, worker=slot.snapshot(), job=job)
    finally:
        DeathPenalty.raised = None
    ended += timeouts  # in a wrapper, after the job
    if ended:
        kind = type(ended[0]).__name__
        logs.info(
            f"job={job.id}: a perform_job wrapper swallowed {kind}: it counts all the same",
            LogEvent.JOB_NOTICE,
            job=job.id,
        )
        raise ended[0]
    return value
