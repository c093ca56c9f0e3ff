"""Telling error trackers of jobs that have failed without raising anything.

Trackers hang on to `rq.Worker.handle_exception` (Sentry replaces it). RQ calls it with what a job
raises; a job whose process was killed raises nothing, and they would never hear of it.
"""

from __future__ import annotations

import logging
from typing import Final

from rq.job import Job
from rq.worker import BaseWorker

from resqued.logs import logger
from resqued.worker.job.function import function_of

_SILENT: Final = logging.getLogger("resqued.silent")
_SILENT.disabled = True


class JobKilled(Exception):
    """What a tracker is shown of a job that was killed. Nobody raises it."""


def tell_trackers(worker: BaseWorker, job: Job, reason: str) -> None:
    """Show them a job that has just been recorded as failed, once. Never raises.

    Runs in the worker, or in the recovery of one that has died. The user's exception handlers
    are not called: RQ does not call them for a job that was killed. reason: the job's failure.
    """
    handlers, log = worker._exc_handlers, worker.log
    worker._exc_handlers, worker.log = [], _SILENT  # RQ would log a traceback that there is not
    try:
        text = f"{function_of(job)}: {' '.join(reason.split())}"
        worker.handle_exception(job, JobKilled, JobKilled(text), None)
    except Exception as error:
        logger.warning(f"job={job.id} not shown to error trackers: {type(error).__name__}: {error}")
    finally:
        worker._exc_handlers, worker.log = handlers, log
