"""An RQ worker whose executions end once: each transaction of an outcome watches its execution."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from redis.client import Pipeline
from redis.exceptions import WatchError
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue
from rq.worker import BaseWorker

from resqued.broker.connection import NO_ANSWER, Outage, until_answered
from resqued.broker.fencing import Gone, Refused, counted, drop, execute_or_refuse, requeue, watch
from resqued.broker.oddities import is_of_the_data
from resqued.broker.owner import leave
from resqued.broker.pipeline import StepPipeline
from resqued.broker.repetition import redo_what_is_refused

if TYPE_CHECKING:
    from resqued.worker.fast_path import FastPath

T = TypeVar("T")


class Guarding(BaseWorker):
    """An RQ worker whose executions end once."""

    _resqued_fast: FastPath | None = None
    """One script a job, where that can be."""

    def _resqued_turn(self) -> None:
        """Called while Redis does not answer: alive, and not stuck."""

    def _resqued_allow(self, seconds: float) -> None:
        """Called before user code that may take so long: it is no reason to be stuck."""

    def _resqued_outage(self) -> Outage:
        """What to do while Redis does not answer."""
        raise NotImplementedError

    def _resqued_until_answered(self, call: Callable[[], T]) -> T:
        return until_answered(call, self._resqued_outage(), self._resqued_turn)

    def _resqued_guard(self, pipeline: Pipeline, execution: Execution) -> None:
        """Have a pipeline that is not in its transaction yet watch the execution, which must exist.

        Raises Gone.
        """
        if not watch(pipeline, execution):
            raise Gone

    def cleanup_execution(
        self, job: Job, pipeline: Pipeline, execution: Execution | None = None
    ) -> None:
        """RQ calls this in every transaction that ends a job."""
        if execution is not None and not pipeline.explicit_transaction:
            self._resqued_guard(pipeline, execution)
            # What stands in the pipeline already, and what comes, is the transaction.
            pipeline.explicit_transaction = True
        if execution is not None:
            leave(pipeline, execution)
        super().cleanup_execution(job, pipeline, execution)
        if not isinstance(pipeline, StepPipeline):  # a step's script looks at the types first
            redo_what_is_refused(pipeline, self.connection)
            if self._resqued_fast is not None:
                self._resqued_fast.hand.free(pipeline)
        pipeline.execute = partial(execute_or_refuse, pipeline.execute)  # type: ignore[method-assign]

    def _resqued_put_back(
        self, job: Job, queue: Queue, execution: Execution, counter: str | None, limit: int
    ) -> bool:
        """To the front of its queue, as if it had not been taken.

        counter: field of the job's hash that counts this, INTERRUPTIONS or DEATHS; None: the job
        had not begun. limit: how often; False when it is reached, and nothing is done.
        """
        outage = self._resqued_outage()
        while True:
            try:
                done = self._resqued_put_back_once(job, queue, execution, counter, limit)
                outage.over()
                return done
            except Gone:
                self._resqued_until_answered(lambda: drop(self.connection, job, execution))
                return True
            except Refused as refused:
                error = refused.error
                if not isinstance(error, NO_ANSWER) or is_of_the_data(error):
                    raise error from None
                if not isinstance(refused.error, WatchError):
                    outage.wait(refused.error)
            except NO_ANSWER as error:
                if is_of_the_data(error):
                    raise
                outage.wait(error)
            self._resqued_turn()

    def _resqued_put_back_once(
        self, job: Job, queue: Queue, execution: Execution, counter: str | None, limit: int
    ) -> bool:
        with self.connection.pipeline() as pipeline:
            self._resqued_guard(pipeline, execution)
            times = counted(pipeline.hget(job.key, counter)) if counter else 0
            if counter and times >= limit:
                return False
            there = pipeline.exists(job.key)  # somebody may have deleted it meanwhile
            pipeline.multi()
            self.cleanup_execution(job, pipeline, execution)
            if there:
                requeue(job, queue, pipeline)
                if counter:
                    pipeline.hset(job.key, counter, str(times + 1))
            pipeline.execute()
        return True
