"""Put a started job back to the front of its queue, as if it had not been taken."""

from __future__ import annotations

from typing import Any

from redis.exceptions import WatchError
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue

from resqued import logs
from resqued.broker.bad_data import is_data_error
from resqued.broker.fencing import (
    INTERRUPTIONS,
    Gone,
    OutcomeRefused,
    delete_execution,
    exists,
    read_counter,
    requeue,
    watch_execution,
)
from resqued.broker.outages import NO_ANSWER, RetryPolicy, is_outage
from resqued.broker.queues import Queues
from resqued.logs import LogEvent


class PutBack:
    """Puts back the job of one execution. worker: RQ's, whose `cleanup_execution` is called."""

    def __init__(self, worker: Any, retry: RetryPolicy, job: Job, execution: Execution) -> None:
        self._worker = worker
        self._retry = retry
        self._job = job
        self._execution = execution

    def run(self, queue: Queue, counter: str | None, limit: int) -> bool:
        """Put the job back; waits until Redis has done it. Raises redis errors due to the job's
        data.

        counter: field of the job's hash that counts this, INTERRUPTIONS or DEATHS; None: the job
        had not begun. limit: how often it may be put back; False when that is reached, and nothing
        is done.
        """
        outage = self._retry.outage()
        while True:
            try:
                done = self._once(queue, counter, limit)
                outage.over()
                return done
            except Gone:
                self._retry.until_answered(
                    lambda: delete_execution(self._worker.connection, self._job, self._execution)
                )
                return True
            except OutcomeRefused as refused:
                error = refused.error
                if not isinstance(error, NO_ANSWER) or is_data_error(error):
                    raise error from None
                if not isinstance(error, WatchError):
                    outage.wait(error)
            except NO_ANSWER as error:
                if is_data_error(error):
                    raise
                outage.wait(error)
            self._retry.turn()

    def _once(self, queue: Queue, counter: str | None, limit: int) -> bool:
        job, execution = self._job, self._execution
        with self._worker.connection.pipeline() as pipeline:
            watch_execution(pipeline, execution)
            times = read_counter(pipeline.hget(job.key, counter)) if counter else 0
            if counter and times >= limit:
                return False
            there = pipeline.exists(job.key)  # it may have been deleted meanwhile
            pipeline.multi()
            self._worker.cleanup_execution(job, pipeline, execution)
            if there:
                requeue(job, queue, pipeline)
                if counter:
                    pipeline.hset(job.key, counter, str(times + 1))
            pipeline.execute()
        return True


def put_back_stray(
    worker: Any, retry: RetryPolicy, job_id: str, execution_id: str, queues: Queues, limit: int
) -> None:
    """Put back a job that Redis, restored to an older state, says this worker runs, and that it
    does not. It counts as interrupted. Raises redis errors."""
    execution = Execution(execution_id, job_id, worker.connection, worker.name)
    try:
        job = worker.job_class.fetch(job_id, worker.connection, worker.serializer)
        execution._job = job
        if not exists(worker.connection, job, execution):
            delete_execution(worker.connection, job, execution)
            return
        queue = queues.make(job.origin)
        done = PutBack(worker, retry, job, execution).run(queue, INTERRUPTIONS, limit)
    except Exception as error:
        if is_outage(error):
            raise
        done = False
    if done:
        logs.warning(
            f"put back job={job_id}: redis says that this worker runs it, which it does not",
            LogEvent.JOB_PUT_BACK,
            job=job_id,
        )
