"""The dead worker of a recovery: what is known of it, and what the recovery has found so far."""

from __future__ import annotations

import enum
from typing import Any

from redis.client import Pipeline
from rq.executions import Execution
from rq.job import Job
from rq.worker import BaseWorker, Worker

from resqued import linux, logs
from resqued.broker.hand import HANDS
from resqued.broker.outages import NO_ANSWER
from resqued.broker.outcome_writer import OutcomeWriter
from resqued.broker.owner import Owner
from resqued.broker.queues import REST
from resqued.broker.story import StoryEvent
from resqued.config import Config
from resqued.death import OUT_OF_MEMORY, Death, how_it_ended
from resqued.logs import LogEvent
from resqued.scoreboard import StopCause
from resqued.worker.classes import lookup
from resqued.worker.job.story_events import STOPS
from resqued.worker.recovery.bounded_retry import BoundedRetry
from resqued.worker.rq_worker import Fenced, RecoveryWorker


class RecoveryVerdict(enum.StrEnum):
    """What the recovery did with the job; sent to the arbiter by its value."""

    NOTHING = "nothing"  # the worker had no job
    CLEAN = "clean"  # its outcome had been written
    REQUEUED = "requeued"  # at the front of its queue again
    RETRIED = "retried"  # as RQ does with a killed horse
    FAILED = "failed"
    UNANSWERED = "unanswered"
    """Redis has not answered, or refused writes, for so long: another recovery has to try."""


class Case:
    """One dead worker. Takes the place of WorkerParts for RQ's code. The worker object has the dead
    worker's class, so that its overrides are called here too (`rq_worker.RecoveryWorker`). Raises
    ConfigError."""

    def __init__(self, config: Config, death: Death, connection: Any) -> None:
        self.config = config
        self.death = death
        self.verdict = RecoveryVerdict.NOTHING
        self.retry = BoundedRetry(config)
        queues = [name for name in death.queues if name != REST]
        arguments = lookup.worker_arguments(config, death.record.name, connection)
        self.worker: Any = make_recovery_worker(
            lookup.worker_class(config), self, queues, arguments
        )
        self.writer = OutcomeWriter(self.worker, self.retry, self._let_go)

    @property
    def runner(self) -> Case:
        """For `Fenced`, which asks it for the writer."""
        return self

    @property
    def lives(self) -> bool:
        """Whether the worker still lives: only Redis, restored to an older state, says that it
        holds a job that it no longer has. What it has taken since is its own."""
        owner = Owner.parse(self.death.owner)
        return owner.machine == linux.machine() and owner.life is linux.Life.ALIVE

    def tell(self, execution: Execution, what: str, cause: str = "", left: int = -1) -> None:
        """Add this to the job's story with what ends its execution next. cause: none means how the
        worker ended."""
        self.writer.tell(execution.id, self.event(what, cause, left))

    def event(self, what: str, cause: str = "", left: int = -1) -> StoryEvent:
        """For the story of a job that the worker had. left: retries."""
        death, record = self.death, self.death.record
        return StoryEvent(
            what,
            cause or how_it_left(death),
            host=linux.host_name() if self._was_here else "",
            worker=record.name,
            number=death.slot,
            generation=record.generation,
            memory=int(death.rusage.get("maxrss", 0)) if OUT_OF_MEMORY in death.reason else 0,
            left=left,
        )

    @property
    def _was_here(self) -> bool:
        """Whether the worker was one of this machine."""
        owner = self.death.owner
        return not owner or Owner.parse(owner).machine == linux.machine()

    def _let_go(self, job: Job, pipeline: Pipeline) -> None:
        """Add to the transaction of an outcome: delete the worker's hand."""
        if not self.lives:
            pipeline.hdel(HANDS, self.death.owner)


def how_it_left(death: Death) -> str:
    """Why the worker does not have its job any more."""
    if death.interrupted and death.cause:
        return STOPS[StopCause[death.cause.upper()]]
    told = death.reason.removeprefix(f"worker {death.record.name} ")
    if told != death.reason:  # by a steward, of a worker that is not its arbiter's
        return f"its worker {told.partition('; it held job=')[0]}"
    return death.reason or f"its worker died ({how_it_ended(death.status)})"


def make_recovery_worker(
    theirs: type[BaseWorker], parts: Any, queues: list[str], arguments: dict[str, Any]
) -> BaseWorker:
    """A worker object of the dead worker's class, so that its overrides are called; of RQ's class
    if the user's cannot be created. parts: in place of WorkerParts. Raises redis errors."""
    for cls in (theirs, Worker):
        bases = (RecoveryWorker, cls) if issubclass(cls, Fenced) else (RecoveryWorker, Fenced, cls)
        made: Any = type("RecoveryWorker", bases, {"__module__": cls.__module__})
        recovery_worker: BaseWorker = made.__new__(made)
        vars(recovery_worker)["_resqued"] = parts
        try:
            made.__init__(recovery_worker, queues, **arguments)
        except Exception as error:
            if cls is Worker or isinstance(error, NO_ANSWER):
                raise
            name = f"{cls.__module__}.{cls.__qualname__}"
            logs.exception(
                f"recovering without {name!r}, which cannot be created", LogEvent.WORKER_NOTICE
            )
            continue
        recovery_worker.death_penalty_class = theirs.death_penalty_class
        break
    return recovery_worker
